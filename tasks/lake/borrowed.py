"""Tables of another lake to read, at pinned versions, as they are known now or were known then."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from deltalake.exceptions import DeltaError

from expectations.catalogue import catalogue
from tasks.errors import StorageError
from tasks.lake import opened
from tasks.lake.connection import reading
from tasks.lake.known import Counts, Known
from tasks.lake.literals import literal
from tasks.lake.tables import Lake, Pinned, scan

AsOf = Literal["then", "now"]
_SNAPSHOTS = ("clean.items", "clean.users")
_DELIVERED = "file_id <> 'derived'"  # who borrows derives them again, from the events it sees


@dataclass(frozen=True)
class Borrowed:
    """What is lent: tables, each at a version.

    `closes` says for each dataset up to when what arrived is known; empty: all is, as known now.
    `by_row` are the datasets whose records say themselves when they arrived, not their files.
    """

    root: Path
    versions: Mapping[str, int]
    closes: Mapping[str, datetime]
    by_row: tuple[str, ...] = ()

    @property
    def as_of(self) -> AsOf:
        """Whether it is as known then."""
        return "then" if self.closes else "now"

    def lent(self, name: str) -> Pinned | None:
        """The table at its version, as known; None where it is not lent.

        Raises StorageError where that version is gone.
        """
        if name not in self.versions:
            return None
        table, folder = catalogue()[name], Lake(self.root).path(name)
        version = self.versions[name]
        try:
            actions = opened.at_version(folder, version).actions
        except (DeltaError, OSError) as error:
            raise StorageError(
                f"version {version} of {name} cannot be read: {str(error).splitlines()[0]}",
                where=str(folder),
                unchanged="nothing was written",
                fix="cancel the backfill that pinned it and run its command again: it pins anew",
            ) from error
        return Pinned(table, folder, version, actions, self._known(name, folder, version))

    def _known(self, name: str, folder: Path, version: int) -> Known:
        layer, dataset = name.split(".", 1)
        if name == "ops.files":
            return Known(condition=self._files_known())
        if layer != "clean":
            return Known()
        closed_at = self.closes.get(dataset)
        conditions = [_DELIVERED] if name in _SNAPSHOTS else []
        if closed_at is not None:
            conditions.append(f"arrived_at <= {literal(closed_at)}")
        known = Known(closed_at, " AND ".join(conditions) or "true")
        if not conditions:
            return known
        return replace(known, counts=_counts(folder, version, name, known))

    def _files_known(self) -> str:
        cases = " ".join(
            f"WHEN dataset = {literal(dataset)} THEN arrived_at <= {literal(at)}"
            for dataset, at in sorted(self.closes.items())
            if dataset not in self.by_row
        )
        return f"CASE {cases} ELSE true END" if cases else "true"


@lru_cache(maxsize=64)
def _counts(folder: Path, version: int, name: str, known: Known) -> Counts:
    """Rows of each date that are shown, and how many of them are superseded."""
    table = catalogue()[name]
    files = Pinned(table, folder, version, opened.at_version(folder, version).actions).files()
    shown = known.select(scan(table, files), table.column_names)
    superseded = "count(superseded_at)" if "superseded_at" in table.column_names else "0"
    with reading() as con:
        rows = con.sql(f"SELECT ds, count(*), {superseded} FROM ({shown}) GROUP BY ds").fetchall()
    found: dict[date, tuple[int, int]] = {day: (n, n_gone) for day, n, n_gone in rows}
    return found
