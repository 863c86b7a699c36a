"""What a night of a backfill reads, and the folder in which it works.

The clean tables are those of the lake at the versions that the plan has pinned; all else is made
anew in a lake of the plan's own. As of now, everything is known that is dated up to the night. As
of then, a night of D knows what a night of D would have found on the evening of D, its close:

- a file with a date in its path, if that date is D or earlier: it arrives when its date ends in
  the source's zone, which for D is the close;
- a file without one by its own time (or its records by the time in their column), if that is no
  later than `backfill.hours_after` after D has ended there, for a night begins some hours later.

A row that arrived later is not there, and one that was superseded later still counts. What was
withdrawn, or replaced in a snapshot of the same date, is not kept and so not known then either.
Items and users that no visible file delivers are derived from the visible events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import sql
from tasks.errors import UsageError
from tasks.ingest.deliveries import SNAPSHOTS, end_of
from tasks.ingest.landing import Arrival, date_in
from tasks.lake.borrowed import AsOf, Borrowed
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.places import Place
from tasks.records import LandedFile
from tasks.shop import Shop, parameters
from tasks.transform import build_snapshot

LENT = (
    "clean.events",
    "clean.impressions",
    "clean.items",
    "clean.users",
    "ops.files",
    "ops.quarantine",
    "ops.row_moves",
    "ops.columns",
    "serve.publications",  # whether anything is served yet
)


@dataclass(frozen=True)
class Pins:
    """The versions of the lake's tables that all nights of a plan read."""

    versions: tuple[tuple[str, int], ...]

    @classmethod
    def newest(cls, lake: Lake) -> "Pins":
        """What is there now. Raises UsageError where nothing was ingested yet."""
        if not lake.pin("clean.events").days():
            raise UsageError(
                "no event was ingested yet: there is no night of the past to make",
                where=str(lake.root),
                unchanged="nothing was written",
                fix="nightrank run brings what has landed into the lake",
            )
        return cls(tuple((name, lake.pin(name).version) for name in LENT))

    @classmethod
    def read(cls, names: Sequence[str]) -> "Pins":
        """From texts such as clean.events@7."""
        parts = (each.rpartition("@") for each in names)
        return cls(tuple((name, int(version)) for name, _, version in parts))

    def names(self) -> list[str]:
        """As such texts."""
        return [f"{name}@{version}" for name, version in self.versions]


def closes(shop: Shop, ds: date) -> dict[str, datetime]:
    """For each dataset, up to when what has arrived is known to a night of `ds`."""
    late = timedelta(hours=shop.settings.backfill.hours_after)
    return {
        dataset: end_of(ds, source) + (timedelta() if source.arrived.path else late)
        for dataset, source in shop.mapping.sources().items()
    }


def apart(shop: Shop, pins: Pins, as_of: AsOf, ds: date, folder: Place) -> Shop:
    """The shop as the night of `ds` sees it, its own tables below `folder`."""
    by_row = tuple(
        dataset for dataset, source in shop.mapping.sources().items() if source.arrived.column
    )
    versions = dict(pins.versions)
    root = shop.settings.paths.lake.absolute()
    lent = Borrowed(root, versions, closes(shop, ds) if as_of == "then" else {}, by_row)
    derived = {f"clean.{each}" for each in SNAPSHOTS if not _is_delivered(shop, lent, each, ds)}
    kept = {name: version for name, version in versions.items() if name not in derived}
    paths = shop.settings.paths.model_copy(update={"lake": folder})
    settings = shop.settings.model_copy(update={"paths": paths})
    return replace(shop, settings=settings, lender=replace(lent, versions=kept))


def _is_delivered(shop: Shop, lent: Borrowed, dataset: str, ds: date) -> bool:
    """Whether a night of `ds` finds a snapshot; of files without a date, a later one counts too."""
    source = shop.mapping.sources().get(dataset)
    pinned = lent.lent(f"clean.{dataset}")
    if source is None or pinned is None:
        return False
    days = pinned.days()
    return bool(days) and (min(days) <= ds or source.arrived.path is None)


def has_data(shop: Shop, pins: Pins, as_of: AsOf, ds: date) -> bool:
    """Whether the night of `ds` sees an event of its date."""
    pinned = apart(shop, pins, as_of, ds, shop.settings.paths.lake).lake.pin("clean.events")
    return ds in pinned.days()


def found(shop: Shop, ds: date) -> Arrival:
    """The files that a night of `ds` finds, by the accounts and not by the landing folder."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("ops.files")
        rows = s.rows(
            "SELECT dataset, path, n_bytes, modified_at FROM ops.files "
            "WHERE state <> 'withdrawn' AND ds <= $ds ORDER BY ALL",
            {"ds": ds},
        )
    sources = shop.mapping.sources()
    files = (
        LandedFile(dataset, path, n_bytes, at, date_in(path, dataset, sources[dataset]))
        for dataset, path, n_bytes, at in rows
        if dataset in sources
    )
    return Arrival(ds, tuple(files))


def derive(shop: Shop, pins: Pins, as_of: AsOf, ds: date, folder: Place) -> None:
    """Make the items and users of `ds` that no file delivers.

    Where exposure is logged, also those of the dates before: what could be shown on each is asked.
    They stay as they are made, so that a night is the same whatever was made before it.
    """
    night = apart(shop, pins, as_of, ds, folder)
    for dataset in SNAPSHOTS:
        name = f"clean.{dataset}"
        if night.lender is None or name in night.lender.versions:
            continue
        there = night.lake.pin(name).days()
        for day in _derived_days(night, ds):
            if day not in there:
                _derive(apart(shop, pins, as_of, day, folder), dataset, day)


def _derived_days(shop: Shop, ds: date) -> list[date]:
    if shop.mapping.impressions is None:
        return [ds]
    since = parameters(shop, ds)["since"]
    assert isinstance(since, date)
    return [day for day in sorted(shop.lake.pin("clean.events").days()) if since <= day <= ds]


def _derive(shop: Shop, dataset: str, day: date) -> None:
    with session(shop.lake, shop.settings.compute) as s:
        select = sql.read(f"1_clean/{dataset}_derived")
        build_snapshot(s, f"clean.{dataset}", {"ds": day}, select=select)
