"""One page per night: HTML that stands alone, without script, font or address."""

from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from tasks.places import Place
from tasks.report import readings
from tasks.report.questions import Row, answers
from tasks.report.sketches import sketches
from tasks.report.words import FILTERS
from tasks.scratch import replacing


def render_night(con: duckdb.DuckDBPyConnection, ds: date) -> str:
    """The page of one night, from the views; what is not there yet is said in words."""
    rows = answers(con, ds)
    return _template().render(
        ds=ds,
        rows=rows,
        night=_first(rows["night"]),
        backfill=_first(rows["backfill"]),
        served=_first(rows["served"]),
        release=_first(rows["release"]),
        checks=_by_table(rows["checks"]),
        failures=_failures(rows["checks"]),
        longest=max((row["seconds"] for row in rows["stages"]), default=0),
        gini={row["kind"]: row["gini"] for row in rows["concentration"]},
        estimators=_estimators(rows["propensities"]),
        readings=readings,
        pictures=sketches(rows),
    )


def write_night(con: duckdb.DuckDBPyConnection, ds: date, folder: Place) -> Place:
    """Write `folder/<ds>.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{ds}.html"
    with replacing(target) as beside:
        beside.write_text(render_night(con, ds), encoding="utf-8")
    return target


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template("night.html.jinja")


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _by_table(checks: list[Row]) -> dict[str, list[Row]]:
    """The checks per table, tables with a failed one first."""
    tables: dict[str, list[Row]] = {}
    for row in checks:
        tables.setdefault(row["table_name"], []).append(row)
    return tables


def _failures(checks: list[Row]) -> Counter[str]:
    return Counter(row["severity"] for row in checks if not row["is_passed"])


def _estimators(propensities: list[Row]) -> dict[str, dict[str, Any]]:
    """How many items each estimator estimated, and clipped."""
    found: dict[str, dict[str, Any]] = {}
    for row in propensities:
        total = found.setdefault(row["estimator"], {"n_items": 0, "n_clipped": 0})
        total["n_items"] += row["n_items"]
        total["n_clipped"] += row["n_clipped"]
    return found
