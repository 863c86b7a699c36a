"""Run one SQL file: increments for the days whose inputs changed, snapshots for the night.

Where SQL is not enough, an increment passes through a Python step, one day at a time: the step sees
the tables up to that day and no further, so that a day is the same whenever it is made.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

import sql
from expectations.catalogue import Table, catalogue
from tasks.lake.literals import literal, render
from tasks.lake.session import Session
from tasks.lake.tables import Pinned, fingerprint
from tasks.records import TableVersion
from tasks.shop import Parameters


class Step(Protocol):
    """What makes the rows of one day of an increment table, where SQL alone cannot."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables that it reads."""

    @property
    def recipe(self) -> str:
        """Changes with all that decides the rows, but the data."""

    def rows(self, s: Session, day: date) -> Any:
        """The rows of that day as Arrow batches; the session shows nothing dated after it."""


Change = Literal["never built", "inputs changed", "recipe changed", "inputs are gone"]


@dataclass(frozen=True)
class StaleDay:
    """A day of an increment table that is not what would be made of it now."""

    day: date
    change: Change
    built_at: datetime | None  # null: never


class _Build(NamedTuple):
    inputs: str
    recipe: str
    built_at: datetime


def build_snapshot(
    s: Session, name: str, params: Parameters, *, select: str | None = None
) -> TableVersion:
    """Replace the night's partition of a snapshot table by its SELECT.

    It reads nothing dated after the night, but the first catalogue there is where all are later.
    """
    text = render(select or sql.read_table(name), params)
    ds = params["ds"]
    catalogue_ds = params.get("catalogue_ds", ds)
    assert isinstance(ds, date)
    assert isinstance(catalogue_ds, date)

    def made(_: Pinned) -> Any:
        for source in catalogue()[name].reads:
            if source in catalogue():
                upto = max(ds, catalogue_ds) if source == "clean.items" else ds
                s.read(source, upto=upto, newest=True)
        return s.stream(text)

    return s.lake.rewrite(name, {"ds": ds}, made)


def build_increments(
    s: Session, name: str, params: Parameters, step: Step | None = None
) -> TableVersion:
    """Replace the partitions of an increment table whose inputs changed since their last build."""
    found, wanted, recipe = _plan(s, name, params, step, newest=True)
    stale = [each.day for each in found]
    if not stale:
        return TableVersion(name, s.lake.pin(name).version, 0, 0)
    if step is None:
        stream_params = {**params, "days": stale}
        version = s.lake.rewrite(
            name, {"ds": stale}, lambda _: s.stream(sql.read_table(name), stream_params)
        )
    else:
        select = _made_by(s, step, stale, params)
        version = s.lake.rewrite(name, {"ds": stale}, lambda _: s.stream(select))
    _note_builds(s, version, {day: wanted.get(day) for day in stale}, recipe)
    return version


def _made_by(s: Session, step: Step, days: Sequence[date], params: Parameters) -> str:
    """Make each day, keep its rows in a file beside, and give the SELECT of all of them.

    So a step that fails on one day leaves every day as it was, and its error is its own: one
    that is not ours, raised while a table is written, would be an error of storage.
    """
    window = params["window"]
    assert isinstance(window, timedelta)
    files = []
    for day in days:
        for source in step.reads:
            s.read(source, since=day - window, upto=day)
        files.append(_spooled(step.rows(s, day), s.spill / f"made-{day}.parquet"))
    return f"SELECT * FROM read_parquet({literal([str(path) for path in files])})"


def _spooled(rows: Any, path: Path) -> Path:
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for batch in rows:
            writer.write_batch(batch)
    return path


def stale_days(
    s: Session, name: str, params: Parameters, step: Step | None = None
) -> list[StaleDay]:
    """The days of an increment table that no longer match their inputs, and what changed."""
    return _plan(s, name, params, step, newest=False)[0]


def _plan(
    s: Session, name: str, params: Parameters, step: Step | None, *, newest: bool
) -> tuple[list[StaleDay], dict[date, str], str]:
    """The stale days of an increment table, what each day is to be made from, and the recipe."""
    table = catalogue()[name]
    ds = params["ds"]
    assert isinstance(ds, date)
    reads = table.reads if step is None else step.reads
    inputs = [s.read(source, upto=ds, newest=newest) for source in reads]
    wanted, recipe = _inputs_by_day(table, inputs, ds, params), _recipe(name, params, step)
    there = s.lake.pin(name).days()
    return _stale(_built(s, name, there), wanted, recipe, ds), wanted, recipe


def _stale(
    built: Mapping[date, _Build], wanted: Mapping[date, str], recipe: str, ds: date
) -> list[StaleDay]:
    """Days whose inputs or recipe changed since they were built, or whose inputs are gone."""
    found = []
    for day in sorted({*wanted, *(day for day in built if day <= ds)}):
        change = _change(built.get(day), wanted.get(day), recipe)
        if change is not None:
            found.append(StaleDay(day, change, built[day].built_at if day in built else None))
    return found


def _change(build: _Build | None, inputs: str | None, recipe: str) -> Change | None:
    if build is None:
        return "never built"
    if inputs is None:
        return "inputs are gone"
    if build.inputs != inputs:
        return "inputs changed"
    return None if build.recipe == recipe else "recipe changed"


def _inputs_by_day(
    table: Table, inputs: Sequence[Pinned], ds: date, params: Parameters
) -> dict[date, str]:
    """For every day up to `ds` that any input has, a hash of the files its rows come from."""
    days = [pinned.inputs() for pinned in inputs]
    by_day = {
        day: fingerprint([path for each in days for path in each.get(day, [])])
        for day in sorted({day for each in days for day in each})
        if day <= ds
    }
    if table.lookback == "day":
        return by_day
    window = params["window"]
    assert isinstance(window, timedelta)
    return {
        day: fingerprint([hash_ for other, hash_ in by_day.items() if day - window <= other <= day])
        for day in by_day
    }


def _recipe(name: str, params: Parameters, step: Step | None) -> str:
    """A hash of the SQL and of the parameters that it asks for, and of the step's own recipe.

    The night's date is none of it.
    """
    text = render(sql.read_table(name), {**params, "days": [], "ds": date.min})
    return fingerprint([text] if step is None else [text, step.recipe])


def _built(s: Session, name: str, there: Collection[date]) -> dict[date, _Build]:
    """What each day was made from; days whose rows are lost are as if never built."""
    rows = s.lake.rows(s.lake.pin("ops.builds"), {"table_name": name}).to_pylist()
    return {
        row["ds"]: _Build(row["inputs"], row["recipe"], row["built_at"])
        for row in rows
        if row["ds"] in there or not row["has_rows"]
    }


def _note_builds(
    s: Session, version: TableVersion, days: Mapping[date, str | None], recipe: str
) -> None:
    """Keep what each day was built from; a day without inputs is no longer a build."""
    now, there = datetime.now(UTC), s.lake.pin(version.table).days()
    new = [
        {
            "ds": day,
            "inputs": inputs,
            "recipe": recipe,
            "table_version": version.version,
            "has_rows": day in there,
            "built_at": now,
            "table_name": version.table,
        }
        for day, inputs in days.items()
        if inputs is not None
    ]

    def merged(pinned: Pinned) -> pa.Table:
        old = s.lake.rows(pinned, {"table_name": version.table}).to_pylist()
        rows = [row for row in old if row["ds"] not in days] + new
        rows.sort(key=lambda row: row["ds"])
        return pa.Table.from_pylist(rows, schema=s.lake.schema("ops.builds"))

    s.lake.rewrite("ops.builds", {"table_name": version.table}, merged)
