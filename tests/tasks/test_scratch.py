"""Processes clean up after themselves, and after others that were killed."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tasks import scratch as scratches
from tasks.scratch import OWNER, making, own_what_is_started, replacing, scratch

GONE = 4194305  # above the largest process number
SERVER = "import time\ntime.sleep(60)  # prefect.server.api.server"


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_goes_with_its_work(temp: Path) -> None:
    with scratch("train") as folder:
        assert folder.is_dir()
        assert folder.parent == temp
    assert list(temp.iterdir()) == []


def test_folders_of_killed_processes_are_removed_and_others_stay(temp: Path) -> None:
    gone, alive = (temp / f"{scratches._PREFIX}{owner}-spill-x" for owner in (GONE, 1))
    elsewhere = temp / f"nightrank-other-{GONE}-spill-x"
    for folder in (gone, alive, elsewhere):
        folder.mkdir()
    with scratch("spill"):
        pass
    assert (gone.exists(), alive.exists(), elsewhere.exists()) == (False, True, True)


@pytest.mark.parametrize("is_gone", [True, False])
def test_only_the_server_of_a_killed_process_is_ended(
    is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OWNER, "")
    owner = str(GONE if is_gone else os.getpid())
    server = subprocess.Popen([sys.executable, "-c", SERVER], env={**os.environ, OWNER: owner})
    try:
        time.sleep(0.5)
        own_what_is_started()
        time.sleep(0.5)
        assert (server.poll() is not None) == is_gone
        assert os.environ[OWNER] == str(os.getpid())
    finally:
        server.kill()
        server.wait()


def test_a_file_is_replaced_when_all_of_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with replacing(target) as first, replacing(target) as second:
        assert first.parent == second.parent == tmp_path
        assert first != second
        first.write_text("first")
        second.write_text("second")
        assert not target.exists()
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_nothing_beside(
    tmp_path: Path,
) -> None:
    def write_half(path: Path) -> None:
        path.write_text("ne")
        raise OSError("full")

    (target := tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="full"), replacing(target) as beside:
        write_half(beside)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_writers_left_beside_goes_and_that_of_others_stays(tmp_path: Path) -> None:
    ours = f".a[1].txt.{scratches._PREFIX}"
    gone = [tmp_path / f"{ours}{GONE}-1", tmp_path / f"{ours}{GONE}-1.wal"]
    others = [tmp_path / f"{ours}1-1", tmp_path / f".a[1].txt.nightrank-other-{GONE}-1"]
    for left in gone + others:
        left.touch()
    with replacing(tmp_path / "a[1].txt") as beside:
        beside.touch()
    assert set(tmp_path.iterdir()) == {tmp_path / "a[1].txt", *others}


def test_a_folder_gets_its_name_when_all_of_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / "models" / "a"
    with making(target) as first, making(target) as second:
        (first / "weights").write_text("first")
        (second / "weights").write_text("second")
        assert not target.exists()
    # the second was done before
    assert (target / "weights").read_text() == "second"
    assert list(target.parent.iterdir()) == [target]


def test_folders_that_killed_runs_left_beside_go_whatever_they_were_to_be(tmp_path: Path) -> None:
    ours = f".making-{scratches._PREFIX}"
    gone, other = tmp_path / f"{ours}{GONE}-7", tmp_path / f"{ours}1-7"
    for left in (gone, other):
        left.mkdir()
        (left / "weights").touch()
    with making(tmp_path / "b"):
        pass
    assert set(tmp_path.iterdir()) == {tmp_path / "b", other}


def test_a_folder_that_could_not_be_written_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), making(tmp_path / "a"):
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []
