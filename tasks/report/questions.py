"""What the page asks the warehouse: one query per section, none of them names a user."""

from datetime import date
from typing import Any

import duckdb

import sql

Row = dict[str, Any]

NAMES = (
    "night",
    "backfill",
    "served",
    "stages",
    "checks",
    "files",
    "quarantine",
    "drift",
    "traffic",
    "behaviours",
    "concentration",
    "propensities",
    "estimators",
    "examination",
    "metrics",
    "policies",
    "diagnostics",
    "verdicts",
    "comparisons",
    "release",
    "sources",
    "shortfalls",
    "top_items",
    "causes",
)


def answers(con: duckdb.DuckDBPyConnection, ds: date) -> dict[str, list[Row]]:
    """The rows of every query about one night; no row where a table is not there yet."""
    return {name: _ask(con, sql.read(f"queries/report_{name}"), ds) for name in NAMES}


def _ask(con: duckdb.DuckDBPyConnection, query: str, ds: date) -> list[Row]:
    try:
        found = con.execute(query, {"ds": ds} if "$ds" in query else None)
    except duckdb.CatalogException:
        return []
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]
