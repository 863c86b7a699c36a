"""The Delta tables that this process has opened: asking again for the newest version is two looks.

Opening one reads its log from the last checkpoint on, a few milliseconds; a night asks hundreds of
times. What is kept is what a new opening would find: the newest file of the log is still the same
file, in the same place, and none has come after it.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

MOST = 512  # tables; those of many lakes, in a process that sees many

_Log = tuple[str, int, int, int]


@dataclass(frozen=True)
class Opened:
    """One version of a table, and what its log says of every file of it."""

    version: int
    actions: pa.Table


@dataclass(frozen=True)
class _Kept:
    found: Opened
    delta: DeltaTable
    log: _Log


_kept: dict[Path, _Kept] = {}
# delta-rs cannot be used in a fork: an opening says so, a write through an open table would hang.
os.register_at_fork(after_in_child=_kept.clear)


def newest(folder: Path) -> Opened:
    """The newest version of the table in a folder. Raises what delta-rs raises."""
    kept = _kept.get(folder)
    if kept is not None and _is_newest(folder, kept):
        return kept.found
    return keep(folder, DeltaTable(str(folder)))


@lru_cache(maxsize=64)
def at_version(folder: Path, version: int) -> Opened:
    """One version of the table in a folder, which never changes. Raises what delta-rs raises."""
    delta = DeltaTable(str(folder), version=version)
    return Opened(version, pa.table(delta.get_add_actions(flatten=True)))


def keep(folder: Path, delta: DeltaTable) -> Opened:
    """Keep a table that is open, to be asked again; nobody else may write through it."""
    found = Opened(delta.version(), pa.table(delta.get_add_actions(flatten=True)))
    log = _log(folder, found.version)
    if log is not None:
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[folder] = _Kept(found, delta, log)
    return found


def taken(folder: Path, version: int) -> DeltaTable:
    """One version of a table to write through, which moves it on: so nobody else holds it."""
    kept = _kept.pop(folder, None)
    if kept is not None and kept.found.version == version and kept.log == _log(folder, version):
        return kept.delta
    return DeltaTable(str(folder), version=version)


def _is_newest(folder: Path, kept: _Kept) -> bool:
    version = kept.found.version
    return kept.log == _log(folder, version) and _log(folder, version + 1) is None


def _log(folder: Path, version: int) -> _Log | None:
    """Which file of the log made a version; None where there is none, or none to be seen.

    Its true place too: delta-rs writes there, also when a link to the lake has come to lead
    elsewhere, to a copy that shares its files. A folder that cannot be looked into is for the
    opening to report: what was just written stands.
    """
    try:
        seen = (folder / "_delta_log" / f"{version:020d}.json").stat()
    except OSError:
        return None
    return os.path.realpath(folder), seen.st_ino, seen.st_mtime_ns, seen.st_size
