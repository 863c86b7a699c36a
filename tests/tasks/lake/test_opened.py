"""What is kept open is what a new opening finds."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tasks.errors import ConflictError
from tasks.lake import opened
from tasks.lake.tables import Lake
from tests.disk import on_disk

NAME = "ops.nights"
MONDAY = date(2026, 1, 5)
NOW = datetime(2026, 1, 6, 3, tzinfo=UTC)


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every opening of a table, as it is made."""
    made: list[str] = []

    def watched(path: str, **more: Any) -> DeltaTable:
        made.append(path)
        return DeltaTable(path, **more)

    monkeypatch.setattr(opened, "DeltaTable", watched)
    return made


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def write(lake: Lake, text: str, ds: date = MONDAY) -> int:
    """Replace a date's rows by one of this text; the version that this made."""
    row = {
        "run_id": "r",
        "outcome": "held",
        "reason": text,
        "release_id": None,
        "started_at": NOW,
        "ended_at": NOW,
        "ds": ds,
    }
    return lake.put(NAME, {"ds": ds}, [row]).version


def texts(lake: Lake) -> list[str]:
    pinned = lake.pin(NAME)
    return [
        each["reason"]
        for day in sorted(pinned.days())
        for each in lake.rows(pinned, {"ds": day}).to_pylist()
    ]


def by_path(actions: pa.Table) -> list[dict[str, Any]]:
    return sorted(actions.to_pylist(), key=lambda action: str(action["path"]))


def test_one_opening_serves_a_process(lake: Lake, openings: list[str]) -> None:
    for number in range(25):  # past two checkpoints of the log
        assert write(lake, str(number)) == number + 1
        assert texts(lake) == [str(number)]
    assert openings == [str(lake.path(NAME))]  # none was there yet


def test_what_is_kept_equals_a_new_opening(lake: Lake) -> None:
    for number in range(25):
        write(lake, str(number), MONDAY + timedelta(days=number % 7))
        ours, fresh = lake.pin(NAME), DeltaTable(str(lake.path(NAME)))
        assert ours.version == fresh.version()
        assert by_path(ours.actions) == by_path(pa.table(fresh.get_add_actions(flatten=True)))


def test_what_another_process_wrote_is_seen(lake: Lake, openings: list[str]) -> None:
    write(lake, "ours")
    kept = dict(opened._kept)
    write(lake, "another's")  # leaves what is kept as if somebody else had
    opened._kept.update(kept)
    assert texts(lake) == ["another's"]
    assert len(openings) == 2


def test_a_version_that_was_pinned_stays_what_it_is(lake: Lake) -> None:
    write(lake, "first")
    pinned = lake.pin(NAME)
    files = pinned.files()
    write(lake, "second")
    assert (pinned.version, pinned.files()) == (1, files)
    with pytest.raises(ConflictError):
        lake.replace(pinned, {"ds": MONDAY}, lake.rows(pinned, {}))


def replaced(folder: Path, other: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def removed(folder: Path, _: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "found"), [(replaced, ["another's"]), (removed, [])], ids=["replaced", "removed"]
)
def test_a_folder_that_is_no_longer_the_same(
    lake: Lake, tmp_path: Path, change: Callable[[Path, Path], None], found: list[str]
) -> None:
    other = Lake(tmp_path / "other")
    write(lake, "ours")
    write(other, "another's")
    change(on_disk(lake.root), on_disk(other.root))
    assert texts(lake) == found
    assert write(lake, "after") == len(found) + 1


def test_a_process_that_sees_many_lakes_keeps_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "MOST", 3)
    for number in range(5):
        write(Lake(tmp_path / str(number)), "x")
        assert len(opened._kept) <= 3


def test_a_version_whose_log_cannot_be_looked_at_is_given_and_not_kept(
    lake: Lake, tmp_path: Path
) -> None:
    write(lake, "ours")
    (in_its_place := tmp_path / "file").touch()
    assert opened.keep(in_its_place, DeltaTable(str(lake.path(NAME)))).version == 1
    assert in_its_place not in opened._kept


def linked(one: Path, other: Path) -> None:
    shutil.copytree(one, other, copy_function=os.link)  # as backups are: not a byte is another


@pytest.mark.parametrize("brought", [linked, shutil.move], ids=["linked", "moved"])
def test_what_is_written_after_a_lake_was_swapped_is_in_the_new_one(
    tmp_path: Path, brought: Callable[[Path, Path], None]
) -> None:
    one, other, current = (tmp_path / name for name in ("one", "other", "current"))
    one.mkdir()
    current.symlink_to(one)
    write(lake := Lake(current), "before")
    brought(one, other)
    current.unlink()
    current.symlink_to(other)
    assert write(lake, "after") == 2
    assert texts(lake) == ["after"]
    assert (len(texts(Lake(one))) == 1) == (brought is linked)
    assert "after" not in texts(Lake(one))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_keeps_nothing(lake: Lake) -> None:
    # delta-rs says that it cannot be used there when a table is opened; a write would hang
    write(lake, "ours")
    assert opened._kept
    if not (child := os.fork()):
        os._exit(len(opened._kept))
    assert os.waitpid(child, 0)[1] == 0
    assert opened._kept
