"""Tables of another lake to read, at pinned versions, as they are known now or were known then."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

from deltalake.exceptions import DeltaError

from expectations.catalogue import Table, catalogue
from tasks.errors import StorageError, on_one_line
from tasks.lake import opened
from tasks.lake.connection import reading
from tasks.lake.known import Counts, Known
from tasks.lake.literals import literal
from tasks.lake.tables import Lake, Pinned, scan
from tasks.places import Place, StorePath
from tasks.stores import refusal

AsOf = Literal["then", "now"]
_SNAPSHOTS = ("clean.items", "clean.users")
_DELIVERED = "file_id <> 'derived'"  # who borrows derives them again, from the events it sees


@dataclass(frozen=True)
class Borrowed:
    """What is lent: tables, each at a version.

    `closes` says for each dataset up to when what arrived is known; empty: all is, as known now.
    `by_row` are the datasets whose records say themselves when they arrived, not their files.
    """

    root: Place
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
        except StorageError:
            raise
        except (DeltaError, OSError) as error:
            what = f"version {version} of {name} cannot be read"
            if isinstance(folder, StorePath):
                refused = refusal(error, folder.reached, str(folder))
                raise _gone(f"{what}: it is gone, or {refused.what}", folder) from None
            raise _gone(f"{what}: {on_one_line(error)}", folder) from error
        return Pinned(table, folder, version, actions, self._known(name, folder, version))

    def _known(self, name: str, folder: Place, version: int) -> Known:
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
        of_version = _RowsOf(folder, version, name)
        # Times of single records are too many to keep; they are counted for each close anew.
        counted = _counted if dataset in self.by_row or closed_at is None else _summed
        return replace(known, counts=counted(of_version, known))

    def _files_known(self) -> str:
        cases = " ".join(
            f"WHEN dataset = {literal(dataset)} THEN arrived_at <= {literal(at)}"
            for dataset, at in sorted(self.closes.items())
            if dataset not in self.by_row
        )
        return f"CASE {cases} ELSE true END" if cases else "true"


def _gone(what: str, folder: Place) -> StorageError:
    return StorageError(
        what,
        where=str(folder),
        unchanged="nothing was written",
        fix="cancel the backfill that pinned it and run its command again: it pins anew",
    )


@dataclass(frozen=True)
class _RowsOf:
    """One version of one table."""

    folder: Place
    version: int
    name: str

    @property
    def table(self) -> Table:
        return catalogue()[self.name]

    def select(self) -> str:
        actions = opened.at_version(self.folder, self.version).actions
        pinned = Pinned(self.table, self.folder, self.version, actions)
        return scan(self.table, pinned.files())


@lru_cache(maxsize=64)
def _counted(rows: _RowsOf, known: Known) -> Counts:
    """Rows of each date that are shown, and how many of them are superseded."""
    columns = rows.table.column_names
    shown = known.select(rows.select(), columns)
    superseded = "count(superseded_at)" if "superseded_at" in columns else "0"
    with reading() as con:
        found = con.sql(f"SELECT ds, count(*), {superseded} FROM ({shown}) GROUP BY ds").fetchall()
    return {day: (n, n_gone) for day, n, n_gone in found}


def _summed(rows: _RowsOf, known: Known) -> Counts:
    """The same, from counts of each delivery, which are looked up once for all closes."""
    assert known.closed_at is not None
    found: dict[date, tuple[int, int]] = {}
    for day, at, is_gone, n in _changes(rows):
        if at <= known.closed_at:
            arrived, superseded = found.get(day, (0, 0))
            found[day] = (arrived, superseded + n) if is_gone else (arrived + n, superseded)
    return found


@lru_cache(maxsize=16)
def _changes(rows: _RowsOf) -> list[tuple[date, datetime, bool, int]]:
    """How many rows of each date arrived at a time, and how many were superseded then."""
    columns = rows.table.column_names
    select = f"SELECT ds, arrived_at AS moment, false AS is_gone FROM ({rows.select()})"
    if rows.name in _SNAPSHOTS:
        select += f" WHERE {_DELIVERED}"
    if "superseded_at" in columns:
        select += (
            f" UNION ALL SELECT ds, superseded_at, true FROM ({rows.select()}) "
            "WHERE superseded_at IS NOT NULL"
        )
    with reading() as con:
        return con.sql(
            f"SELECT ds, moment, is_gone, count(*) FROM ({select}) GROUP BY ALL"
        ).fetchall()
