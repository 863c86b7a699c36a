"""Values as SQL text. Views cannot hold parameters, so every `$name` is written out, typed."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from tasks.errors import UsageError

Scalar = str | int | float | bool | date | datetime | timedelta | None
Value = Scalar | Sequence[str] | Sequence[date]

_PARAMETER = re.compile(r"\$([a-z_]+)")


def literal(value: Value) -> str:
    """One value as DuckDB text, quoted and typed.

    >>> literal("it's"), literal(date(2026, 1, 5)), literal([date(2026, 1, 5)])
    ("'it''s'", "DATE '2026-01-05'", "[DATE '2026-01-05']")
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"{value!r}::DOUBLE"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime():
            return f"TIMESTAMPTZ '{value.isoformat()}'"
        case timedelta():
            return f"INTERVAL '{value.days} days'"  # whole days are all that our windows have
        case date():
            return f"DATE '{value.isoformat()}'"
        case _:
            return "[" + ", ".join(map(literal, value)) + "]"


def identifier(name: str) -> str:
    """A column or table name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def render(sql: str, parameters: Mapping[str, Value]) -> str:
    """Write every `$name` out; a name without a value raises UsageError."""

    def written_out(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in parameters:
            raise UsageError(
                f"SQL asks for ${name}, which has no value",
                where=sql.strip().splitlines()[0],
                unchanged="nothing was written",
                fix=f"give one of {', '.join(sorted(parameters))}, or add the parameter",
            )
        return literal(parameters[name])

    return _PARAMETER.sub(written_out, sql)
