"""A tiny shop whose history has landed: events alone, one file a day, items and users derived."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.backfill.night import Made, run_night
from tasks.backfill.plan import Plan, Planned, Request, plan, with_models
from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.lake.borrowed import AsOf
from tasks.night import new_run_id
from tasks.shop import Shop, open_shop
from tests.scenarios.daily import MAPPING, day, events, land, seconds
from tests.scenarios.nights import Place

USERS, ITEMS, EVENTS = 30, 24, 150
SETTINGS = """
[train.configs.bpr]
epochs = 3
n_factors = 8
[publish]
k = 5
"""


@dataclass
class History:
    """The shop's folders; what a day holds depends on its number alone."""

    root: Path
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        self.place = Place(self.root)
        self.place.landing.mkdir(parents=True)
        (self.root / "mapping.toml").write_text(MAPPING)
        self.place.settings.write_text(f'mapping = "{self.root / "mapping.toml"}"\n{SETTINGS}')

    @property
    def shop(self) -> Shop:
        return open_shop(self.place.settings, None, self.place.landing, self.place.lake)

    def land(self, first: int, last: int) -> None:
        """The files of some days."""
        for number in range(first, last + 1):
            rows = events(number, n_events=EVENTS, n_users=USERS, n_items=ITEMS)
            self.write(number, "a", rows)

    def land_late(self, delivered: int, happened: int, n: int = 80) -> None:
        """A file of one day with events of a day before: everybody buys what nobody had."""
        rows = [
            {
                "id": f"late-{each}",
                "u": f"u{each % USERS}",
                "i": f"late{each % 3}",
                "t": seconds(happened) + each,
                "b": "click",
            }
            for each in range(n)
        ]
        self.write(delivered, "late", rows)

    def write(self, delivered: int, name: str, rows: list[dict[str, Any]]) -> None:
        land(self.place.landing, delivered, rows, name)

    def ingest(self) -> None:
        """Bring in all that has landed, in one go."""
        shop = self.shop
        ingest(shop, arrival(shop.landing, shop.mapping, None), new_run_id())

    def plan(self, first: int, last: int, as_of: AsOf = "now", **more: Any) -> Planned:
        request = Request(day(first), day(last), as_of=as_of, **{"choice": "all"} | more)
        return plan(self.shop, request)

    def make(self, made: Plan, number: int, slot: int = 1) -> Made:
        """One night of a plan as a plain function."""
        shop = with_models(self.shop, made.request.models)
        return run_night(shop, made, day(number), slot, new_run_id())


@pytest.fixture
def shop(tmp_path: Path) -> History:
    return History(tmp_path / "shop")


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Six days in the lake. Do not change it."""
    shop = History(tmp_path_factory.mktemp("landed") / "shop")
    shop.land(0, 5)
    shop.ingest()
    return shop


@pytest.fixture
def loaded(landed: History, tmp_path: Path) -> History:
    """The same in a lake of its own; its mapping is shared."""
    copy = landed.place.copy(tmp_path / "copy")
    copy.landing.unlink()
    shutil.copytree(landed.place.landing, copy.landing)
    found = object.__new__(History)
    found.root, found.place = copy.root, copy
    return found
