"""Landed files on this machine's disk: as they lie there, or copies of those of a store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import SourceError
from tasks.places import Place, StorePath
from tasks.records import LandedFile
from tasks.scratch import scratch


@contextmanager
def at_hand(landing: Place, files: Sequence[LandedFile]) -> Iterator[Path]:
    """A landing folder on disk that has these files; one of copies goes when it is left.

    Raises SourceError where a file is gone, or not the one that was listed.
    """
    if isinstance(landing, Path):
        yield landing
        return
    with scratch("landing") as folder:
        for file in files:
            _copy(landing, file, folder / file.path)
        yield folder


def _copy(landing: StorePath, file: LandedFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        (landing / file.path).fetch(target)
        problem = "" if target.stat().st_size == file.n_bytes else "changed while it was read"
    except FileNotFoundError:
        problem = "is gone"
    if problem:
        raise SourceError(
            f"{file.path} {problem}",
            where=str(landing),
            unchanged="no row of this file was written; what was served stays served",
            fix="see that the file stays where it is; then run the command again",
        )
