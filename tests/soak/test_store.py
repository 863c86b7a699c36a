"""Seven nights on an object store equal seven on disk; twenty kills at random change none."""

import random
import time
from pathlib import Path

import pytest

from tasks.backfill.driving import drive
from tasks.backfill.plan import Request, plan
from tasks.sample import ShopSettings, write_sample
from tests.scenarios.nights import day, in_process, start
from tests.scenarios.test_store import FIRST, Twins, polled, run_plainly, twins
from tests.stores import Server

pytestmark = pytest.mark.soak
NIGHTS = 7
KILLS = 20


@pytest.fixture
def both(store: Server, tmp_path: Path) -> Twins:
    sample = tmp_path / "sample"
    write_sample(ShopSettings(n_days=FIRST + NIGHTS, n_users=60, n_items=40, seed=9), sample)
    return twins(store, sample, tmp_path)


def test_seven_nights_are_equal(both: Twins) -> None:
    for number in range(FIRST, FIRST + NIGHTS):
        both.land(number)
        assert in_process(run_plainly, both.disk) == 0
        assert in_process(run_plainly, both.store) == 0
        both.compare()


def test_twenty_kills_at_random_moments(both: Twins) -> None:
    chance, n_killed = random.Random(20), 0
    both.land(FIRST)
    for shop in (both.disk, both.store):
        assert in_process(run_plainly, shop) == 0
    both.compare()
    for number in range(FIRST + 1, FIRST + NIGHTS):
        both.land(number)
        began = time.monotonic()
        assert in_process(run_plainly, both.disk) == 0
        seconds = 1.5 * (time.monotonic() - began)  # that a night on the store may take
        with polled(both.store) as seen:
            for _ in range(KILLS // (NIGHTS - 1) + 1):
                process = start(run_plainly, both.store)
                process.join(chance.uniform(0.05, 1) * seconds)
                process.kill()
                process.join()
                n_killed += process.exitcode == -9
            assert in_process(run_plainly, both.store) == 0
        both.compare()
        assert seen <= both.served
    assert n_killed >= KILLS


def test_a_backfill_in_a_store_equals_one_on_disk(both: Twins) -> None:
    from tasks.shop import open_shop

    for number in range(FIRST, FIRST + 3):
        both.land(number)
    found = []
    disk = open_shop(both.disk.settings, None, both.disk.landing, both.disk.lake)
    for runs, shop in ((both.disk, disk), (both.store, both.store.shop)):
        assert in_process(run_plainly, runs) == 0
        asked = Request(day(FIRST), day(FIRST + 1), choice="all")
        result = drive(shop, plan(shop, asked))
        assert result.problem() is None
        found.append([(each.ds, each.state, each.outcome) for each in result.entries])
    assert found[0] == found[1]
    question = (
        "SELECT ds, user_id, rank, item_id, score FROM serve.recommendations "
        f"WHERE ds <= '{day(FIRST + 1)}' ORDER BY ALL"
    )
    assert both.store.ask(question) == both.disk.ask(question)
    assert not (both.store.shop.lake.root / "backfills").exists()
