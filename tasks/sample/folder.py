"""The two folders of a sample: written beside, swapped in by rename, the marker last.

    root/.sample-unfinished/{landing,truth}   while it is being written
    root/truth/made-by-nightrank              ours to replace; there before landing/ is
    root/truth/world.json                     finished: settings and counts

So a kill at any moment leaves the old sample, the new one, or one that is known as unfinished.
"""

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasks.errors import UsageError
from tasks.sample.truth import MARKER

OURS = "made-by-nightrank"
DAY = r"dt=\d{4}-\d\d-\d\d"
LANDED = re.compile(
    rf"(events|impressions)/{DAY}/part-\d(-again)?\.jsonl\.gz|(items|users)/{DAY}/\w+\.csv"
)
KNOWN = re.compile(rf"[a-z]+\.parquet|{MARKER}(\.new)?|{OURS}")


class SampleFolder:
    """Holds `root` for one writer at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.landing = root / "landing"
        self.truth = root / "truth"
        self._unfinished = root / ".sample-unfinished"
        self.new_landing = self._unfinished / "landing"
        self.new_truth = self._unfinished / "truth"

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.root, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def finished(self, made_of: dict[str, Any]) -> dict[str, int] | None:
        """Counts of the sample that is here, if it is this one and whole."""
        marker = self.truth / MARKER
        if not marker.is_file():
            return None
        facts = json.loads(marker.read_text())
        counts: dict[str, int] = facts.pop("counts")
        size = self.size(self.landing)
        is_whole = size == (counts["n_files"], counts["n_bytes"])
        return counts if is_whole and facts == json.loads(json.dumps(made_of)) else None

    def size(self, folder: Path) -> tuple[int, int]:
        """Number of files and their bytes."""
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    def refuse_foreign_files(self) -> None:
        """Refuse to replace what no sample shop has written."""
        foreign = _files_unlike(self.truth, KNOWN) + _files_unlike(self.landing, LANDED)
        is_ours = (self.truth / OURS).is_file()
        if not is_ours:
            foreign += [p for folder in (self.truth, self.landing) for p in _files(folder)]
        if foreign:
            raise UsageError(
                "landing/ or truth/ holds files that no sample shop wrote",
                where=str(foreign[0]),
                unchanged="no file was written or removed",
                fix="choose an empty folder for the sample",
            )

    def begin(self) -> None:
        """Start over beside the folders."""
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self.new_landing.mkdir(parents=True)
        self.new_truth.mkdir()
        (self.new_truth / OURS).touch()

    def publish(self, facts: dict[str, Any]) -> None:
        """Swap the new folders in; a kill between any two lines leaves an unfinished sample."""
        (self.truth / MARKER).unlink(missing_ok=True)
        for folder in (self.landing, self.truth):
            if folder.exists():
                folder.rename(self._unfinished / f"old-{folder.name}")
        self.new_truth.rename(self.truth)
        self.new_landing.rename(self.landing)
        new_marker = self.truth / f"{MARKER}.new"
        new_marker.write_text(json.dumps(facts, indent=2) + "\n")
        new_marker.rename(self.truth / MARKER)
        shutil.rmtree(self._unfinished)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _files_unlike(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    names = {path: path.relative_to(folder).as_posix() for path in _files(folder)}
    return [path for path, name in names.items() if not pattern.fullmatch(name)]
