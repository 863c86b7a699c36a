"""The rows of a real shop's files; nothing here may tell the truth."""

from datetime import date

import numpy as np
import polars as pl

from tasks.sample.behaviour import Actions
from tasks.sample.exposure import Slates
from tasks.sample.settings import BEHAVIOURS, DEVICES
from tasks.sample.visits import DAY_MS, Visits
from tasks.sample.world import AGE_BANDS, COUNTRIES, Ints, World

POLICY_VERSION = "v1"


def impressions(
    world: World, day: int, chunk: int, requests: Visits, visit: Ints, slates: Slates
) -> pl.DataFrame:
    """One row per shown item and per logged item not shown; `visit` numbers the requests."""
    n_shown, n_not = slates.shown.shape[1], slates.not_shown.shape[1]
    nth = np.repeat(np.arange(len(visit)), n_shown + n_not)
    slot = np.tile(np.arange(n_shown + n_not), len(visit))
    unknown = np.full(slates.not_shown.shape, np.nan)
    request_id = _visit_ids("r", day, chunk, visit).gather(nth)
    is_shown = pl.Series(slot < n_shown)
    return pl.select(
        impression_id=pl.format("{}-{}", request_id, pl.Series(slot + 1)),
        request_id=request_id,
        user_id=_ids("u", 6, requests.user).gather(nth),
        item_id=_ids("i", 5, np.hstack([slates.shown, slates.not_shown]).ravel()),
        shown=is_shown,
        position=pl.when(is_shown).then(pl.Series(slot + 1)),
        policy=pl.Series(["main", "uniform"]).gather(slates.is_uniform[nth].astype(np.int64)),
        policy_version=pl.lit(POLICY_VERSION),
        score=pl.Series(np.hstack([slates.shown_score, slates.not_shown_score]).ravel()),
        propensity=pl.Series(np.hstack([slates.propensity, unknown]).ravel()).fill_nan(None),
        ts=pl.Series(day_start_ms(world, day) + requests.ms[nth]),
        device=pl.Series(DEVICES).gather(requests.device[nth]),
    )


def events(world: World, day: int, chunk: int, visits: Visits, actions: Actions) -> pl.DataFrame:
    """One row per click, view, favourite, cart and purchase; purchases have a price."""
    visit = actions.visit
    n = np.arange(len(visit))
    by_request = pl.Series(actions.by_request)
    is_purchase = pl.Series(actions.behaviour == BEHAVIOURS.index("purchase"))
    return pl.select(
        event_id=event_ids(day, chunk, n),
        user_id=_ids("u", 6, visits.user[visit]),
        item_id=_ids("i", 5, actions.item),
        event=pl.Series(BEHAVIOURS).gather(actions.behaviour),
        ts=pl.Series(day_start_ms(world, day) + actions.ms),
        request_id=pl.when(by_request).then(_visit_ids("r", day, chunk, visit)),
        session_id=_visit_ids("s", day, chunk, visits.session[visit]),
        device=pl.Series(DEVICES).gather(visits.device[visit]),
        price=pl.when(is_purchase).then(pl.Series(world.items.price[actions.item])),
    ).sort("ts", "event_id")


def event_ids(day: int | Ints, chunk: int, number: Ints) -> pl.Series:
    """Ids of events by their day and their number on it within a chunk."""
    days = _ids("e", 3, np.broadcast_to(day, number.shape))
    return pl.select(pl.format("{}-{}", days, _ids(f"{chunk:03d}-", 5, number))).to_series()


def day_start_ms(world: World, day: int) -> int:
    """First millisecond of a day of the window, epoch UTC."""
    return ((world.settings.start - date(1970, 1, 1)).days + day) * DAY_MS


def catalogue(world: World) -> pl.DataFrame:
    """All items that ever arrive, without their stock."""
    items, types = world.items, world.types
    return pl.select(
        item_id=_ids("i", 5, np.arange(len(items.type_))),
        category=_ids("c", 2, types.category[items.type_]),
        product_type=_ids("t", 2, items.type_),
        brand=_ids("b", 2, items.brand),
        price=pl.Series(items.price),
        available_from=_dates(world, items.arrival),
    )


def catalogue_of(world: World, day: int) -> pl.DataFrame:
    """The item file of a day: what has arrived, and whether it is in stock."""
    in_stock = pl.Series(world.items.in_stock[day])
    columns = ("item_id", "category", "product_type", "brand", "price", "in_stock")
    rows = catalogue(world).with_columns(in_stock=in_stock).select(*columns, "available_from")
    return rows.filter(pl.Series(world.items.arrival <= day))


def registered(world: World) -> pl.DataFrame:
    """All users who ever join."""
    users = world.users
    return pl.select(
        user_id=_ids("u", 6, np.arange(len(users.persona))),
        age_band=pl.Series(AGE_BANDS).gather(users.age_band),
        country=pl.Series(COUNTRIES).gather(users.country),
        joined_on=_dates(world, users.joined),
    )


def registered_by(world: World, day: int) -> pl.DataFrame:
    """The user file of a day: who has joined."""
    return registered(world).filter(pl.Series(world.users.joined <= day))


def _ids(letter: str, digits: int, number: Ints) -> pl.Series:
    text = pl.Series(number).cast(pl.String).str.zfill(digits)
    return pl.select(pl.format(letter + "{}", text)).to_series()


def _visit_ids(letter: str, day: int, chunk: int, number: Ints) -> pl.Series:
    return _ids(f"{letter}{day:03d}-{chunk:03d}-", 5, number)


def _dates(world: World, day: Ints) -> pl.Series:
    return pl.Series(np.datetime64(world.settings.start) + day.astype("timedelta64[D]"))
