import sys

import pytest

from tasks.measure import measured
from tasks.progress import Nobody, watched_by, watcher


def test_a_block_is_measured_even_when_it_fails() -> None:
    with measured() as cost:
        total = sum(range(300_000))
    assert total
    assert 0 < cost.cpu_seconds < 60
    assert 0 < cost.seconds < 60
    with pytest.raises(ZeroDivisionError), measured() as cost:
        _ = 1 / 0
    assert cost.seconds > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget an older peak")
def test_the_peak_is_the_blocks_own() -> None:
    with measured() as large:
        block = bytearray(300 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
    del block
    with measured() as small:
        pass
    assert small.peak_mb < large.peak_mb - 200


def test_whoever_watches_is_told_and_then_no_more() -> None:
    before = watcher()
    with watched_by(Nobody()) as _:
        assert watcher() is not before
        watcher().began("x")
        watcher().moved(1, 2, "")
        watcher().ended("x", True, "")
    assert watcher() is before
