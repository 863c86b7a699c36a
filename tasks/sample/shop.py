"""The day loop, and the folder it fills.

Chunks of users are drawn and written one after another, so that memory grows with users only.
The chunk size is a constant because it is part of what a seed means.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tasks.sample import rows
from tasks.sample.behaviour import actions_of, searched_items
from tasks.sample.causes import Causes
from tasks.sample.delivery import Delivery
from tasks.sample.dirt import soiled
from tasks.sample.exposure import Slates, slates_of
from tasks.sample.folder import SampleFolder
from tasks.sample.settings import BEHAVIOURS, ShopSettings
from tasks.sample.truth import DayCounts, write_truth
from tasks.sample.visits import DAY_MS, Visits, visits_of
from tasks.sample.world import Draw, Ints, World, build_world, generator

CHUNK = 1024  # users
FORMAT = 2  # raise it when the same settings give other files
EVENTS, IMPRESSIONS = "events", "impressions"
REQUIRED = {
    EVENTS: ("user_id", "item_id", "event", "ts"),
    IMPRESSIONS: ("user_id", "item_id", "request_id", "ts"),
}
DAY_COUNTS = (
    "n_requests",
    "n_uniform_requests",
    "n_searches",
    "n_eligible",
    "n_impressions",
    "n_not_shown",
    *(f"n_{behaviour}" for behaviour in BEHAVIOURS),
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SampleCounts:
    """What happened in the window, and the size of `landing/`."""

    n_files: int
    n_bytes: int
    n_requests: int
    n_searches: int
    n_impressions: int
    n_not_shown: int
    n_click: int
    n_view: int
    n_favourite: int
    n_cart: int
    n_purchase: int

    @property
    def n_events(self) -> int:
        """Events of every behaviour that happened."""
        return sum(getattr(self, f"n_{k}") for k in BEHAVIOURS)


def write_sample(
    settings: ShopSettings, root: Path, progress: Progress | None = None
) -> SampleCounts:
    """Write `landing/` and `truth/` under `root`, unless they are there already.

    Safe to run twice and to kill: files get their names only when all are written. Refuses
    folders that hold anything but a sample. Calls `progress(days done, days)`.
    """
    made_of = {"format": FORMAT, "settings": settings.as_json()}
    with SampleFolder(root) as folder:
        if counts := folder.finished(made_of):
            return SampleCounts(**counts)
        folder.refuse_foreign_files()
        world = build_world(settings)
        folder.begin()
        shop = Shop(world, folder.new_landing)
        for day in range(settings.n_days):
            shop.write_day(day)
            if progress:
                progress(day + 1, settings.n_days)
        dirt = {name: delivery.dirt for name, delivery in shop.deliveries.items()}
        write_truth(world, folder.new_truth, shop.days, dirt, shop.chunks)
        size = folder.size(folder.new_landing)
        sample = _counts(shop.days, *size)
        folder.publish(made_of | {"counts": asdict(sample)})
    return sample


class Shop:
    """The shop on its way through the window."""

    def __init__(self, world: World, landing: Path) -> None:
        self.world = world
        self.landing = landing
        self.days: DayCounts = [dict.fromkeys(DAY_COUNTS, 0) for _ in range(world.settings.n_days)]
        self._start_ms = rows.day_start_ms(world, 0)
        self.chunks = [
            Causes(world, chunk, users) for chunk, users in enumerate(_chunks(world.settings))
        ]
        self.deliveries = {
            name: Delivery(world.settings, landing / name, self._start_ms)
            for name in (EVENTS, IMPRESSIONS)
        }

    def write_day(self, day: int) -> None:
        """Write everything that is delivered on a day."""
        s = self.world.settings
        self._write_snapshot("items", day, rows.catalogue_of(self.world, day))
        self._write_snapshot("users", day, rows.registered_by(self.world, day))
        eligible = self.world.eligible(day)
        self.days[day]["n_eligible"] = len(eligible)
        with self.deliveries[EVENTS].open(day), self.deliveries[IMPRESSIONS].open(day):
            for chunk, users in enumerate(_chunks(s)):
                self._write_chunk(day, chunk, users, eligible)
        if s.repeat_a_file and day == s.n_days // 2:
            self.deliveries[EVENTS].repeat_file(day, part=1)

    def _write_snapshot(self, name: str, day: int, table: pl.DataFrame) -> None:
        folder = self.landing / name / f"dt={self.world.settings.days[day]}"
        folder.mkdir(parents=True)
        table.write_csv(folder / f"{name}.csv")

    def _write_chunk(self, day: int, chunk: int, users: Ints, eligible: Ints) -> None:
        world, s = self.world, self.world.settings
        visits = visits_of(world, day, chunk, users)
        nth = np.flatnonzero(~visits.is_search)
        requests = visits.at(nth)
        slates = slates_of(world, day, chunk, requests, eligible)
        searched_by = visits.user[visits.is_search]
        rng = generator(s, Draw.SEARCHES, day, chunk)
        searched = searched_items(world, rng, searched_by, eligible)
        actions = actions_of(world, day, chunk, visits, slates.shown, searched)
        actions = self.chunks[chunk].add_to(day, visits, actions, eligible)

        shown = rows.impressions(world, day, chunk, requests, nth, slates)
        happened = rows.events(world, day, chunk, visits, actions)
        # the shop closes for good at midnight of the last day
        happened = happened.filter(pl.col("ts") < self._start_ms + s.n_days * DAY_MS)
        self._count(day, visits, slates)
        self._count_events(happened)
        rng = generator(s, Draw.EVENT_DIRT, day, chunk)
        self.deliveries[EVENTS].add(
            day, soiled(happened, REQUIRED[EVENTS], s.event_dirt, s.n_items, rng)
        )
        rng = generator(s, Draw.IMPRESSION_DIRT, day, chunk)
        self.deliveries[IMPRESSIONS].add(
            day, soiled(shown, REQUIRED[IMPRESSIONS], s.impression_dirt, s.n_items, rng)
        )

    def _count(self, day: int, visits: Visits, slates: Slates) -> None:
        counts = self.days[day]
        counts["n_requests"] += len(slates.shown)
        counts["n_uniform_requests"] += int(slates.is_uniform.sum())
        counts["n_searches"] += int(visits.is_search.sum())
        counts["n_impressions"] += slates.shown.size
        counts["n_not_shown"] += slates.not_shown.size

    def _count_events(self, events: pl.DataFrame) -> None:
        """Events count on the day they occurred, which can be the day after the visit."""
        day = (pl.col("ts") - self._start_ms) // DAY_MS
        for when, behaviour, n in events.group_by(day, "event").len().iter_rows():
            self.days[when][f"n_{behaviour}"] += n


def _chunks(settings: ShopSettings) -> list[Ints]:
    n = settings.n_users
    return [np.arange(first, min(first + CHUNK, n)) for first in range(0, n, CHUNK)]


def _counts(days: DayCounts, n_files: int, n_bytes: int) -> SampleCounts:
    names = [name for name in DAY_COUNTS if name in SampleCounts.__annotations__]
    totals = {name: sum(day[name] for day in days) for name in names}
    return SampleCounts(n_files=n_files, n_bytes=n_bytes, **totals)
