"""Which items a request shows, and with what exact probability.

A slate is filled one position after another, without replacement. At position k (k-1 items
are already taken, n eligible) the item i that is still free is drawn with

    p_k(i | above) = (1 - eps) * w_i / sum of w over the free items + eps / (n - k + 1)

with w = exp(policy score). So E[y / p_k | above] is the sum of y over the *free* items, and

    t_k = sum of y over the items above + y_k / p_k

is unbiased for the sum over all eligible items at every k (Des Raj 1956). Weighting rows by
1 / (p_k (n - k + 1)) instead finds the mean over the free items, which misses the shown
favourites: off by about k/n times what they are above the mean.
"""

from dataclasses import dataclass

import numpy as np

from tasks.sample.visits import Visits
from tasks.sample.world import Bools, Draw, Floats, Ints, World, generator

CELLS_AT_ONCE = 2_000_000  # users times items held as one matrix; never changes results


@dataclass(frozen=True)
class Slates:
    """The slates of n requests; item columns index the catalogue."""

    shown: Ints  # [n, slate_size], top position first
    propensity: Floats  # [n, slate_size], NaN where the policy is greedy
    shown_score: Floats  # [n, slate_size]
    not_shown: Ints  # [n, n_not_shown]
    not_shown_score: Floats  # [n, n_not_shown]
    is_uniform: Bools  # [n], under the uniform policy


def policy_scores(world: World, day: int, users: Ints, items: Ints) -> Floats:
    """Scores of the main policy, [len(users), len(items)].

    0.5 log pi_i + 0.5 promo_b(t) + 0.6 <p-hat_u, q_i> / sqrt(d), rounded as they are logged.
    """
    s = world.settings
    promo = world.brands.promo[day, world.items.brand[items]]
    for_all = s.w_popularity * world.items.log_popularity[items] + s.w_promo * promo
    belief = np.einsum("ud,id->ui", world.users.believed[users], world.items.taste[items])
    score: Floats = np.round(for_all + s.taste_weight / np.sqrt(s.d_taste) * belief, 6)
    return score


def slates_of(world: World, day: int, chunk: int, requests: Visits, items: Ints) -> Slates:
    """Fill the slates of these requests from the eligible `items`."""
    s = world.settings
    rng = generator(s, Draw.SLATES, day, chunk)
    n = len(requests.user)
    is_uniform = rng.random(n) < s.uniform_requests
    draws = rng.random((n, s.slate_size, 2))
    spare_draws = rng.random((n, s.n_not_shown))
    parts = []
    for rows in blocks(requests.user, len(items)):
        users, row = np.unique(requests.user[rows], return_inverse=True)
        scores = policy_scores(world, day, users, items)
        parts.append(_fill(world, scores, row, is_uniform[rows], draws[rows], spare_draws[rows]))
    picks, p, not_shown, at_pick, at_spare = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Slates(items[picks], p, at_pick, items[not_shown], at_spare, is_uniform)


def blocks(user: Ints, n_items: int) -> list[slice]:
    """Cut rows sorted by user into slices of few enough users; at least one slice."""
    if not len(user):
        return [slice(0, 0)]
    most = max(1, CELLS_AT_ONCE // n_items)
    nth_user = np.cumsum(np.diff(user, prepend=user[0]) != 0)
    starts = np.flatnonzero(np.diff(nth_user // most, prepend=-1))
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(user)], strict=True)]


def fill(weights: Floats, row: Ints, p_uniform: Floats, draws: Floats) -> tuple[Ints, Floats]:
    """Fill positions one after another without replacement.

    weights: [n_rows, n_items], above 0; row: [n], the row of each request; p_uniform: [n];
    draws: [n, n_positions, 2], uniform in [0, 1). Returns items and their exact conditional
    probabilities, both [n, n_positions].
    """
    n, n_positions, _ = draws.shape
    n_items = weights.shape[1]
    upto = weights.cumsum(axis=1)
    ladder = (upto / upto[:, -1:] + np.arange(len(upto))[:, None]).ravel()
    taken = np.empty((n, 0), dtype=np.int64)
    p = np.empty((n, n_positions))
    for k in range(n_positions):
        by_weight, free = _pick_by_weight(weights, upto, ladder, row, taken, draws[:, k, 1])
        by_chance = pick_evenly(taken, n_items, draws[:, k, 1])
        pick = np.where(draws[:, k, 0] < p_uniform, by_chance, by_weight)
        p[:, k] = (1 - p_uniform) * weights[row, pick] / free + p_uniform / (n_items - k)
        taken = np.column_stack([taken, pick])
    return taken, p


def pick_evenly(taken: Ints, n_items: int, u: Floats) -> Ints:
    """One of the items not yet taken, each as likely; taken [n, k], u [n] -> [n]."""
    pick: Ints = np.floor(u * (n_items - taken.shape[1])).astype(np.int64)
    for gone in np.sort(taken, axis=1).T:
        pick += pick >= gone
    return pick


def _pick_by_weight(
    weights: Floats, upto: Floats, ladder: Floats, row: Ints, taken: Ints, u: Floats
) -> tuple[Ints, Floats]:
    """One of the items not yet taken, by weight, and the summed weight of those; both [n]."""
    n_items = weights.shape[1]
    total = upto[row, -1]
    taken = np.sort(taken, axis=1)
    taken_weights = weights[row[:, None], taken]
    free = total - taken_weights.sum(axis=1)
    target = u * free
    for gone, weight in zip(taken.T, taken_weights.T, strict=True):
        target += np.where(target >= upto[row, gone] - weight, weight, 0)
    found = np.searchsorted(ladder, target / total + row, side="right")
    pick = np.clip(found - row * n_items, 0, n_items - 1)
    # where little weight is left, differences of sums are too coarse
    coarse = (free < 1e-6 * total) | (taken == pick[:, None]).any(axis=1)
    if coarse.any():
        pick[coarse], free[coarse] = _pick_slowly(weights[row[coarse]], taken[coarse], u[coarse])
    return pick, free


def _pick_slowly(weights: Floats, taken: Ints, u: Floats) -> tuple[Ints, Floats]:
    """As `_pick_by_weight`, for a copy [n, n_items] with one row per request."""
    np.put_along_axis(weights, taken, 0, axis=1)
    upto = weights.cumsum(axis=1)
    pick = (upto <= u[:, None] * upto[:, -1:]).sum(axis=1)
    return pick, upto[:, -1]


def _fill(
    world: World, scores: Floats, row: Ints, is_uniform: Bools, draws: Floats, spare: Floats
) -> tuple[Ints, Floats, Ints, Floats, Floats]:
    """Slates of one block, as positions among the eligible items."""
    s = world.settings
    greedy = s.main_policy == "greedy"
    p_uniform = np.where(is_uniform | greedy, 1.0, s.p_uniform)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    picks, p = fill(weights, row, p_uniform, draws)
    if greedy:
        best = np.argsort(-scores, axis=1, kind="stable")[:, : s.slate_size]
        picks = np.where(is_uniform[:, None], picks, best[row])
        p[:] = np.nan
    taken = picks
    for k in range(s.n_not_shown):
        taken = np.column_stack([taken, pick_evenly(taken, scores.shape[1], spare[:, k])])
    not_shown = taken[:, s.slate_size :]
    return picks, p, not_shown, scores[row[:, None], picks], scores[row[:, None], not_shown]
