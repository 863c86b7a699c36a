"""Runs that hold a date, die, and come back: what is noted of them in ops.nights."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.lake.leases import LEASE_SECONDS, Lease, holders
from tasks.mapping import Mapping
from tasks.running import hold_date, leave, note_deaths, note_end, running
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop
from tests.tasks.estimate.test_policies import MAPPING

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "landing").mkdir()
    paths = Paths(landing=tmp_path / "landing", lake=tmp_path / "lake")
    return Shop(Settings(paths=paths), check(Mapping, MAPPING, where="test"))


def fall_silent(shop: Shop, run_id: str, name: str = f"night {MONDAY}", seconds: int = 300) -> None:
    """A run on another machine that was last heard of so many seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    over = at + timedelta(seconds=LEASE_SECONDS)
    lease = Lease(name, run_id, name, "elsewhere", 7, "", at, at, over)
    shop.lake.append("ops.leases", {"name": name}, [vars(lease)])


def noted(shop: Shop, ds: date = MONDAY) -> list[tuple[str, str]]:
    rows = shop.lake.rows(shop.lake.pin("ops.nights"), {"ds": ds}).to_pylist()
    return [(row["run_id"], row["outcome"]) for row in rows]


def end(run_id: str, ds: date = MONDAY) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"run_id": run_id, "outcome": "published", "reason": "why", "started_at": now,
            "ended_at": now, "ds": ds}  # fmt: skip


def test_the_dead_are_noted_once_whatever_their_date(shop: Shop) -> None:
    fall_silent(shop, "a")
    fall_silent(shop, "b", f"night {TUESDAY}")
    fall_silent(shop, "c", "a backfill")  # no night: left to who knows it
    fall_silent(shop, "d", "night 2026-01-07", seconds=0)
    assert [each.run_id for each in note_deaths(shop)] == ["a", "b"]
    assert note_deaths(shop) == []
    assert (noted(shop), noted(shop, TUESDAY)) == ([("a", "died")], [("b", "died")])
    assert {each.run_id for each in holders(shop.lake)} == {"c", "d"}
    assert [each.run_id for _, each in running(shop.lake)] == ["d"]


def test_who_takes_the_date_of_a_dead_run_notes_it(shop: Shop) -> None:
    fall_silent(shop, "a")
    assert hold_date(shop, MONDAY, "b") is False
    assert noted(shop) == [("a", "died")]
    assert [each.run_id for _, each in running(shop.lake)] == ["b"]
    leave(shop, "b", MONDAY, TUESDAY)
    assert running(shop.lake) == []


def test_a_run_that_had_ended_did_not_die(shop: Shop) -> None:
    """It was killed between noting its end and letting its date go."""
    note_end(shop, end("a"), MONDAY)
    fall_silent(shop, "a")
    assert len(note_deaths(shop)) == 1
    assert noted(shop) == [("a", "published")]


def test_a_run_that_comes_back_takes_the_place_of_its_death(shop: Shop) -> None:
    fall_silent(shop, "a")
    note_deaths(shop)
    note_end(shop, end("a"), MONDAY)
    note_end(shop, end("b"), MONDAY)
    assert noted(shop) == [("a", "published"), ("b", "published")]
