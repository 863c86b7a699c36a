"""Many kills of an ingest, at every write and at random times, and much more garbage."""

import random
import signal
import time
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scenarios.nights import start
from tests.tasks.ingest.conftest import TinyShop
from tests.tasks.ingest.garbage import Garbage, files, garbage_shop, must_hold
from tests.tasks.ingest.test_concurrent import (
    SOURCES,
    ingest_and_die,
    killed_converges,
    land_two_nights,
)

pytestmark = pytest.mark.soak
NAMES = count()
NEVER = 10_000


def test_kills_before_and_after_every_write(tmp_path: Path) -> None:
    moment = 1
    while killed_converges(tmp_path / str(moment), moment):
        moment += 1
    assert moment > 12


def test_kills_at_twenty_random_times(tmp_path: Path) -> None:
    whole = TinyShop(tmp_path / "whole", SOURCES)
    land_two_nights(whole)
    whole.ingest()
    draw, seconds, n_killed = random.Random(20), 0.0, 0
    while n_killed < 20:
        killed = TinyShop(tmp_path / f"{n_killed}-{seconds}", SOURCES)
        land_two_nights(killed)
        started = time.perf_counter()
        worker = start(ingest_and_die, killed.root, NEVER, SOURCES)
        worker.join(draw.uniform(0.1, 1.0) * seconds if seconds else None)
        worker.kill()
        worker.join()
        if worker.exitcode == -signal.SIGKILL:
            n_killed += 1
        else:  # it was done: how long that takes, on this machine and now
            seconds = time.perf_counter() - started
        killed.ingest()
        assert killed.tables() == whole.tables()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    return garbage_shop(tmp_path_factory.mktemp("garbage"))


@settings(
    max_examples=500,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(drawn=st.lists(files, min_size=16, max_size=16))
def test_garbage_of_many_thousand_files(shop: TinyShop, drawn: list[Garbage]) -> None:
    must_hold(shop, drawn, f"g{next(NAMES)}")
