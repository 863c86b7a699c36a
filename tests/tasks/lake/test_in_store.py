"""A lake on a store: writers lose nothing, readers see whole lists, files come once."""

import multiprocessing
import threading
import traceback
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from expectations.catalogue import catalogue
from tasks.errors import ConflictError, StorageError, TrainingError
from tasks.housekeeping import _drop_left, _drop_uploads
from tasks.ingest.deliveries import _hash_of
from tasks.lake import fetched, leases, opened
from tasks.lake.borrowed import Borrowed
from tasks.lake.connection import as_storage_errors, connect, reading
from tasks.lake.tables import Lake, Pinned, scan
from tasks.lake.upkeep import keep_up
from tasks.lake.warehouse import (
    MODEL_MARK,
    checkpoints_path,
    current_folder,
    current_view,
    models_path,
    no_window,
    rebuild,
    views,
)
from tasks.places import StorePath, entries, size
from tasks.records import LandedFile
from tasks.serve import publications
from tasks.serve.publications import point
from tasks.stores import Storage, UnreachableError
from tasks.train import registry
from tasks.train.loop import train
from tests.stores import OWNER, READER, STRANGER, Server, proxied, set_keys
from tests.tasks.train.planted import data_and_holdout

NAME = "ops.nights"
MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
NOW = datetime(2026, 1, 6, 3, tzinfo=UTC)
_PROCESSES = multiprocessing.get_context("forkserver")


def row(text: str, ds: date = MONDAY) -> dict[str, Any]:
    told = {"run_id": text, "outcome": "held", "reason": "r", "release_id": None, "ds": ds}
    return {**told, "started_at": NOW, "ended_at": NOW}


def texts(lake: Lake) -> list[str]:
    pinned = lake.pin(NAME)
    with reading() as con:
        found = con.sql(f"SELECT run_id FROM ({scan(pinned.table, pinned.files())}) ORDER BY 1")
        return [each[0] for each in found.fetchall()]


@pytest.fixture
def lake(store: Server, tmp_path: Path) -> Lake:
    return Lake(store.at(tmp_path.name, "lake"))


def _add(root: StorePath, number: int, start: Any) -> None:
    """Two of the writers meet at one partition, between their reading and their writing."""
    set_keys(OWNER)  # it comes of a process that may be older than the store
    lake, ds = Lake(root), MONDAY if number < 2 else date(2026, 1, 10 + number)
    tries = []

    def with_row(pinned: Pinned) -> pa.Table:
        tries.append(pinned.version)
        old = lake.rows(pinned, {"ds": ds})
        if len(tries) == 1:
            start.wait()
        new = pa.Table.from_pylist([row(f"w{number}", ds)], schema=old.schema)
        return pa.concat_tables([old, new])

    lake.rewrite(NAME, {"ds": ds}, with_row)
    lake.append("ops.stages", {"ds": ds}, [])


def test_of_eight_writers_none_is_lost(lake: Lake) -> None:
    assert isinstance(lake.root, StorePath)
    lake.pin(NAME)
    start = _PROCESSES.Barrier(8)
    writers = [_PROCESSES.Process(target=_add, args=(lake.root, n, start)) for n in range(8)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert [each.exitcode for each in writers] == [0] * 8
    assert texts(lake) == [f"w{number}" for number in range(8)]  # each once
    assert lake.pin(NAME).version == 8


def test_a_commit_whose_answer_was_lost_counts_once(lake: Lake, store: Server) -> None:
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    assert isinstance(lake.root, StorePath)
    with proxied(store, loses="/_delta_log/00000000000000000002.json") as endpoint:
        deaf = Lake(replace(lake.root, storage=Storage(endpoint=endpoint)))
        written = deaf.append(NAME, {"ds": MONDAY}, [row("second")])
    assert written.version == 2
    replace(lake.root)  # reached without the proxy again
    assert texts(lake) == ["first", "second"]
    assert lake.pin(NAME).version == 2


def test_what_another_wrote_is_seen_and_a_stale_writer_is_refused(lake: Lake) -> None:
    before = lake.pin(NAME)
    other = Lake(lake.root)
    other.append(NAME, {"ds": MONDAY}, [row("first")])
    assert texts(lake) == ["first"]
    with pytest.raises(ConflictError):
        lake.replace(before, {"ds": MONDAY}, lake.rows(before, {}))
    for number in range(12):  # past a checkpoint of the log
        lake.append(NAME, {"ds": TUESDAY}, [row(f"t{number:02}", TUESDAY)])
    assert len(texts(lake)) == 13


def test_a_lake_that_was_removed_is_made_anew(lake: Lake) -> None:
    assert isinstance(lake.root, StorePath)
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    lake.root.remove()
    lake.append(NAME, {"ds": MONDAY}, [row("second")])
    assert texts(lake) == ["second"]


def test_upkeep(lake: Lake) -> None:
    for number in range(4):
        lake.append(NAME, {"ds": MONDAY}, [row(f"n{number}")])
    done = keep_up(lake, NAME, timedelta(0))
    assert done.n_removed > 0
    assert done.bytes_before > 0
    assert len(texts(lake)) == 4
    assert len(list(entries(lake.path(NAME), "**/*.parquet"))) == 2  # the rows and a checkpoint
    assert keep_up(lake, NAME, timedelta(0)).bytes_before == done.bytes_after


def test_what_writers_never_put_whole_is_given_up(lake: Lake) -> None:
    assert isinstance(lake.root, StorePath)
    asked = {"Bucket": lake.root.bucket, "Key": (lake.root / "ops" / "part-1").key}
    lake.root.reached.files().call_s3("create_multipart_upload", **asked)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert [each.did for each in _drop_uploads(lake, now - hour)] == ["0 given up"]
    assert [each.did for each in _drop_uploads(lake, now + hour)] == ["1 given up"]
    silent = replace(lake.root, bucket="elsewhere", storage=Storage(endpoint="http://127.0.0.1:9"))
    assert "does not answer" in next(_drop_uploads(Lake(silent), now)).did


def test_leases_hold(lake: Lake) -> None:
    with leases.leased(lake, "a place", "one", leases.Terms("a test")):
        assert leases.take(lake, "a place", "two", leases.Terms("a test"))
    assert not leases.holders(lake)


def test_views_are_fetched_and_read(lake: Lake) -> None:
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    rebuild(lake, no_window())
    with views(lake) as con:
        assert con.sql("SELECT run_id FROM ops.nights").fetchall() == [("first",)]
        assert con.sql("SELECT count(*) FROM serve.current").fetchall() == [(0,)]


def _list_of(lake: Lake, slot: str, release: str, n_rows: int, folder: Path) -> None:
    made = {"release_id": f"'{release}'", "rank": "i"}
    columns = ", ".join(
        f"CAST({made.get(c.name, 'NULL')} AS {c.type}) AS {c.name}"
        for c in catalogue()["serve.current"].columns
    )
    path = folder / "list.parquet"
    with connect() as con:
        con.execute(f"COPY (SELECT {columns} FROM range({n_rows}) AS t (i)) TO '{path}'")
    place = current_folder(lake) / slot
    assert isinstance(place, StorePath)
    place.put(path)


@pytest.mark.parametrize("whole", [fetched.WHOLE, 0], ids=["fetched whole", "read by pieces"])
def test_an_open_reader_sees_each_list_whole(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(fetched, "WHOLE", whole)
    _list_of(lake, "0.parquet", "none", 0, tmp_path)
    _list_of(lake, "a.parquet", "r1", 1_000, tmp_path)
    _list_of(lake, "b.parquet", "r0", 500, tmp_path)
    point(lake, "r1")
    query = f"SELECT release_id, count(*) FROM ({current_view(lake)}) GROUP BY ALL"
    with connect() as con:
        assert con.sql(query).fetchall() == [("r1", 1_000)]
        _list_of(lake, "b.parquet", "r2", 3_000, tmp_path)
        assert con.sql(query).fetchall() == [("r1", 1_000)]
        point(lake, "r2")
        assert con.sql(query).fetchall() == [("r2", 3_000)]


def test_a_list_that_is_replaced_while_it_is_read_is_read_as_it_was(
    lake: Lake, tmp_path: Path
) -> None:
    _list_of(lake, "a.parquet", "r1", 100_000, tmp_path)
    url = str(current_folder(lake) / "a.parquet")
    with connect() as con:
        rows = con.sql(f"SELECT release_id, rank FROM read_parquet('{url}')")
        reader = rows.to_arrow_reader(1_000)
        n_rows, releases = 0, set()
        for number, batch in enumerate(reader):
            if number == 1:
                _list_of(lake, "a.parquet", "r2", 10, tmp_path)
            n_rows += batch.num_rows
            releases |= set(batch.column("release_id").to_pylist())
    assert (n_rows, releases) == (100_000, {"r1"})


@pytest.mark.parametrize("whole", [fetched.WHOLE, 0], ids=["fetched whole", "read by pieces"])
def test_threads_that_share_an_open_file_do_not_disturb_each_other(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(fetched, "WHOLE", whole)
    assert isinstance(lake.root, StorePath)
    (lake.root / "numbers").write_bytes(b"".join(n.to_bytes(4, "big") for n in range(50_000)))
    wrong: list[int] = []
    with fetched.Fetched().open(str(lake.root / "numbers")) as file:

        def look(first: int) -> None:
            for n in range(first, 50_000, 997):
                file.seek(4 * n)
                wrong.extend([n] if file.read(4) != n.to_bytes(4, "big") else [])

        threads = [threading.Thread(target=look, args=(first,)) for first in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert wrong == []


def test_a_large_list_that_is_replaced_while_it_is_read_is_an_error(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "WHOLE", 0)
    _list_of(lake, "a.parquet", "r1", 1_000, tmp_path)
    reader = fetched.Fetched().open(str(current_folder(lake) / "a.parquet"))
    _list_of(lake, "a.parquet", "r2", 500, tmp_path)
    with pytest.raises(StorageError, match="another writer put the same file"):
        reader.read(10)


def test_files_of_tables_come_once_and_few_are_kept(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        lake.append(NAME, {"ds": date(2026, 1, 5 + number)}, [row("n", date(2026, 1, 5 + number))])
    files, kept = fetched.Fetched(), []
    urls = lake.pin(NAME).files()
    for url in [*urls, *urls]:
        with files.open(url) as file:
            assert file.read(4) == b"PAR1"
    kept = list(files._copies.values())
    assert len(kept) == 3
    monkeypatch.setattr(fetched, "KEPT", kept[0].stat.st_size)
    lake.append(NAME, {"ds": MONDAY}, [row("more")])
    files.open(lake.pin(NAME).files()[0]).close()
    assert len(files._copies) == 1
    assert not any(each.path.exists() for each in kept)


def test_a_copy_that_went_to_make_room_comes_anew(lake: Lake) -> None:
    """It goes between two looks of another thread, or of whoever sweeps temporary folders."""
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    files, url = fetched.Fetched(), lake.pin(NAME).files()[0]
    files.open(url).close()
    files._copies[url].path.unlink()
    with files.open(url) as file:
        assert file.read(4) == b"PAR1"


def test_what_reads_a_pinned_version_or_the_list_tells_no_key_and_no_damage(
    lake: Lake, tmp_path: Path
) -> None:
    """A store that refuses is told as what it is: nothing is made anew for it, or given up."""
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    _list_of(lake, "a.parquet", "r1", 10, tmp_path)
    assert publications._release_in(lake, "a.parquet") == "r1"
    set_keys(STRANGER)
    with pytest.raises(StorageError, match="the key in AWS_ACCESS_KEY_ID") as caught:
        Borrowed(lake.root, {NAME: 1}, {}).lent(NAME)
    told = "".join(traceback.format_exception(caught.value))
    assert not [key for key in STRANGER if key in told]
    with pytest.raises(StorageError, match="the key in AWS_ACCESS_KEY_ID"):
        publications._release_in(lake, "a.parquet")


def test_what_a_store_told_duckdb_is_told_as_it_was(store: Server) -> None:
    StorePath("elsewhere", "lake", Storage(endpoint="http://127.0.0.1:9"))  # known from now on
    query = "SELECT * FROM read_parquet(['s3://elsewhere/lake/part-1.parquet'])"
    with (
        pytest.raises(UnreachableError) as caught,
        as_storage_errors("a stage"),
        reading() as con,
    ):
        con.sql(query)
    assert caught.value.what == "http://127.0.0.1:9 does not answer"
    assert caught.value.where == "s3://elsewhere/lake/part-1.parquet"
    assert "storage.endpoint" in caught.value.fix


def test_a_silent_store_is_not_taken_for_a_damaged_model_or_a_bad_file(store: Server) -> None:
    place = StorePath("elsewhere", "lake", Storage(endpoint="http://127.0.0.1:9"))
    with pytest.raises(UnreachableError):
        registry.load(place)
    with pytest.raises(UnreachableError):
        _hash_of(place, LandedFile("events", "one", 1, NOW, None))


def test_a_lost_file_and_a_reader_without_rights_are_told(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    pinned = lake.pin(NAME)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    assert texts(Lake(lake.root)) == ["first"]
    opened._kept.clear()  # what was opened with the owner's keys
    with pytest.raises(StorageError, match="may not do this") as caught:
        lake.append(NAME, {"ds": MONDAY}, [row("second")])
    assert caught.value.__cause__ is None
    monkeypatch.undo()
    lost = pinned.files()[0]
    fetched._filesystem()._copies.pop(lost, None)
    name = lost.removeprefix(f"{lake.root}/")
    (lake.root / name).unlink()
    with reading() as con, pytest.raises(duckdb.Error, match="there is no s3://"):
        con.sql(scan(pinned.table, [lost])).fetchall()


def test_threads_share_what_was_fetched(lake: Lake) -> None:
    lake.append(NAME, {"ds": MONDAY}, [row("first")])
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(texts(lake))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [["first"]] * 8


def test_a_model_is_there_when_all_of_it_is(lake: Lake, tmp_path: Path) -> None:
    interactions = data_and_holdout(tmp_path)[0]
    trained = train("bpr", {"n_factors": 4}, interactions, seed=0, epochs=1)
    saved = registry.save(trained, models_path(lake))
    assert registry.model_version(registry.load(saved.path)) == saved.model_version
    assert isinstance(saved.path, StorePath)
    (saved.path / MODEL_MARK).unlink()
    assert not registry.is_whole(saved.path)
    with pytest.raises(TrainingError, match="cannot be used"):
        registry.load(saved.path)
    before = size(models_path(lake))[1]
    assert before == 3
    now = datetime.now(UTC)
    assert _drop_left(lake, now, timedelta(hours=1)).did == "0 removed"  # its writer may live
    assert _drop_left(lake, now + timedelta(hours=2), timedelta(hours=1)).did == "1 removed"
    assert registry.save(trained, models_path(lake)) == saved
    assert _drop_left(lake, now + timedelta(hours=2), timedelta(hours=1)).did == "0 removed"
    assert registry.is_whole(saved.path)
    assert not isinstance(checkpoints_path(lake), StorePath)
