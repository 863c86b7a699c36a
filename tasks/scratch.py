"""What a process makes for itself: folders, files, servers; it sweeps up after killed ones."""

import os
import platform
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from itertools import count
from pathlib import Path

from tasks.places import Place, StorePath

OWNER = "NIGHTRANK_OWNER"  # in the environment of what a process starts: its process id
_PREFIX = f"nightrank-{platform.node()}-"
_PROCESSES = Path("/proc")
_numbers = count(1)


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A folder that goes when it is left; if this process is killed, when the next one comes."""
    _sweep_folders(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-{what}-") as folder:
        yield Path(folder)


@contextmanager
def replacing(target: Place) -> Iterator[Path]:
    """A path on disk to write to, which then takes the place of `target`: nobody sees half a file.

    After an error it goes and `target` stays; what killed writers left beside goes too. On disk it
    lies beside and is renamed; to a store it is put.
    """
    if isinstance(target, StorePath):
        with scratch("put") as folder:
            yield folder / target.name
            target.put(folder / target.name)
        return
    ours = f".{target.name}.{_PREFIX}"
    for left in _left_by_killed(target.parent, ours):
        left.unlink(missing_ok=True)
    beside = target.with_name(f"{ours}{os.getpid()}-{next(_numbers)}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def making(target: Place, last: str = "") -> Iterator[Path]:
    """A folder beside `target` to write to, which then gets its name, unless another run was first.

    After an error it goes; what killed runs left beside, under whatever name, goes too. To a store
    its files are put one by one, the one named `last` after the others: with it, all are there.
    """
    if isinstance(target, StorePath):
        with scratch("put") as folder:
            yield folder
            for path in sorted(folder.iterdir(), key=lambda each: (each.name == last, each.name)):
                (target / path.name).put(path)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    ours = f".making-{_PREFIX}"
    for left in _left_by_killed(target.parent, ours):
        shutil.rmtree(left, ignore_errors=True)
    beside = target.with_name(f"{ours}{os.getpid()}-{next(_numbers)}")
    beside.mkdir()
    try:
        yield beside
        try:
            beside.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def probing(where: Path) -> Iterator[Path]:
    """A hidden folder to try things out in, which goes when it is left.

    What killed ones left there goes too. Raises OSError where nothing can be written.
    """
    ours = f".probing-{_PREFIX}"
    for left in _left_by_killed(where, ours):
        shutil.rmtree(left, ignore_errors=True)
    folder = where / f"{ours}{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def left_by_killed(where: Path) -> Iterator[Path]:
    """What killed processes of this machine left hidden below a folder, at any depth."""
    for path in where.rglob(f".*{escape(_PREFIX)}*"):
        if _is_gone(path.name.split(_PREFIX, 1)[1].split("-")[0]):
            yield path


@cache
def _sweep_folders(where: str) -> None:
    for folder in _left_by_killed(Path(where), _PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def _left_by_killed(where: Path, prefix: str) -> Iterator[Path]:
    """What is named by the prefix and then the id of a process that is gone."""
    for left in where.glob(f"{escape(prefix)}*"):
        if _is_gone(left.name.removeprefix(prefix).split("-")[0]):
            yield left


def own_what_is_started() -> None:
    """Mark what this process starts as its own, and end the servers of processes that are gone."""
    os.environ[OWNER] = str(os.getpid())
    for process in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another account's
            facts = (process / "environ").read_bytes().split(b"\0")
            owner = next((each for each in facts if each.startswith(f"{OWNER}=".encode())), b"=")
            command = (process / "cmdline").read_bytes()
            if b"prefect.server" in command and _is_gone(owner.split(b"=")[1].decode()):
                os.kill(int(process.name), signal.SIGTERM)


def _is_gone(owner: str) -> bool:
    is_known = owner.isdigit() and (_PROCESSES / "self").exists()
    return is_known and not (_PROCESSES / owner).exists()
