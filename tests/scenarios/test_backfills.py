"""Three nights of the past: two at once, cancelled, failed, resumed; the rows stay."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tasks.backfill import ledger
from tasks.backfill.driving import cancel
from tasks.backfill.plan import Request, plan
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.serve.publications import history, served
from tasks.serve.rollback import rollback
from tests.conftest import once
from tests.scenarios.backfills import (
    driven,
    fail_on_purpose,
    left_behind,
    lists,
    newest_plan,
    polled,
    shop_of,
    wait_for,
)
from tests.scenarios.nights import Place, day, found, run_apart

FIRST, LAST = 4, 6
DAYS = [day(n) for n in range(FIRST, LAST + 1)]
THEN = Request(DAYS[0], DAYS[-1], choice="all", as_of="then", max_active=2)


@pytest.fixture(scope="session")
def first_night(sample: Path, shared: Path) -> Place:
    """A shop that has run one night, of the first of the dates. Copy it; do not change it."""
    place = Place(shared / "first-of-three")

    def run() -> None:
        assert run_apart(found(place, 0, FIRST + 1, sample), is_checked=False) == 0

    once(place.root, run)
    return place


@pytest.fixture
def shop(two_nights: Place, tmp_path: Path) -> Place:
    """A shop that ran the last two of the dates, each when its files had just landed."""
    place = two_nights.copy(tmp_path / "shop")
    fail_on_purpose(place)
    return place


def served_release(place: Place) -> str:
    target = shop_of(place)
    with session(target.lake, target.settings.compute) as s:
        serving = served(history(s))
    assert serving is not None
    return serving.release_id


def release_of(place: Place, ds: date) -> str:
    """The release that the night of a date has published."""
    pinned = Lake(place.lake).pin("serve.publications")
    rows = Lake(place.lake).rows(pinned, {"ds": ds}).to_pylist()
    return str(next(row["release_id"] for row in rows if row["action"] == "publish"))


def test_cancelled_failed_and_resumed_it_makes_the_rows_of_each_night(
    shop: Place, first_night: Place
) -> None:
    serving = served_release(shop)
    fail_on_purpose(shop, DAYS[1])
    with polled(shop, most_active=2) as poller:
        with driven(shop, THEN) as driver:
            plan_id = wait_for(shop, "running")[0].plan_id
            assert cancel(shop_of(shop), plan_id).count("running") == 0
        assert driver.result().stopped == "somebody asked to cancel the plan"
        assert {each.state for each in newest_plan(shop.lake)} <= {"cancelled", "done", "failed"}

        with driven(shop, THEN) as driver:  # the same again goes on
            pass
        assert driver.result().plan.plan_id == plan_id
        states = {each.ds: each.state for each in newest_plan(shop.lake)}
        assert states == {DAYS[0]: "done", DAYS[1]: "failed", DAYS[2]: "done"}
        assert "on purpose" in str(newest_plan(shop.lake)[1].reason)

        fail_on_purpose(shop)
        with driven(shop, replace(THEN, choice="failed")) as driver:
            pass
        assert driver.result().stopped is None
        (entry,) = newest_plan(shop.lake)
        assert (entry.ds, entry.state) == (DAYS[1], "done")
    assert poller.lies == []
    assert {state for _, state in poller.seen} >= {"waiting", "running", "done", "failed"}
    assert left_behind(shop.lake) == []

    done = {each.ds: each for each in ledger.every(Lake(shop.lake)) if each.state == "done"}
    for ds, nightly in zip(DAYS, (first_night, shop, shop), strict=True):
        mine = lists(shop.lake, ds, str(done[ds].release_id))
        assert mine == lists(nightly.lake, ds, release_of(nightly, ds)), ds
        assert mine["serve.recommendations"]
        assert done[ds].outcome == "swapped in"
    assert [done[ds].overlap for ds in DAYS] == [None, 1.0, 1.0]
    assert done[DAYS[1]].compared_with == release_of(shop, DAYS[1])
    assert served_release(shop) == serving
    assert not plan(shop_of(shop), THEN).has_work
    # what was swapped in is the release of its date
    assert rollback(shop_of(shop), "a try", str(DAYS[1])).now.release_id == done[DAYS[1]].release_id


def test_a_night_and_a_backfill_at_once(place: Place, two_nights: Place) -> None:
    """The night of today is as if there were no backfill, and the backfill as if no night."""
    fail_on_purpose(place)
    request = Request(DAYS[0], DAYS[0], as_of="then")
    assert plan(shop_of(place), request).has_work
    with driven(place, request) as driver:
        assert run_apart(place, is_checked=False) == 0
    assert driver.result().stopped is None
    (entry,) = newest_plan(place.lake)
    assert (entry.state, entry.outcome) == ("done", "swapped in")
    night = release_of(place, DAYS[-1])
    assert night == release_of(two_nights, DAYS[-1]) == served_release(place)
    assert lists(place.lake, DAYS[-1], night) == lists(two_nights.lake, DAYS[-1], night)
