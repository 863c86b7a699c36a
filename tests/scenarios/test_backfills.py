"""Three nights of the past: two at once, cancelled, killed, failed, resumed; the rows stay."""

from datetime import date
from pathlib import Path

import pytest

from tasks.backfill import ledger
from tasks.backfill.driving import sweep
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Request, plan
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.serve.publications import history, served
from tests.conftest import once
from tests.scenarios.backfills import (
    drive_unchecked,
    end_softly,
    fail_on_purpose,
    left_behind,
    lists,
    newest_plan,
    polled,
    shop_of,
    wait_for,
)
from tests.scenarios.nights import Place, day, found, in_process, run_apart, start

FIRST, LAST = 4, 6
DAYS = [day(n) for n in range(FIRST, LAST + 1)]
THEN = Request(DAYS[0], DAYS[-1], choice="all", as_of="then", max_active=2)


@pytest.fixture(scope="module")
def one_by_one(sample: Path, shared: Path) -> dict[date, Place]:
    """For each date a shop whose last night is that of the date, its files just landed."""
    places, before = {}, None
    for n in range(FIRST, LAST + 1):
        place = Place(shared / f"then-{n}")

        def run(place: Place = place, n: int = n, before: Place | None = before) -> None:
            if before is None:
                found(place, 0, n + 1, sample)
            else:
                before.copy(place.root).landing.unlink()
                found(place, 0, n + 1, sample)
            assert run_apart(place, is_checked=False) == 0

        once(place.root, run)
        places[day(n)] = before = place
    return places


@pytest.fixture
def shop(one_by_one: dict[date, Place], tmp_path: Path) -> Place:
    """A shop that has run its nights one by one. Its history of them is what must stand."""
    place = one_by_one[DAYS[-1]].copy(tmp_path / "shop")
    fail_on_purpose(place)
    return place


def served_release(place: Place) -> str:
    target = shop_of(place)
    with session(target.lake, target.settings.compute) as s:
        serving = served(history(s))
    assert serving is not None
    return serving.release_id


def release_of(place: Place, ds: date) -> str:
    """The release that the night of a date has made."""
    pinned = Lake(place.lake).pin("serve.publications")
    rows = Lake(place.lake).rows(pinned, {"ds": ds}).to_pylist()
    return str(next(row["release_id"] for row in rows if row["action"] == "publish"))


def test_cancelled_killed_failed_and_resumed_it_makes_the_rows_of_each_night(shop: Place) -> None:
    serving = served_release(shop)
    fail_on_purpose(shop, DAYS[1])
    with polled(shop, most_active=2) as poller:
        driver = start(drive_unchecked, shop, THEN)
        wait_for(shop, "running")
        assert end_softly(driver) == 130
        assert {each.state for each in newest_plan(shop.lake)} <= {"cancelled", "done", "failed"}

        driver = start(drive_unchecked, shop, THEN)  # the same again goes on
        wait_for(shop, "running")
        driver.kill()
        driver.join()
        assert sweep(Lake(shop.lake))  # it is dead, and that is known
        assert "running" not in {each.state for each in newest_plan(shop.lake)}

        assert in_process(drive_unchecked, shop, THEN) == 0
        states = {each.ds: each.state for each in newest_plan(shop.lake)}
        assert states == {DAYS[0]: "done", DAYS[1]: "failed", DAYS[2]: "done"}
        assert "on purpose" in str(newest_plan(shop.lake)[1].reason)

        fail_on_purpose(shop)
        failed = Request(DAYS[0], DAYS[-1], choice="failed", as_of="then", max_active=2)
        assert in_process(drive_unchecked, shop, failed) == 0
        (entry,) = newest_plan(shop.lake)
        assert (entry.ds, entry.state) == (DAYS[1], "done")
    assert poller.lies == []
    assert {state for _, state in poller.seen} >= {"waiting", "running", "done", "failed"}
    assert left_behind(shop.lake) == []

    releases = {each.ds: each for each in _done(shop)}
    for ds in DAYS:
        entry = releases[ds]
        assert entry.release_id is not None
        mine = lists(shop.lake, ds, entry.release_id)
        assert mine == lists(shop.lake, ds, release_of(shop, ds)), ds
        assert mine["serve.recommendations"]
        assert (entry.outcome, entry.overlap) == ("swapped in", 1.0)
        assert entry.compared_with == release_of(shop, ds)
    assert served_release(shop) == serving
    assert not plan(shop_of(shop), THEN).has_work


def _done(place: Place) -> list[Entry]:
    return [each for each in ledger.every(Lake(place.lake)) if each.state == "done"]
