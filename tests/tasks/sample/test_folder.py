"""Safe to run twice, safe to kill, and no hand on what is not ours."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import UsageError
from tasks.sample import ShopSettings, shop, write_sample
from tests.tasks.sample.conftest import Sample, tree
from tests.tasks.sample.test_files import WRITE_SMALL

TINY = ShopSettings(n_days=2, n_users=60, n_items=60)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of the tiny sample, written undisturbed."""
    root = tmp_path_factory.mktemp("tiny")
    write_sample(TINY, root)
    return tree(root)


def test_second_run_returns_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = write_sample(TINY, tmp_path)
    monkeypatch.setattr(shop, "build_world", None)
    assert write_sample(TINY, tmp_path) == counts


def test_progress_counts_days(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_sample(TINY, tmp_path, lambda done, days: steps.append((done, days)))
    assert steps == [(1, 2), (2, 2)]


def test_other_settings_replace_the_sample(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    write_sample(replace(TINY, seed=5), tmp_path)
    assert tree(tmp_path) != tiny
    write_sample(TINY, tmp_path)
    assert tree(tmp_path) == tiny


def test_damaged_sample_is_written_again(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    write_sample(TINY, tmp_path)
    next(tmp_path.rglob("part-2*")).unlink()
    write_sample(TINY, tmp_path)
    assert tree(tmp_path) == tiny


@pytest.mark.parametrize("name", ["landing/events/2026.csv", "landing/items.csv", "truth/a.txt"])
@pytest.mark.parametrize("has_sample", [True, False])
def test_foreign_files_are_left_alone(tmp_path: Path, name: str, has_sample: bool) -> None:
    if has_sample:
        write_sample(replace(TINY, seed=7), tmp_path)
    foreign = tmp_path / name
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="no sample shop wrote"):
        write_sample(TINY, tmp_path)
    assert tree(tmp_path) == before
    assert not (tmp_path / ".sample-unfinished").exists()


def test_files_named_like_ours_but_not_ours_are_left_alone(tmp_path: Path) -> None:
    real = tmp_path / "landing/events/dt=2026-01-05/part-0.jsonl.gz"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real shop")
    with pytest.raises(UsageError, match="no sample shop wrote"):
        write_sample(TINY, tmp_path)
    assert real.read_bytes() == b"a real shop"


def test_empty_landing_folder_is_used(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    (tmp_path / "landing").mkdir()
    write_sample(TINY, tmp_path)
    assert tree(tmp_path) == tiny


@pytest.mark.parametrize("nth", range(5))
def test_a_kill_between_two_renames_is_mended(
    tmp_path: Path, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    write_sample(replace(TINY, seed=9), tmp_path)
    rename, calls = Path.rename, iter(range(100))

    def killed(self: Path, target: Path) -> Path:
        if next(calls) == nth:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            write_sample(TINY, tmp_path)
    write_sample(TINY, tmp_path)
    assert tree(tmp_path) == tiny


@pytest.mark.parametrize("n_files", [3, 20])
def test_a_killed_process_leaves_no_half_sample(
    tmp_path: Path, small: Sample, n_files: int
) -> None:
    command = [sys.executable, "-c", WRITE_SMALL, str(tmp_path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    while len(tree(tmp_path)) < n_files and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "landing").exists()
    write_sample(small.settings, tmp_path)
    assert tree(tmp_path) == tree(small.root)
