"""Small worlds for SQL: rows given as JSON become tables typed by the catalogue, and are read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

from expectations.catalogue import LAYERS, catalogue
from tasks.ingest.parse import landed_columns
from tasks.lake.connection import connect
from tasks.lake.literals import Value, render

Row = Mapping[str, Any]
Types = dict[str, str]

_DELIVERY = {
    "filename": "VARCHAR",
    "path": "VARCHAR",
    "file_id": "VARCHAR",
    "arrived_at": "TIMESTAMPTZ",
    "snapshot_ds": "DATE",
    "delivered": "DATE",
}
_ESTIMATED = {
    "impression_id": "VARCHAR",
    "request_id": "VARCHAR",
    "user_id": "VARCHAR",
    "item_id": "VARCHAR",
    "position": "INTEGER",
    "policy": "VARCHAR",
    "p_logged": "DOUBLE",
    "estimate": "DOUBLE",
    "estimator": "VARCHAR",
    "ds": "DATE",
}
_POSITIVES = {"behaviour": "VARCHAR", "weight": "DOUBLE"}


def catalogue_name(file_name: str) -> str:
    """The table that a SELECT makes: two of them, *_derived, make a table of another name."""
    return file_name.removesuffix("_derived")


def types_of(name: str, dataset: str = "events") -> Types:
    """Columns and types of a table, or of what ingest gives the clean layer."""
    if name == "landed":
        return landed_columns(dataset)
    if name == "delivery":
        return _DELIVERY
    if name == "settings.positives":
        return _POSITIVES
    if name == "estimated.impressions":
        return _ESTIMATED
    return {column.name: column.type for column in catalogue()[name].columns}


@contextmanager
def empty_world() -> Iterator[Any]:
    """A connection with every layer, and no table yet."""
    with connect() as con:
        con.execute("SET threads = 1")
        for schema in (*LAYERS, "settings", "estimated"):
            con.execute(f"CREATE SCHEMA {schema}")
        yield con


def fill(con: Any, given: Mapping[str, Sequence[Row]], ds: str, dataset: str = "events") -> None:
    """Make the given tables; columns that a row does not name get defaults."""
    for name, rows in given.items():
        make_table(con, name, types_of(name, dataset), filled(name, rows, ds))


def make_table(con: Any, name: str, types: Types, rows: Sequence[Row]) -> None:
    """A table of these columns and rows."""
    strangers = {column for row in rows for column in row} - set(types)
    assert not strangers, f"{name} has no column {strangers}"
    values = ", ".join(f"{_value(column, kind)} AS {column}" for column, kind in types.items())
    con.execute(
        f"CREATE OR REPLACE TABLE {name} AS "
        f"SELECT {values} FROM (SELECT unnest(CAST(? AS JSON[])) AS j)",
        [json.dumps(rows)],
    )


def _value(column: str, kind: str) -> str:
    is_nested = kind.endswith(("[]", ")"))
    return f"CAST(j{'->' if is_nested else '->>'}'{column}' AS {kind})"


def filled(name: str, rows: Sequence[Row], ds: str) -> list[Row]:
    """Rows with what they leave out: nothing where the catalogue allows it, else a plain value."""
    if name == "landed":
        return [{"ds": str(row.get("occurred_at", ds))[:10], **row} for row in rows]
    if name not in catalogue():
        return list(rows)
    required = [column for column in catalogue()[name].columns if column.required]
    days = [row.get("ds", ds) for row in rows]
    return [
        {**{c.name: _default(c.name, c.type, day) for c in required}, **row}
        for row, day in zip(rows, days, strict=True)
    ]


def _default(name: str, kind: str, ds: str) -> Any:
    plain = {
        "VARCHAR": name,
        "DATE": ds,
        "TIMESTAMPTZ": f"{ds} 12:00:00+00",
        "BIGINT": 1,
        "INTEGER": 1,
        "DOUBLE": 1.0,
        "BOOLEAN": True,
    }
    return plain.get(kind)


def parameters(given: Row) -> dict[str, Value]:
    """Parameters of a SELECT; texts that are dates become dates, {"days": 2} a span of time."""
    return {name: _as_value(value) for name, value in given.items()}


def _as_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_value(each) for each in value]
    if isinstance(value, dict):
        return timedelta(**value)
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return value


def run(con: Any, text: str, params: Row) -> Any:
    """The rows of a SELECT, as a relation."""
    return con.sql(render(text, parameters(params)))
