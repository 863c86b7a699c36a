"""Sessions clean up after themselves, and after processes that were killed."""

import tempfile
from pathlib import Path

import pytest

from tasks.lake import session as sessions
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.settings import Compute


@pytest.fixture
def spills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_session_leaves_no_folder(spills: Path) -> None:
    with session(Lake(spills / "lake"), Compute(threads=1)) as s:
        assert s.spill.is_dir()
        assert s.spill.parent == spills
    assert list(spills.glob("nightrank-*")) == []


def test_folders_of_killed_processes_are_removed_and_others_stay(spills: Path) -> None:
    gone = spills / f"{sessions._SPILL}4194305-x"  # above the largest process number
    alive, elsewhere = spills / f"{sessions._SPILL}1-x", spills / "nightrank-spill-other-4194305-x"
    for folder in (gone, alive, elsewhere):
        folder.mkdir()
    with session(Lake(spills / "lake"), Compute(threads=1)):
        pass
    assert (gone.exists(), alive.exists(), elsewhere.exists()) == (False, True, True)
