"""A night that is killed, and run again, equals the night that was not."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tasks.lake.connection import connect
from tests.scenarios.nights import (
    Moment,
    Place,
    contents,
    day,
    run_and_die,
    run_apart,
)

MOMENTS = [
    Moment("ingest", 1),  # clean.events is written, its quarantine and accounting are not
    Moment("train bpr", when="moved"),
    Moment("publish", 3),  # decided, and not yet served
]


_SERVED = "SELECT min(ds), max(ds), count(DISTINCT release_id), count(*) FROM serve.current"


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_killed_night_converges(
    place: Place, one_night: Place, two_nights: Place, moment: Moment
) -> None:
    is_checked = moment.stage.startswith("check")
    with polled(place) as seen:
        assert run_and_die(place, None, moment, is_checked=is_checked) == -9
        assert run_apart(place, is_checked=is_checked) == 0
    assert contents(place.lake) == contents(two_nights.lake)
    ended = f"SELECT outcome FROM ops.nights WHERE ds = '{day(6)}' ORDER BY ended_at"
    assert place.ask(ended) == [("died",), ("published",)]  # told at once, and once
    assert place.ask("SELECT DISTINCT ds FROM serve.current") == [(day(6),)]
    served = "SELECT * FROM serve.current ORDER BY user_id, rank"
    assert place.ask(served) == two_nights.ask(served)
    whole = {one_night.ask(_SERVED)[0], two_nights.ask(_SERVED)[0]}
    assert seen <= whole, "a missing, partial or mixed night was served"
    assert one_night.ask(_SERVED)[0] in seen


@contextmanager
def polled(place: Place, every: float = 0.05) -> Iterator[set[tuple[object, ...]]]:
    """Poll what is served over one open connection, all the while: (night, releases, rows).

    A look takes some ten milliseconds of a core, which the night would have.
    """
    place.refresh()
    seen: set[tuple[object, ...]] = set()
    is_over = threading.Event()

    def poll() -> None:
        with connect(place.lake / "warehouse.duckdb", read_only=True) as con:
            while not is_over.is_set():
                seen.update(con.sql(_SERVED).fetchall())
                time.sleep(every)

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        try:
            yield seen
        finally:  # what failed is told, and not waited for
            is_over.set()
        polling.result()
