"""Property-based garbage through every format; `make soak` draws many more."""

import gzip
import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tasks.ingest.conftest import TinyShop, event, lines
from tests.tasks.ingest.garbage import Garbage, files, garbage_shop, must_hold

FILES = 8
NAMES = count()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    return garbage_shop(tmp_path_factory.mktemp("garbage"))


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(drawn=st.lists(files, min_size=FILES, max_size=FILES))
def test_garbage_is_accounted_for_and_harms_nothing(shop: TinyShop, drawn: list[Garbage]) -> None:
    must_hold(shop, drawn, f"g{next(NAMES)}")


def test_a_line_of_fifty_megabytes(tmp_path: Path) -> None:
    shop = garbage_shop(tmp_path)
    long = json.dumps(event(1, x="y" * 50_000_000))
    content = lines(event(2), long, event(3)).encode()
    packed = Garbage("events/{}.jsonl.gz", gzip.compress(content + b"\n", 1), 3)
    must_hold(shop, [Garbage("events/{}.jsonl", content, 3), packed], "long")
    assert [row[0] for row in shop.events()][-2:] == ["e2", "e3"]


def test_a_file_of_nothing_but_misfits(tmp_path: Path) -> None:
    shop = garbage_shop(tmp_path)
    content = b'{"u": 1}\n\xff\n{\n\n' * 20_000
    must_hold(shop, [Garbage("events/{}.jsonl", content, 60_000)], "bad")
