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


@pytest.mark.parametrize(
    ("limit", "mib"), [("1GB", 953), ("512MiB", 512), ("1.5GiB", 1536), ("64MB", 61)]
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
