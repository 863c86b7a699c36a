"""What must hold: one JSON file per table, read as a list of checks.

A file is a list in the order in which the checks are reported; each entry says `what` must hold,
the Great Expectations `type`, a `severity`, and that type's own arguments. SQL may be a list of
lines. It names the views of the night's database and selects the rows that break the rule. A
query about the whole table selects one row when the rule is broken: `n_unexpected` (rows) and
`observed` (a text made of counts, never of raw values).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import expectations
from tasks.errors import SettingsError
from tasks.records import Severity

FOLDER = Path(expectations.__file__).parent / "suites"
SQL = "unexpected_rows_query"


@dataclass(frozen=True)
class Check:
    """One expectation of a suite; `check_id` is its place in the file, the first is 1."""

    check_id: int
    what: str
    type: str
    severity: Severity
    arguments: Mapping[str, Any]


def suite_names() -> list[str]:
    """The tables that have a suite."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_suite(table: str) -> tuple[Check, ...]:
    """The checks of one table; raises SettingsError where the file is absent or malformed."""
    path = FOLDER / f"{table}.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_check(place, entry) for place, entry in enumerate(entries, 1))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"cannot read the suite of {table}: {error}",
            where=str(path),
            unchanged="nothing was checked",
            fix="give a list of entries, each with what, type and severity",
        ) from error


def _check(place: int, entry: dict[str, Any]) -> Check:
    arguments = dict(entry)
    what, type_, severity = (str(arguments.pop(key)) for key in ("what", "type", "severity"))
    if severity not in get_args(Severity):
        raise ValueError(f"entry {place} has the unknown severity {severity!r}")
    if isinstance(arguments.get(SQL), list):
        arguments[SQL] = "\n".join(arguments[SQL])
    return Check(place, what, type_, severity, arguments)  # type: ignore[arg-type]
