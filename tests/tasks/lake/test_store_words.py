"""What a store answers is not quoted, whatever it is: it may hold keys and signed addresses."""

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError

from expectations.catalogue import catalogue
from tasks.errors import StorageError
from tasks.lake import opened, tables
from tasks.lake.borrowed import Borrowed
from tasks.lake.tables import ABSENT, Lake, Pinned, arrow_schema
from tasks.places import StorePath
from tasks.stores import Storage

NAME = "ops.nights"
EMPTY = arrow_schema(NAME).empty_table()
ADDRESS = "http://127.0.0.1:9"
SECRET = "X-Amz-Signature=5ecret"
UNKNOWN = f"Generic S3 error: 418: <Message>https://127.0.0.1/shop/part?{SECRET}</Message>"
LOST = f"<Error><Code>NoSuchKey</Code><Resource>/shop/part?{SECRET}</Resource></Error>"


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    return Lake(StorePath("shop", "lake", Storage(endpoint=ADDRESS)))


def answering(text: str) -> Callable[..., Any]:
    def answer(*_: object, **__: object) -> Any:
        raise DeltaError(text)

    return answer


def told(error: Exception) -> str:
    """All that a log may show of it."""
    return "".join(traceback.format_exception(error))


def write(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, by: Callable[..., Any], rows: Any = EMPTY
) -> None:
    """Write a table that is not there yet, by that in place of delta-rs."""
    monkeypatch.setattr(opened, "taken", lambda *_: None)
    monkeypatch.setattr(tables, "write_deltalake", by)
    pinned = Pinned(catalogue()[NAME], lake.path(NAME), ABSENT, tables._NO_FILES)
    lake.replace(pinned, {"ds": "2026-01-05"}, rows)


@pytest.mark.parametrize("text", [UNKNOWN, LOST])
def test_of_an_opening_the_lake_tells_the_table_and_what_mends_it(
    text: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "DeltaTable", answering(text))
    with pytest.raises(StorageError, match=rf"cannot read ops\.nights: .* {ADDRESS} failed") as it:
        lake.pin(NAME)
    assert SECRET not in told(it.value)
    assert "_delta_log" in it.value.fix


@pytest.mark.parametrize("text", [UNKNOWN, LOST])
def test_of_a_write_the_lake_tells_that_the_store_failed(
    text: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match=f"{ADDRESS} failed") as caught:
        write(lake, monkeypatch, answering(text))
    assert SECRET not in told(caught.value)


def test_of_a_write_that_failed_here_the_store_is_not_all_that_is_named(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="open files ran out here, or ") as caught:
        write(lake, monkeypatch, answering("Too many open files (os error 24)"))
    assert "this machine's limits" in caught.value.fix


def test_of_rows_that_ran_out_of_memory_that_is_told(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from EMPTY.to_batches(1)
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate")

    def writing(_: object, rows: pa.RecordBatchReader, **__: object) -> None:
        try:
            rows.read_all()
        except Exception:
            raise DeltaError("External error: the stream failed") from None

    rows = pa.RecordBatchReader.from_batches(EMPTY.schema, batches())
    with pytest.raises(StorageError, match=r"cannot write ops\.nights: Out of Memory Error"):
        write(lake, monkeypatch, writing, rows)


@pytest.mark.parametrize("text", [UNKNOWN, LOST])
def test_of_a_pinned_version_a_backfill_tells_that_it_is_gone(
    text: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "DeltaTable", answering(text))
    with pytest.raises(StorageError, match=rf"version 7 of ops\.nights .* {ADDRESS}") as caught:
        Borrowed(lake.root, {NAME: 7}, {}).lent(NAME)
    assert SECRET not in told(caught.value)
    assert "it pins anew" in caught.value.fix


@pytest.mark.parametrize("text", [UNKNOWN, LOST])
def test_what_an_opening_hands_on_is_still_delta_s_and_says_nothing(
    text: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upkeep asks for versions that may be gone, and takes that for an answer."""
    monkeypatch.setattr(opened, "DeltaTable", answering(text))
    with pytest.raises(DeltaError) as caught:
        opened.table(lake.path(NAME), 7)
    assert SECRET not in told(caught.value)
