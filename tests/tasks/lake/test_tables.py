from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.errors import (
    ConflictError,
    NightrankError,
    StorageError,
    TrainingError,
)
from tasks.lake.tables import Lake, arrow_schema, partition_of
from tests.scenarios.nights import barrier, start

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)


def night(run_id: str, ds: date = MONDAY) -> dict[str, Any]:
    at = datetime(2026, 1, 6, 3, tzinfo=UTC)
    return {
        "run_id": run_id,
        "outcome": "published",
        "reason": "because",
        "release_id": None,
        "started_at": at,
        "ended_at": at,
        "ds": ds,
    }


def run_ids(lake: Lake, ds: date = MONDAY) -> list[str]:
    rows = lake.rows(lake.pin("ops.nights"), {"ds": ds}).to_pylist()
    return sorted(row["run_id"] for row in rows)


def test_an_absent_table_is_made_empty(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    pinned = lake.pin("clean.events")
    assert (pinned.version, pinned.files()) == (0, [])


def test_append_keeps_what_was_there_in_one_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for run_id in ("a", "b"):
        lake.append("ops.nights", {"ds": MONDAY}, [night(run_id)])
    lake.append("ops.nights", {"ds": TUESDAY}, [night("c", TUESDAY)])
    assert (run_ids(lake), run_ids(lake, TUESDAY)) == (["a", "b"], ["c"])
    assert sorted(lake.pin("ops.nights").days()) == [MONDAY, TUESDAY]
    assert len(lake.pin("ops.nights").files()) == 2


def test_replace_leaves_other_partitions_alone_and_refuses_their_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("ops.nights", {"ds": MONDAY}, [night("a")])
    stranger = pa.Table.from_pylist([night("x")], schema=arrow_schema("ops.nights"))
    with pytest.raises(StorageError):
        lake.replace(lake.pin("ops.nights"), {"ds": TUESDAY}, stranger)
    assert run_ids(lake) == ["a"]


def test_an_empty_stream_clears_a_partition(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("ops.nights", {"ds": MONDAY}, [night("a")])
    lake.replace(lake.pin("ops.nights"), {"ds": MONDAY}, arrow_schema("ops.nights").empty_table())
    assert run_ids(lake) == []


@pytest.mark.parametrize(
    ("why", "kind", "told"),
    [
        (TrainingError("no", where="bpr", unchanged="-", fix="-"), TrainingError, "no"),
        (RuntimeError("no room"), StorageError, "cannot write ops.nights: no room"),
    ],
)
def test_what_stops_the_rows_is_told_as_it_is(
    why: Exception, kind: type[NightrankError], told: str, tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    lake.append("ops.nights", {"ds": MONDAY}, [night("first")])

    def batches() -> Iterator[pa.RecordBatch]:
        yield from pa.Table.from_pylist([night("second")], schema=schema).to_batches()
        raise why

    schema = arrow_schema("ops.nights")
    rows = pa.RecordBatchReader.from_batches(schema, batches())
    with pytest.raises(kind) as caught:
        lake.rewrite("ops.nights", {"ds": MONDAY}, lambda _: rows)
    assert caught.value.what == told
    assert run_ids(lake) == ["first"]


def test_a_write_through_an_old_version_conflicts(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = lake.pin("ops.nights")
    lake.append("ops.nights", {"ds": MONDAY}, [night("a")])
    with pytest.raises(ConflictError):
        lake.replace(old, {"ds": MONDAY}, arrow_schema("ops.nights").empty_table())
    assert run_ids(lake) == ["a"]


def _append(root: Path, name: str, meeting: Any) -> None:
    meeting.wait()
    Lake(root).append("ops.nights", {"ds": MONDAY}, [night(name)])


def test_processes_that_append_to_one_partition_lose_nothing(tmp_path: Path) -> None:
    Lake(tmp_path).pin("ops.nights")
    meeting = barrier(3)
    workers = [start(_append, tmp_path, f"p{number}", meeting) for number in range(3)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert run_ids(Lake(tmp_path)) == ["p0", "p1", "p2"]


def test_an_unwritable_lake_names_its_folder(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "file")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        lake.pin("ops.nights")


def test_partition_values_are_unquoted() -> None:
    assert partition_of("ds=2026-01-05/model=a%20b/p.parquet") == {
        "ds": "2026-01-05",
        "model": "a b",
    }


@pytest.mark.parametrize("name", ["my lake", "é", "a#b", 'a"b', "a'b", "a+b"])
def test_a_lake_may_lie_in_any_ordinary_folder(tmp_path: Path, name: str) -> None:
    lake = Lake(tmp_path / name)
    lake.append("ops.nights", {"ds": MONDAY}, [night("a")])
    lake.append("ops.nights", {"ds": MONDAY}, [night("b")])
    assert run_ids(lake) == ["a", "b"]
    assert list(lake.pin("ops.nights").days()) == [MONDAY]
