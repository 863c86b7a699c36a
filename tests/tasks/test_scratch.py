"""Processes clean up after themselves, and after others that were killed."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tasks import scratch as scratches
from tasks.scratch import OWNER, own_what_is_started, scratch

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
