"""The Delta tables that this process has opened: asking again for the newest version is two looks.

Opening one reads its log from the last checkpoint on, a few milliseconds; a night asks hundreds of
times. What is kept is what a new opening would find: the newest file of the log is still the same
file, in the same place, and none has come after it. On a store it is the same where name, size and
time are.
"""

import os
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from tasks.places import Place, StorePath
from tasks.stores import UnclearError, asking, refusal

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


_kept: dict[Place, _Kept] = {}
# delta-rs cannot be used in a fork: an opening says so, a write through an open table would hang.
os.register_at_fork(after_in_child=_kept.clear)


def options(folder: Place) -> dict[str, str] | None:
    """What delta-rs must be told to reach a folder."""
    return folder.reached.delta_options(folder.bucket) if isinstance(folder, StorePath) else None


def table(folder: Place, version: int | None = None) -> DeltaTable:
    """Open the table in a folder, at its newest version or another. Raises what delta-rs raises.

    What a store refuses comes as a StoreError, and nothing of its answer with what is handed on:
    delta-rs would quote it.
    """
    try:
        return DeltaTable(str(folder), version=version, storage_options=options(folder))
    except TableNotFoundError:
        raise
    except (DeltaError, OSError) as error:
        if not isinstance(folder, StorePath):
            raise
        refused = refusal(error, folder.reached, str(folder))
        if not isinstance(refused, UnclearError):
            raise refused from None
        # for the asker, who knows what it means
        raise DeltaError(f"its log is not whole, or {refused.what}") from None


def newest(folder: Place) -> Opened:
    """The newest version of the table in a folder. Raises what delta-rs raises."""
    kept = _kept.get(folder)
    if kept is not None and _is_newest(folder, kept):
        return kept.found
    return keep(folder, table(folder))


@lru_cache(maxsize=64)
def at_version(folder: Place, version: int) -> Opened:
    """One version of the table in a folder, which never changes. Raises what delta-rs raises."""
    delta = table(folder, version)
    return Opened(version, pa.table(delta.get_add_actions(flatten=True)))


def keep(folder: Place, delta: DeltaTable) -> Opened:
    """Keep a table that is open, to be asked again; nobody else may write through it."""
    found = Opened(delta.version(), pa.table(delta.get_add_actions(flatten=True)))
    log = _log(folder, found.version)
    if log is not None:
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[folder] = _Kept(found, delta, log)
    return found


def taken(folder: Place, version: int) -> DeltaTable:
    """One version of a table to write through, which moves it on: so nobody else holds it."""
    kept = _kept.pop(folder, None)
    if kept is not None and kept.found.version == version and kept.log == _log(folder, version):
        return kept.delta
    return table(folder, version)


def _is_newest(folder: Place, kept: _Kept) -> bool:
    version = kept.found.version
    if isinstance(folder, StorePath):
        now, after = _logs(folder, version, version + 1)
        return kept.log == now and after is None
    return kept.log == _log(folder, version) and _log(folder, version + 1) is None


def _log(folder: Place, version: int) -> _Log | None:
    """Which file of the log made a version; None where there is none, or none to be seen.

    Its true place too: delta-rs writes there, also when a link to the lake has come to lead
    elsewhere, to a copy that shares its files. A folder that cannot be looked into is for the
    opening to report: what was just written stands.
    """
    if isinstance(folder, StorePath):
        return _logs(folder, version)[0]
    try:
        seen = (folder / _name(version)).stat()
    except OSError:
        return None
    return os.path.realpath(folder), seen.st_ino, seen.st_mtime_ns, seen.st_size


def _logs(folder: StorePath, *versions: int) -> list[_Log | None]:
    """The same on a store, for several versions."""
    keys = [(folder / _name(version)).key for version in versions]
    with asking(folder.reached, str(folder)):
        seen = folder.reached.objects(folder.bucket).get_file_info(keys)
    return [
        (str(folder), 0, each.mtime_ns or 0, each.size) if each.is_file else None for each in seen
    ]


def _name(version: int) -> str:
    return f"_delta_log/{version:020d}.json"
