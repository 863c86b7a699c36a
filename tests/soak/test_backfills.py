"""Fourteen nights of the sample shop and a year loaded in one go, cancelled, killed and resumed."""

import random
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tasks.backfill import ledger
from tasks.backfill.driving import cancel, sweep
from tasks.backfill.plan import Request, plan
from tasks.lake.tables import Lake
from tasks.sample import ShopSettings, write_sample
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
from tests.scenarios.daily import day as day_of_year
from tests.scenarios.nights import (
    Place,
    day,
    found,
    in_process,
    leave_out_what_only_reads,
    run_apart,
    start,
)
from tests.scenarios.test_backfills import release_of, served_release
from tests.tasks.backfill.conftest import History

pytestmark = pytest.mark.soak
FIRST, LAST = 6, 19  # fourteen nights
DAYS = [day(n) for n in range(FIRST, LAST + 1)]
FAILING = (DAYS[3], DAYS[9])
YEAR, MADE, LATE = 365, range(200, 228), 365


@pytest.fixture(scope="module")
def nightly(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shop whose files came day by day, with a night after each."""
    root = tmp_path_factory.mktemp("fourteen")
    write_sample(ShopSettings(n_days=LAST + 1, n_users=120, n_items=60), root / "sample")
    place = found(Place(root / "shop"), 0, FIRST + 1, root / "sample")
    assert run_apart(place, is_checked=False) == 0
    for n in range(FIRST + 1, LAST + 1):
        found(place, n, n + 1, root / "sample")
        assert run_apart(place, is_checked=False) == 0
    return place


@pytest.mark.parametrize("seed", [1, 2])
def test_fourteen_nights_are_those_run_one_by_one(
    nightly: Place, tmp_path: Path, seed: int
) -> None:
    shop, draw = nightly.copy(tmp_path / "shop"), random.Random(seed)
    serving, lake = served_release(shop), Lake(shop.lake)
    asked = Request(
        DAYS[0], DAYS[-1], choice="all", as_of="then", max_active=2, is_newest_first=seed == 2
    )
    fail_on_purpose(shop, *FAILING)
    with polled(shop, most_active=2) as poller:
        for how in ("signal", "command", "kill", "signal"):
            driver = start(drive_unchecked, shop, asked)
            wait_for(shop, "running")
            time.sleep(draw.uniform(0.0, 20.0))
            _stop(shop, driver, how)
            states = {each.state for each in newest_plan(shop.lake)}
            assert "running" not in states, how
        assert in_process(drive_unchecked, shop, asked) == 0
        entries = newest_plan(shop.lake)
        assert {each.ds for each in entries if each.state == "failed"} == set(FAILING)
        assert sum(each.state == "done" for each in entries) == len(DAYS) - len(FAILING)
        fail_on_purpose(shop)
        assert in_process(drive_unchecked, shop, replace(asked, choice="failed")) == 0
        assert {each.ds: each.state for each in newest_plan(shop.lake)} == dict.fromkeys(
            FAILING, "done"
        )
    assert poller.lies == []
    assert poller.n_looks > 100
    done = {each.ds: each for each in ledger.every(lake) if each.state == "done"}
    for ds in DAYS:
        mine = lists(shop.lake, ds, str(done[ds].release_id))
        assert mine == lists(nightly.lake, ds, release_of(nightly, ds)), ds
        assert (done[ds].outcome, done[ds].overlap) == ("swapped in", 1.0)
    assert served_release(shop) == serving
    assert left_behind(shop.lake) == []
    assert not plan(shop_of(shop), asked).has_work


def _stop(shop: Place, driver: Any, how: str) -> None:
    if how == "signal":
        assert end_softly(driver) == 130
    elif how == "command":
        plan_id = newest_plan(shop.lake)[0].plan_id
        assert cancel(shop_of(shop), plan_id).count("running") == 0
        driver.join()
        assert driver.exitcode == 130
    else:
        driver.kill()
        driver.join()
        sweep(Lake(shop.lake))


def test_two_plans_share_one_limit(nightly: Place, tmp_path: Path) -> None:
    shop = nightly.copy(tmp_path / "shop")
    shop.settings.write_text(shop.settings.read_text() + "\n[backfill]\nmax_active = 1\n")
    fail_on_purpose(shop)
    ranges = ((DAYS[0], DAYS[2]), (DAYS[5], DAYS[7]))
    asked = [Request(*each, choice="all", as_of="then", max_active=2) for each in ranges]
    most: list[int] = []
    drivers = [start(drive_unchecked, shop, each) for each in asked]
    while any(each.is_alive() for each in drivers):
        most.append(sum(each.state == "running" for each in ledger.every(Lake(shop.lake))))
        time.sleep(0.1)
    assert [each.exitcode for each in drivers] == [0, 0]
    assert max(most) == 1
    assert {each.state for each in ledger.every(Lake(shop.lake))} == {"done"}


def test_a_year_loaded_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As known then and now, before and after a file that came a year late."""
    leave_out_what_only_reads(monkeypatch)
    year = History(tmp_path / "year")
    year.land(0, YEAR - 1)
    year.ingest()
    first, last = day_of_year(MADE[0]), day_of_year(MADE[-1])
    before = {as_of: _made(year, Request(first, last, "all", as_of)) for as_of in ("then", "now")}
    assert before["then"] == before["now"]

    nightly = History(tmp_path / "nightly")
    nightly.land(0, MADE[0])
    outcome = nightly.place.run()
    night = lists(nightly.place.lake, first, str(outcome.release_id))
    assert before["then"][first] == night

    year.land(LATE, LATE)
    year.land_late(LATE, MADE[3])
    year.ingest()
    then, now = (Request(first, last, "all", as_of) for as_of in ("then", "now"))
    assert not plan(year.shop, then).has_work
    assert [each.ds for each in plan(year.shop, now).entries] == [
        day_of_year(n) for n in MADE if n >= MADE[3]
    ]
    after = _made(year, now)
    changed = [ds for ds in after if after[ds] != before["now"][ds]]
    assert len(changed) > len(MADE) / 3  # as long as the late events lie in the active days
    assert min(changed) == day_of_year(MADE[3])
    # made again from the lake as it is now, then is still what it was
    again = year.plan(MADE[0], MADE[-1], "then", keeps_aside=True).plan
    for n in (MADE[0], MADE[5], MADE[-1]):
        made = year.make(again, n)
        rows = lists(year.place.lake, day_of_year(n), made.release_id)
        assert rows == before["then"][day_of_year(n)]


def _made(year: History, asked: Request) -> dict[date, dict[str, list[object]]]:
    """The lists of each night that a plan makes."""
    fail_on_purpose(year.place)
    assert in_process(drive_unchecked, year.place, asked) == 0
    return {
        each.ds: lists(year.place.lake, each.ds, str(each.release_id))
        for each in newest_plan(year.place.lake)
    }
