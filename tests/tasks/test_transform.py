"""Increments: only stale days are built, and they equal what a build from nothing gives."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sql
from expectations.catalogue import catalogue
from tasks.errors import EstimationError
from tasks.estimate.propensities import Propensities
from tasks.lake.session import Session, session
from tasks.lake.tables import Lake
from tasks.settings import Compute, Propensity
from tasks.shop import Parameters
from tasks.transform import build_increments, build_snapshot, stale_days
from tests.disk import on_disk

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(6)]
MONDAY, TUESDAY, WEDNESDAY, THURSDAY = DAYS[:4]
DAILY = "features.behaviours_daily"
PROPENSITIES = "features.impression_propensities"
INCREMENTS = [
    table.name
    for table in catalogue().values()
    if table.layer == "features" and table.kind == "increment"
]


def at(day: date, hour: int = 12) -> datetime:
    return datetime.fromisoformat(f"{day} {hour:02}:00:00+00:00")


def event(day: date, n: int, **fields: Any) -> dict[str, Any]:
    row = {"event_id": f"e{n}", "user_id": f"u{n % 2}", "item_id": f"i{n % 3}"}
    clocks = {"occurred_at": at(day), "arrived_at": at(day), "superseded_at": None}
    rest = {"request_id": None, "session_id": None, "value": None, "file_id": "f", "ds": day}
    return {**row, "behaviour": "click", **clocks, **rest, **fields}


def shown(day: date, n: int) -> dict[str, Any]:
    names = {"impression_id": f"m{n}", "request_id": f"r{n}", "user_id": "u0", "item_id": f"i{n}"}
    nulls = dict.fromkeys(("policy", "policy_version", "policy_score", "p_logged", "superseded_at"))
    clocks = {"occurred_at": at(day), "arrived_at": at(day), "file_id": "f", "ds": day}
    return {**names, "is_shown": True, "position": 1, **nulls, **clocks}


def put(lake: Lake, name: str, day: date, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=lake.schema(name))
    lake.rewrite(name, {"ds": day}, lambda _: table)


def params(ds: date, **changed: Any) -> Parameters:
    rest: Parameters = {"clip": 0.01, "clip_quantile": 0.01, "n_folds": 2}
    return {"ds": ds, "window": timedelta(days=1), **rest, **changed}


def step(name: str, changed: dict[str, Any]) -> Propensities | None:
    """The Python step of the one table that has one."""
    settings = Propensity.model_validate({"estimator": "exposure_share"} | changed)
    return Propensities(settings, 2, timedelta(days=1)) if name == PROPENSITIES else None


@contextmanager
def opened(lake: Lake) -> Iterator[Session]:
    with session(lake, Compute(threads=1)) as s:
        yield s


def build(lake: Lake, ds: date, *names: str, **changed: Any) -> list[int]:
    """Build increments; how many rows each wrote."""
    with opened(lake) as s:
        return [
            build_increments(s, name, params(ds, **changed), step(name, changed)).rows
            for name in names
        ]


def stale(lake: Lake, name: str, ds: date, **changed: Any) -> list[date]:
    with opened(lake) as s:
        found = stale_days(s, name, params(ds, **changed), step(name, changed))
        return [each.day for each in found]


def builds(lake: Lake, name: str) -> dict[date, tuple[str, str, int]]:
    """What ops.builds says of each day of a table."""
    rows = lake.rows(lake.pin("ops.builds"), {"table_name": name}).to_pylist()
    found = {row["ds"]: (row["inputs"], row["recipe"], row["table_version"]) for row in rows}
    assert len(found) == len(rows)
    return found


def content(lake: Lake, name: str) -> list[Any]:
    with opened(lake) as s:
        s.read(name)
        return s.rows(f"SELECT * FROM {name} ORDER BY ALL")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three days of events."""
    made = Lake(tmp_path)
    for number, day in enumerate(DAYS[:3]):
        put(made, "clean.events", day, [event(day, number), event(day, number + 1)])
    return made


def test_days_whose_rows_are_lost_are_built_again(lake: Lake) -> None:
    build(lake, WEDNESDAY, DAILY)
    whole = content(lake, DAILY)
    shutil.rmtree(on_disk(lake.path(DAILY)))
    assert stale(lake, DAILY, WEDNESDAY) == [MONDAY, TUESDAY, WEDNESDAY]
    build(lake, WEDNESDAY, DAILY)
    assert content(lake, DAILY) == whole


def test_a_lake_that_was_moved_is_not_stale(lake: Lake, tmp_path: Path) -> None:
    build(lake, WEDNESDAY, DAILY)
    moved = Lake(tmp_path.with_name(f"{tmp_path.name}-moved"))
    shutil.copytree(on_disk(lake.root), on_disk(moved.root))
    assert stale(moved, DAILY, WEDNESDAY) == []


def test_a_first_build_makes_every_day_up_to_the_night(lake: Lake) -> None:
    assert stale(lake, DAILY, TUESDAY) == [MONDAY, TUESDAY]
    assert build(lake, TUESDAY, DAILY) == [4]
    assert sorted(lake.pin(DAILY).days()) == [MONDAY, TUESDAY]


def test_a_second_build_writes_nothing(lake: Lake) -> None:
    build(lake, WEDNESDAY, DAILY)
    version, noted = lake.pin(DAILY).version, builds(lake, DAILY)
    assert build(lake, WEDNESDAY, DAILY) == [0]
    assert (lake.pin(DAILY).version, builds(lake, DAILY)) == (version, noted)


def test_a_new_day_builds_itself_only(lake: Lake) -> None:
    build(lake, TUESDAY, DAILY)
    before = builds(lake, DAILY)
    assert build(lake, WEDNESDAY, DAILY) == [2]
    after = builds(lake, DAILY)
    assert {day: after[day] for day in before} == before
    assert sorted(after) == [MONDAY, TUESDAY, WEDNESDAY]


def test_late_rows_rebuild_exactly_the_touched_day(lake: Lake) -> None:
    build(lake, WEDNESDAY, DAILY)
    before, files = builds(lake, DAILY), lake.pin(DAILY).days()
    put(lake, "clean.events", TUESDAY, [event(TUESDAY, n) for n in range(5)])
    assert stale(lake, DAILY, WEDNESDAY) == [TUESDAY]
    build(lake, WEDNESDAY, DAILY)
    after = builds(lake, DAILY)
    assert [day for day in DAYS[:3] if after[day] != before[day]] == [TUESDAY]
    assert [day for day in DAYS[:3] if lake.pin(DAILY).days()[day] != files[day]] == [TUESDAY]


def test_a_window_makes_the_days_after_a_late_row_stale_too(lake: Lake) -> None:
    for day in DAYS:
        put(lake, "clean.impressions", day, [shown(day, 1)])
    build(lake, DAYS[-1], *INCREMENTS)
    assert stale(lake, PROPENSITIES, DAYS[-1]) == []
    put(lake, "clean.impressions", TUESDAY, [shown(TUESDAY, 1), shown(TUESDAY, 2)])
    assert build(lake, DAYS[-1], "features.exposure_daily") == [2]
    assert stale(lake, PROPENSITIES, DAYS[-1]) == [TUESDAY, WEDNESDAY]


def test_changed_parameters_rebuild_where_the_sql_asks_for_them(lake: Lake) -> None:
    build(lake, WEDNESDAY, *INCREMENTS)
    assert stale(lake, DAILY, WEDNESDAY, clip=0.5) == []
    for day in DAYS[:3]:
        put(lake, "clean.impressions", day, [shown(day, 1)])
    build(lake, WEDNESDAY, *INCREMENTS)
    assert stale(lake, PROPENSITIES, WEDNESDAY) == []
    assert stale(lake, PROPENSITIES, WEDNESDAY, clip=0.5) == DAYS[:3]
    assert stale(lake, PROPENSITIES, WEDNESDAY, estimator="auto") == DAYS[:3]


class Failing(Propensities):
    """A step that cannot make the second day."""

    def rows(self, s: Session, day: date) -> Any:
        if day == TUESDAY:
            raise EstimationError("no", where="here", unchanged="all", fix="nothing")
        return super().rows(s, day)


def test_a_step_that_fails_on_one_day_leaves_every_day_as_it_was(lake: Lake) -> None:
    for day in DAYS[:3]:
        put(lake, "clean.impressions", day, [shown(day, 1)])
    build(lake, MONDAY, *INCREMENTS)
    before, version = content(lake, PROPENSITIES), lake.pin(PROPENSITIES).version
    fails = Failing(Propensity(estimator="exposure_share"), 2, timedelta(days=1))
    with opened(lake) as s, pytest.raises(EstimationError):
        build_increments(s, PROPENSITIES, params(WEDNESDAY), fails)
    assert lake.pin(PROPENSITIES).version == version
    assert content(lake, PROPENSITIES) == before
    assert stale(lake, PROPENSITIES, WEDNESDAY) == [TUESDAY, WEDNESDAY]


def test_a_step_sees_the_window_of_its_day_and_nothing_after(lake: Lake) -> None:
    seen: dict[date, list[Any]] = {}

    class Looking(Propensities):
        def rows(self, s: Session, day: date) -> Any:
            seen[day] = s.rows("SELECT DISTINCT ds FROM clean.impressions ORDER BY ds")
            return super().rows(s, day)

    for day in DAYS:
        put(lake, "clean.impressions", day, [shown(day, 1)])
    looks = Looking(Propensity(), 2, timedelta(days=1))
    with opened(lake) as s:
        build_increments(s, PROPENSITIES, params(WEDNESDAY), looks)
    assert seen == {
        MONDAY: [(MONDAY,)],
        TUESDAY: [(MONDAY,), (TUESDAY,)],
        WEDNESDAY: [(TUESDAY,), (WEDNESDAY,)],
    }


def test_changed_sql_rebuilds_every_day(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    build(lake, WEDNESDAY, DAILY)
    old = sql.read_table(DAILY)
    monkeypatch.setattr(sql, "read_table", lambda _: old.replace("count(*)", "7"))
    assert stale(lake, DAILY, WEDNESDAY) == DAYS[:3]
    build(lake, WEDNESDAY, DAILY)
    assert {row[3] for row in content(lake, DAILY)} == {7}
    assert {noted[2] for noted in builds(lake, DAILY).values()} == {lake.pin(DAILY).version}


def test_an_older_night_leaves_later_days_alone(lake: Lake) -> None:
    build(lake, WEDNESDAY, DAILY)
    before = builds(lake, DAILY)
    put(lake, "clean.events", MONDAY, [event(MONDAY, 9)])
    put(lake, "clean.events", WEDNESDAY, [event(WEDNESDAY, 9)])
    assert stale(lake, DAILY, TUESDAY) == [MONDAY]
    build(lake, TUESDAY, DAILY)
    assert builds(lake, DAILY)[WEDNESDAY] == before[WEDNESDAY]
    assert stale(lake, DAILY, WEDNESDAY) == [WEDNESDAY]


def test_a_day_whose_inputs_are_gone_is_cleared(lake: Lake) -> None:
    build(lake, WEDNESDAY, DAILY)
    put(lake, "clean.events", TUESDAY, [])
    assert stale(lake, DAILY, WEDNESDAY) == [TUESDAY]
    build(lake, WEDNESDAY, DAILY)
    assert sorted(lake.pin(DAILY).days()) == sorted(builds(lake, DAILY)) == [MONDAY, WEDNESDAY]
    assert stale(lake, DAILY, WEDNESDAY) == []


def test_a_build_that_is_not_noted_is_made_again(lake: Lake) -> None:
    build(lake, WEDNESDAY, DAILY)
    before = content(lake, DAILY)
    lake.rewrite(
        "ops.builds", {"table_name": DAILY}, lambda _: lake.schema("ops.builds").empty_table()
    )
    assert build(lake, WEDNESDAY, DAILY) == [6]
    assert content(lake, DAILY) == before


def test_increments_equal_a_build_from_nothing(lake: Lake, tmp_path: Path) -> None:
    for day in DAYS[:3]:
        put(lake, "clean.impressions", day, [shown(day, 1), shown(day, 2)])
        build(lake, day, *INCREMENTS)
    put(lake, "clean.events", MONDAY, [event(MONDAY, n) for n in range(4)])
    put(lake, "clean.impressions", TUESDAY, [shown(TUESDAY, 3)])
    gone = event(WEDNESDAY, 8, superseded_at=at(THURSDAY))
    put(lake, "clean.events", WEDNESDAY, [gone, event(WEDNESDAY, 9)])
    build(lake, WEDNESDAY, *INCREMENTS)

    fresh = Lake(tmp_path / "fresh")
    for name in ("clean.events", "clean.impressions"):
        for day in DAYS[:3]:
            put(fresh, name, day, lake.rows(lake.pin(name), {"ds": day}).to_pylist())
    build(fresh, WEDNESDAY, *INCREMENTS)
    for name in INCREMENTS:
        assert content(lake, name) == content(fresh, name) != []


def test_a_snapshot_reads_nothing_after_its_night_and_is_replaced(lake: Lake) -> None:
    active = params(TUESDAY, active_since=MONDAY)
    build(lake, WEDNESDAY, DAILY)
    with opened(lake) as s:
        versions = [build_snapshot(s, "serve.active_users", active) for _ in range(2)]
    assert [version.rows for version in versions] == [2, 2]
    assert sorted(lake.pin("serve.active_users").days()) == [TUESDAY]


def test_a_night_before_the_first_catalogue_takes_the_first(lake: Lake) -> None:
    nothing = dict.fromkeys(("category", "product_type", "brand", "title", "price"))
    item = {"item_id": "tea", **nothing, "is_in_stock": True, "available_from": None}
    item |= {"arrived_at": at(THURSDAY), "file_id": "f", "ds": THURSDAY}
    put(lake, "clean.items", THURSDAY, [item])
    with opened(lake) as s:
        night = params(MONDAY, catalogue_ds=THURSDAY)
        assert build_snapshot(s, "serve.eligible_items", night).rows == 1
    assert content(lake, "serve.eligible_items") == [("tea", THURSDAY, MONDAY)]
