"""The night's log of what was shown and what followed, opened for every estimate of the night."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import sql
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.lake.tables import Lake
from tasks.shop import Parameters, Shop, parameters

_DAILY = ("features.feedback_daily", "features.popularity_daily", "features.behaviours_daily")


@dataclass(frozen=True)
class Log:
    """A session over the window of one night.

    It reads features.feedback_daily, features.popularity_daily, features.behaviours_daily,
    clean.items and the newest clean.users, and has stated.eligible (ds, item_id), what could be
    shown on each date, and stated.repeats (ds, impression_id), slots that hold what stands above.
    """

    shop: Shop
    ds: date
    s: Session
    params: Parameters

    @property
    def lake(self) -> Lake:
        """Where the tables lie."""
        return self.shop.lake

    @property
    def since(self) -> date:
        """The first date of the window."""
        since = self.params["since"]
        assert isinstance(since, date)
        return since


@contextmanager
def opened_log(shop: Shop, ds: date) -> Iterator[Log]:
    """Open the log of the window that ends on `ds`."""
    with session(shop.lake, shop.settings.compute) as s:
        log = Log(shop, ds, s, _parameters(shop, ds))
        for name in _DAILY:
            s.read(name, since=log.since, upto=ds)
        s.read("clean.items", upto=ds)
        newest = max((day for day in shop.lake.pin("clean.users").days() if day <= ds), default=ds)
        s.read("clean.users", since=newest, upto=newest)
        for schema in ("stated", "imputed"):
            s.con.execute(f"CREATE SCHEMA {schema}")
        for table, query in (("eligible", "eligible_by_day"), ("repeats", "repeated_slots")):
            select = render(sql.read(f"queries/{query}"), log.params)
            s.con.execute(f"CREATE TABLE stated.{table} AS {select}")
        yield log


def _parameters(shop: Shop, ds: date) -> Parameters:
    settings = shop.settings.estimate
    return parameters(shop, ds) | {
        "most_weight": settings.most_weight,
        "shrinkage": settings.shrinkage,
    }
