"""Who and what is in the shop: types, brands, items, users, stock and promotions.

Every array is drawn from its own generator, so that no change elsewhere moves it.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tasks.errors import SettingsError
from tasks.sample.settings import BEHAVIOURS, DEVICES, ShopSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55+")
COUNTRIES = ("AT", "DE", "ES", "FR", "NL", "PL")
ITEM_KINDS = ("plain", "clickbait", "gift")
P_ITEM_KIND = (0.8, 0.1, 0.1)
# shift of d_i^k per kind, in the order of BEHAVIOURS
MIX_SHIFTS = ((0.0,) * 5, (1.2, -0.3, -0.3, -0.8, -1.5), (-0.6, 0.0, 0.0, 0.5, 1.2))
# shift of h_u^k of who browses, who fills carts, who buys
HABIT_SHIFTS = (
    (0.4, 0.4, 0.2, -0.6, -0.8),
    (0.0, 0.0, 0.3, 0.9, -0.8),
    (-0.2, 0.0, -0.2, 0.2, 0.9),
)
SHOPPER_KINDS = ("browser", "cart_filler", "buyer")


class Draw(IntEnum):
    """What a generator is for; the first number of its spawn key."""

    TYPES = 1
    BRANDS = 2
    ITEMS = 3
    USERS = 4
    STOCK = 5
    PROMOTIONS = 6
    VISITS = 7
    SLATES = 8
    SEARCHES = 9
    BEHAVIOUR = 10
    EVENT_DIRT = 11
    IMPRESSION_DIRT = 12
    BROWSING = 13
    INTENTIONS = 14


def generator(settings: ShopSettings, draw: Draw, *key: int) -> np.random.Generator:
    """The one generator of a purpose and a key, such as (day, chunk)."""
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(draw, *key)))


@dataclass(frozen=True)
class Types:
    """Item types."""

    category: Ints  # [n_types]
    succ: Ints  # [n_types], the type that follows this one, of another category
    taste: Floats  # [n_types, d_taste]
    log_price: Floats  # [n_types]


@dataclass(frozen=True)
class Brands:
    """Brands; `style` meets a user's brand taste."""

    style: Floats  # [n_brands, d_style]
    log_share: Floats  # [n_brands, n_types], which types a brand makes
    promo: Floats  # [n_days, n_brands], 1 while promoted


@dataclass(frozen=True)
class Items:
    """The catalogue."""

    type_: Ints  # [n_items]
    brand: Ints  # [n_items]
    taste: Floats  # [n_items, d_taste], q_i
    log_popularity: Floats  # [n_items], log pi_i
    price: Floats  # [n_items], in euros
    kind: Ints  # [n_items], index into ITEM_KINDS
    mix: Floats  # [n_items, 5], d_i^k
    arrival: Ints  # [n_items], day of the window; below 0: was there before
    in_stock: Bools  # [n_days, n_items]


@dataclass(frozen=True)
class Users:
    """Everyone who ever comes."""

    persona: Ints  # [n_users]
    taste: Floats  # [n_users, d_taste], p_u
    believed: Floats  # [n_users, d_taste], p-hat_u, what the policy thinks
    brand_taste: Floats  # [n_users, d_style]
    activity: Floats  # [n_users], mean 1
    log_budget: Floats  # [n_users]
    age_band: Ints  # [n_users]
    country: Ints  # [n_users]
    device: Ints  # [n_users], the usual one
    shopper: Ints  # [n_users], index into SHOPPER_KINDS
    habit: Floats  # [n_users, 5], h_u^k
    joined: Ints  # [n_users], day of the window; below 0: before


@dataclass(frozen=True)
class World:
    """All of it."""

    settings: ShopSettings
    types: Types
    brands: Brands
    items: Items
    users: Users

    def eligible(self, day: int) -> Ints:
        """Items that may be shown: arrived and in stock."""
        return np.flatnonzero((self.items.arrival <= day) & self.items.in_stock[day])


def build_world(settings: ShopSettings) -> World:
    """Draw every entity from the seed."""
    types = _types(settings)
    brands = _brands(settings, types)
    world = World(settings, types, brands, _items(settings, types, brands), _users(settings))
    _refuse_empty_shelves(world)
    return world


def liking_logit(p_u: Floats, q_i: Floats) -> Floats:
    """Logit of r_ui for pairs: 2 <p_u, q_i> / sqrt(d) - 1; [n, d], [n, d] -> [n]."""
    # einsum, not BLAS: the sums must not depend on the number of threads
    logit: Floats = 2 * np.einsum("nd,nd->n", p_u, q_i) / np.sqrt(p_u.shape[1]) - 1
    return logit


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logit))


def _types(s: ShopSettings) -> Types:
    rng = generator(s, Draw.TYPES)
    spare = rng.integers(s.n_categories, size=s.n_types - s.n_categories)
    category = np.concatenate([np.arange(s.n_categories), spare])
    succ = [rng.choice(np.flatnonzero(category != category[t])) for t in range(s.n_types)]
    taste = rng.normal(size=(s.n_types, s.d_taste))
    return Types(category, np.array(succ), taste, rng.normal(3.2, 0.7, s.n_types))


def _brands(s: ShopSettings, types: Types) -> Brands:
    rng = generator(s, Draw.BRANDS)
    style = rng.normal(size=(s.n_brands, s.d_style))
    # a brand makes what lies near its heart: so brand and taste are correlated
    heart = rng.normal(size=(s.n_brands, s.d_taste))
    log_share = 2 * np.einsum("bd,td->bt", heart, types.taste) / np.sqrt(s.d_taste)
    rng = generator(s, Draw.PROMOTIONS)
    promo = _chain(rng, s.n_days, s.n_brands, s.p_promo_on, s.p_promo_off)
    return Brands(style, log_share, promo.astype(np.float64))


def _items(s: ShopSettings, types: Types, brands: Brands) -> Items:
    rng = generator(s, Draw.ITEMS)
    type_ = rng.integers(s.n_types, size=s.n_items)
    brand = choose(rng, np.exp(brands.log_share.T[type_]))
    spread = s.item_spread * rng.normal(size=(s.n_items, s.d_taste))
    kind = rng.choice(len(ITEM_KINDS), s.n_items, p=P_ITEM_KIND)
    mix = np.array(MIX_SHIFTS)[kind] + rng.normal(0, s.mix_spread, (s.n_items, len(BEHAVIOURS)))
    price: Floats = np.exp(types.log_price[type_] + rng.normal(0, 0.35, s.n_items))
    stock_rng = generator(s, Draw.STOCK)
    return Items(
        type_=type_,
        brand=brand,
        taste=types.taste[type_] + spread,
        log_popularity=rng.normal(0, s.popularity_spread, s.n_items),
        price=np.round(price, 2),
        kind=kind,
        mix=mix,
        arrival=_arrivals(s, rng, s.n_items),
        in_stock=_chain(stock_rng, s.n_days, s.n_items, s.p_restock, s.p_stock_out),
    )


def _users(s: ShopSettings) -> Users:
    rng = generator(s, Draw.USERS)
    n = s.n_users
    persona = rng.integers(s.n_personas, size=n)
    centres = rng.normal(size=(s.n_personas, s.d_taste))
    taste = centres[persona] + s.user_spread * rng.normal(size=(n, s.d_taste))
    # persona decides age and country unevenly, so that unfairness can show
    age_band = choose(rng, rng.dirichlet([1.5] * len(AGE_BANDS), s.n_personas)[persona])
    country = choose(rng, rng.dirichlet([1.5] * len(COUNTRIES), s.n_personas)[persona])
    shopper = rng.choice(len(SHOPPER_KINDS), n, p=(0.5, 0.25, 0.25))
    habit = np.array(HABIT_SHIFTS)[shopper] + rng.normal(0, s.habit_spread, (n, len(BEHAVIOURS)))
    return Users(
        persona=persona,
        taste=taste,
        believed=taste + s.taste_noise * rng.normal(size=taste.shape),
        brand_taste=rng.normal(size=(n, s.d_style)),
        activity=np.exp(rng.normal(-(s.activity_spread**2) / 2, s.activity_spread, n)),
        log_budget=rng.normal(3.0 + 0.15 * age_band, 0.5, n),
        age_band=age_band,
        country=country,
        device=rng.choice(len(DEVICES), n, p=(0.6, 0.3, 0.1)),
        shopper=shopper,
        habit=habit,
        joined=_arrivals(s, rng, n),
    )


def _arrivals(s: ShopSettings, rng: np.random.Generator, n: int) -> Ints:
    """Day of arrival; most came in the year before the window; [n]."""
    during = rng.random(n) < s.arriving_share
    before = -rng.integers(1, 366, n)
    inside = 1 + np.floor(rng.random(n) * (s.n_days - 1)).astype(np.int64)
    arrival: Ints = np.where(during & (s.n_days > 1), inside, before)
    return arrival


def choose(rng: np.random.Generator, weights: Floats) -> Ints:
    """One column per row, by weight; [n, m] -> [n]."""
    upto = weights.cumsum(axis=1)
    below = rng.random((len(weights), 1)) * upto[:, -1:]
    nth: Ints = np.minimum((upto <= below).sum(axis=1), weights.shape[1] - 1)
    return nth


def _chain(rng: np.random.Generator, n_days: int, n: int, p_on: float, p_off: float) -> Bools:
    """`n` two-state Markov chains that start in their long-run shares; [n_days, n]."""
    u = rng.random((n_days, n))
    states = np.empty((n_days, n), dtype=np.bool_)
    states[0] = u[0] * (p_on + p_off) < p_on if p_on + p_off else True
    for day in range(1, n_days):
        states[day] = np.where(states[day - 1], u[day] >= p_off, u[day] < p_on)
    return states


def _refuse_empty_shelves(world: World) -> None:
    s = world.settings
    needed = s.slate_size + s.n_not_shown
    for day in range(s.n_days):
        if (n := len(world.eligible(day))) < needed:
            raise SettingsError(
                f"only {n} items could be shown on day {day}, a request needs {needed}",
                where="ShopSettings: n_items, p_stock_out, p_restock, arriving_share",
                unchanged="no file was written",
                fix="give the shop more items or steadier stock",
            )
