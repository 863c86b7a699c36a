"""Upkeep of Delta tables: small files into large ones, short logs, files that nobody needs.

None of it changes a row. A night that writes meanwhile loses nothing: where both touched the same
partition, the night reads again and computes again; upkeep leaves it for another time.
"""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from tasks.errors import StorageError, on_one_line
from tasks.lake import opened
from tasks.lake.tables import Lake, partition_of, writing
from tasks.places import Place, StorePath, size
from tasks.stores import refusal

SMALL = 32 * 2**20  # bytes; files below it are put together, up to LARGE
LARGE = 128 * 2**20
FEW = 1  # files of a partition that are not worth it


@dataclass(frozen=True)
class Kept:
    """What upkeep of one table did; bytes of its folder, log and all."""

    table: str
    n_compacted: int  # files that became fewer
    n_removed: int  # files that nobody needed
    bytes_before: int
    bytes_after: int


def keep_up(
    lake: Lake,
    name: str,
    keep: timedelta,
    *,
    compacts: bool = True,
    pinned: Collection[int] = (),
) -> Kept:
    """Compact, checkpoint and vacuum one table; doing it twice does nothing the second time.

    Files stay for `keep` after the table stopped needing them, and as long after a killed writer
    left them; those of versions that somebody has `pinned` stay.
    Raises StorageError where the table cannot be read or written.
    """
    lake.pin(name)  # made, where it is not there yet
    folder = lake.path(name)
    before = size(folder)[0]
    try:
        n_compacted = _compact(opened.table(folder), name) if compacts else 0
        n_removed = _vacuum(opened.table(folder), keep, _there(folder, pinned))
        _shorten_log(folder)
    except (DeltaError, OSError) as error:
        if isinstance(error, StorageError):
            raise
        if isinstance(folder, StorePath):
            raise refusal(error, folder.reached, str(folder)) from None
        raise StorageError(
            f"{name} could not be kept up: {on_one_line(error)}",
            where=str(folder),
            unchanged="no row was changed",
            fix="check space and permissions under paths.lake, then run the command again",
        ) from error
    return Kept(name, n_compacted, n_removed, before, size(folder)[0])


def _compact(delta: DeltaTable, name: str) -> int:
    """Put small files of one partition together; those of a partition that is one file stay."""
    paths = delta.get_add_actions(flatten=True)
    sizes = zip(
        paths.column("path").to_pylist(), paths.column("size_bytes").to_pylist(), strict=True
    )
    small = Counter(tuple(partition_of(path).items()) for path, n_bytes in sizes if n_bytes < SMALL)
    n_fewer = 0
    for partition in (each for each, n_files in sorted(small.items()) if n_files > FEW):
        filters = [(key, "=", value) for key, value in partition]
        try:
            done = delta.optimize.compact(
                partition_filters=filters, target_size=LARGE, writer_properties=writing(name)
            )
        except CommitFailedError:  # a night writes there: another time
            continue
        n_fewer += done["numFilesRemoved"] - done["numFilesAdded"]
    return n_fewer


def _there(folder: Place, versions: Collection[int]) -> list[int]:
    """Those of which the log still tells."""
    found = []
    for version in sorted(versions):
        with suppress(DeltaError):
            found.append(opened.table(folder, version).version())
    return found


def _vacuum(delta: DeltaTable, keep: timedelta, pinned: list[int]) -> int:
    hours = int(keep.total_seconds() // 3600)

    def vacuum(*, dry_run: bool) -> list[str]:
        return delta.vacuum(
            retention_hours=hours,
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=True,
            keep_versions=pinned or None,
        )

    # it notes itself in the log even where there is nothing to do
    return len(vacuum(dry_run=False)) if vacuum(dry_run=True) else 0


def _shorten_log(folder: Place) -> None:
    """Opening a table reads its log since the last checkpoint; what is older may expire."""
    delta = opened.table(folder)
    checkpoint = folder / "_delta_log" / f"{delta.version():020d}.checkpoint.parquet"
    if not checkpoint.exists():
        delta.create_checkpoint()
    delta.cleanup_metadata()
