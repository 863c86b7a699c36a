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
FUNNEL = {  # the step before, and how many seconds it takes from there
    VIEW: (CLICK, (1, 5)),
    FAVOURITE: (VIEW, (5, 60)),
    CART: (VIEW, (10, 180)),
    PURCHASE: (CART, (30, 900)),
}
W_SEARCH_TASTE = 1.5  # searchers know what they want
W_SEARCH_POPULARITY = 0.3


@dataclass(frozen=True)
class Actions:
    """What happened on one day of a chunk, numbered from 0."""

    visit: Ints  # [n], row of the visit
    item: Ints  # [n]
    behaviour: Ints  # [n], index into BEHAVIOURS
    ms: Ints  # [n], milliseconds since the start of the day; may lie after midnight
    click: Ints  # [n], number of the click that it began with
    by_request: Bools  # [n], on an item of the visit's slate

    def and_more(self, other: "Actions") -> "Actions":
        """Both, the others numbered after these."""
        return Actions(
            np.concatenate([self.visit, other.visit]),
            np.concatenate([self.item, other.item]),
            np.concatenate([self.behaviour, other.behaviour]),
            np.concatenate([self.ms, other.ms]),
            np.concatenate([self.click, other.click + len(self.visit)]),
            np.concatenate([self.by_request, other.by_request]),
        )


def examination(settings: ShopSettings) -> Floats:
    """Chance that position k is looked at, per device; [slate_size, n_devices]."""
    position = np.arange(1, settings.slate_size + 1)[:, None]
    theta: Floats = position**-settings.examination_power * np.array(settings.device_examination)
    return theta


def searched_items(world: World, rng: np.random.Generator, user: Ints, items: Ints) -> Ints:
    """The eligible item that each searcher looks for; users sorted, [n]."""
    draws = rng.random((len(user), 1, 2))
    found = [np.empty(0, dtype=np.int64)]
    for rows in blocks(user, len(items)):
        users, row = np.unique(user[rows], return_inverse=True)
        weights = search_weights(world, users, items)
        picks, _ = fill(weights, row, np.zeros(len(row)), draws[rows])
        found.append(picks[:, 0])
    return items[np.concatenate(found)]


def search_weights(world: World, users: Ints, items: Ints) -> Floats:
    """How much each user looks for each item, by true taste and popularity; [users, items]."""
    fit = np.einsum("ud,id->ui", world.users.taste[users], world.items.taste[items])
    logit = W_SEARCH_TASTE / np.sqrt(world.settings.d_taste) * fit
    logit += W_SEARCH_POPULARITY * world.items.log_popularity[items]
    weights: Floats = np.exp(logit)
    return weights


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
    return journeys(world, rng, visits, visit, item, ms, ~visits.is_search[visit])


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


def journeys(
    world: World,
    rng: np.random.Generator,
    visits: Visits,
    visit: Ints,
    item: Ints,
    ms: Ints,
    by_request: Bools,
    last: int = PURCHASE,
) -> Actions:
    """From clicks [n] to every later step up to the last, in the order of BEHAVIOURS."""
    user = visits.user[visit]
    reached = {CLICK: (np.arange(len(user)), ms)}
    for behaviour, (before, seconds) in FUNNEL.items():
        if behaviour > last:
            break
        click, since = reached[before]
        p = sigmoid(_logit(world, user[click], item[click], behaviour))
        goes = rng.random(len(click)) < p
        wait = rng.integers(1000 * seconds[0], 1000 * seconds[1], len(click))
        reached[behaviour] = click[goes], (since + wait)[goes]
    click = np.concatenate([click for click, _ in reached.values()])
    return Actions(
        visit=visit[click],
        item=item[click],
        behaviour=np.repeat(list(reached), [len(click) for click, _ in reached.values()]),
        ms=np.concatenate([ms for _, ms in reached.values()]),
        click=click,
        by_request=by_request[click],
    )
