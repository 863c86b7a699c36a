"""What users do: examine, click, then view, favourite, cart and purchase.

Each step k has its own logit, given the step before it:

    base_k + w_k logit(r_ui) + h_u^k + d_i^k + 0.4 brand affinity (click only)
           - w_price,k log(price / budget)

    shown -> examined -> click -> view -> favourite
                                       -> cart -> purchase
"""

from dataclasses import dataclass

import numpy as np

from tasks.sample.exposure import blocks, fill
from tasks.sample.settings import BEHAVIOURS, ShopSettings
from tasks.sample.visits import Visits
from tasks.sample.world import Bools, Draw, Floats, Ints, World, generator, liking_logit, sigmoid

CLICK, VIEW, FAVOURITE, CART, PURCHASE = range(len(BEHAVIOURS))
W_SEARCH_TASTE = 1.5  # searchers know what they want
W_SEARCH_POPULARITY = 0.3


@dataclass(frozen=True)
class Actions:
    """What happened after the slates and searches of one day and chunk."""

    visit: Ints  # [n], row of the visit
    item: Ints  # [n]
    behaviour: Ints  # [n], index into BEHAVIOURS
    ms: Ints  # [n], milliseconds since the start of the day; may lie after midnight


def examination(settings: ShopSettings) -> Floats:
    """Chance that position k is looked at, per device; [slate_size, n_devices]."""
    position = np.arange(1, settings.slate_size + 1)[:, None]
    theta: Floats = position**-settings.examination_power * np.array(settings.device_examination)
    return theta


def searched_items(world: World, day: int, chunk: int, user: Ints, items: Ints) -> Ints:
    """The eligible item that each searcher looks for, by true taste; [n]."""
    s = world.settings
    draws = generator(s, Draw.SEARCHES, day, chunk).random((len(user), 1, 2))
    found = [np.empty(0, dtype=np.int64)]
    for rows in blocks(user, len(items)):
        users, row = np.unique(user[rows], return_inverse=True)
        fit = np.einsum("ud,id->ui", world.users.taste[users], world.items.taste[items])
        logit = W_SEARCH_TASTE / np.sqrt(s.d_taste) * fit
        logit += W_SEARCH_POPULARITY * world.items.log_popularity[items]
        picks, _ = fill(np.exp(logit), row, np.zeros(len(row)), draws[rows])
        found.append(picks[:, 0])
    return items[np.concatenate(found)]


def actions_of(
    world: World, day: int, chunk: int, visits: Visits, slates: Ints, searched: Ints
) -> Actions:
    """Clicks and what follows; slates [n_requests, slate_size], searched [n_searches]."""
    rng = generator(world.settings, Draw.BEHAVIOUR, day, chunk)
    requests, searches = np.flatnonzero(~visits.is_search), np.flatnonzero(visits.is_search)
    clicked = _clicks(world, rng, visits, requests, slates)
    nth, position = np.nonzero(clicked)
    visit = np.concatenate([requests[nth], searches])
    item = np.concatenate([slates[nth, position], searched])
    place = np.concatenate([position, np.zeros(len(searches), dtype=np.int64)])
    ms = visits.ms[visit] + 1000 * place + rng.integers(800, 6000, len(visit))
    return _journeys(world, rng, visits.user[visit], Actions(visit, item, 0 * visit, ms))


def _clicks(
    world: World, rng: np.random.Generator, visits: Visits, requests: Ints, slates: Ints
) -> Bools:
    """Which shown items are clicked: examined, then liked enough; [n_requests, slate_size]."""
    theta = examination(world.settings).T[visits.device[requests]]
    examined = rng.random(slates.shape) < theta
    user = np.repeat(visits.user[requests], slates.shape[1])
    p_click = sigmoid(_logit(world, user, slates.ravel(), CLICK)).reshape(slates.shape)
    return examined & (rng.random(slates.shape) < p_click)


def _logit(world: World, user: Ints, item: Ints, behaviour: int) -> Floats:
    """Logit of a behaviour, given the one before it; [n]."""
    s, users, items = world.settings, world.users, world.items
    logit = s.base_logits[behaviour] + users.habit[user, behaviour] + items.mix[item, behaviour]
    liking = liking_logit(users.taste[user], items.taste[item])
    logit += s.taste_weights[behaviour] * liking
    logit -= s.w_price[behaviour] * (np.log(items.price[item]) - users.log_budget[user])
    if behaviour == CLICK:
        style = world.brands.style[items.brand[item]]
        affinity = np.einsum("nd,nd->n", users.brand_taste[user], style) / np.sqrt(s.d_style)
        logit += s.w_brand * affinity
    return np.asarray(logit)


def _journeys(world: World, rng: np.random.Generator, user: Ints, clicks: Actions) -> Actions:
    """From clicks to every later step, in the order of BEHAVIOURS."""
    everything = np.arange(len(user))

    def step(after: Ints, ms: Ints, behaviour: int, seconds: tuple[int, int]) -> tuple[Ints, Ints]:
        p = sigmoid(_logit(world, user[after], clicks.item[after], behaviour))
        goes = rng.random(len(after)) < p
        wait = rng.integers(1000 * seconds[0], 1000 * seconds[1], len(after))
        return after[goes], (ms + wait)[goes]

    view, view_ms = step(everything, clicks.ms, VIEW, (1, 5))
    favourite, favourite_ms = step(view, view_ms, FAVOURITE, (5, 60))
    cart, cart_ms = step(view, view_ms, CART, (10, 180))
    purchase, purchase_ms = step(cart, cart_ms, PURCHASE, (30, 900))
    click = np.concatenate([everything, view, favourite, cart, purchase])
    lengths = [len(x) for x in (everything, view, favourite, cart, purchase)]
    return Actions(
        visit=clicks.visit[click],
        item=clicks.item[click],
        behaviour=np.repeat(np.arange(len(BEHAVIOURS)), lengths),
        ms=np.concatenate([clicks.ms, view_ms, favourite_ms, cart_ms, purchase_ms]),
    )
