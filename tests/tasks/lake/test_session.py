"""Sessions stay within their memory."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tasks.errors import StorageError
from tasks.lake.connection import connect, reading
from tasks.lake.session import session, write_views
from tasks.lake.tables import Lake, arrow_schema
from tasks.records import TableVersion
from tasks.settings import Compute


@pytest.mark.parametrize(
    ("limit", "mib"), [("1GB", 953), ("512MiB", 512), ("1.5GiB", 1536), ("68MB", 64)]
)
def test_work_can_be_held_to_less_memory_but_not_to_more(
    tmp_path: Path, limit: str, mib: int
) -> None:
    compute = Compute(threads=1, memory_limit=limit)
    assert compute.memory_mib == mib
    with session(Lake(tmp_path), compute) as s:
        of_the_session = s.value("SELECT current_setting('memory_limit')")
        with s.at_most(512):
            held = s.value("SELECT current_setting('memory_limit')")
        assert held == f"{min(mib, 512)}.0 MiB"
        assert s.value("SELECT current_setting('memory_limit')") == of_the_session


# A list cannot be spilled: this one takes 80 MB and what it grows by.
BIG = "SELECT len(list(range)) FROM range(10000000)"
LIMIT = Compute(threads=1, memory_limit="256MiB")


def test_half_the_memory_is_enough_or_all_of_it_is_taken(tmp_path: Path) -> None:
    limits = []

    def work() -> int:
        limits.append(s.value("SELECT current_setting('memory_limit')"))
        return int(s.value(BIG))

    with session(Lake(tmp_path), LIMIT) as s:
        with s.at_most(128), pytest.raises(duckdb.OutOfMemoryException):
            work()
        limits.clear()
        assert s.in_half(work) == 10_000_000
    assert limits == ["128.0 MiB", "256.0 MiB"]


def test_work_that_runs_out_while_it_writes_is_written_in_all_of_the_memory(tmp_path: Path) -> None:
    lake, name, ds = Lake(tmp_path), "serve.active_users", date(2026, 1, 5)
    schema = arrow_schema(name)
    row = dict.fromkeys(schema.names) | {"user_id": "u1", "ds": ds}

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([row], schema=schema)
        s.rows(BIG)

    def write() -> TableVersion:
        return lake.rewrite(
            name, {"ds": ds}, lambda _: pa.RecordBatchReader.from_batches(schema, batches())
        )

    with session(lake, LIMIT) as s:
        with s.at_most(128), pytest.raises(StorageError, match="Out of Memory"):
            write()
        assert s.in_half(write).rows == 1
        assert s.in_half(lambda: len(lake.pin(name).files())) == 1


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        duckdb.CatalogException("no such table"),
        StorageError("the disk is full", where="", unchanged="", fix=""),
    ],
)
def test_no_other_error_is_tried_again(tmp_path: Path, error: Exception) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise error

    with session(Lake(tmp_path), Compute()) as s, pytest.raises(type(error)):
        s.in_half(work)
    assert len(tries) == 1


def test_views_are_whole_though_another_thread_looks_at_all_databases(tmp_path: Path) -> None:
    class Watched(dict[str, str]):
        def items(self) -> Any:
            yield from super().items()
            other.sql("SELECT count(*) FROM duckdb_views()").fetchall()

    with reading() as other:
        other.execute("BEGIN")  # and what it looked at stays open
        write_views(tmp_path / "it's.duckdb", Watched({"clean.events": "SELECT 42 AS n"}))
        (made,) = tmp_path.iterdir()
        with connect(made.rename(tmp_path / "shown.duckdb"), read_only=True) as con:
            assert con.sql("SELECT n FROM clean.events").fetchall() == [(42,)]
