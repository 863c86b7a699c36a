"""Which items come before which more often than after: evidence of a cause that no theme has.

What makes two items stand together, a taste, a season, a session's theme, puts either first as
often as the other. A cause comes first. So for each pair of items, over all steps t of a and s of b
in the sequence of one user, at most `window` apart,

    D = sum of 1 / (s - t) where a came before b  -  sum of 1 / (t - s) where it came after
    score(a, b) = D / sqrt(sum of the squares of all terms + shrinkage)

is about normal around 0 for pairs that only stand together, and grows where a causes b. What lies
nearer counts more, as an effect seldom waits long. Only strong steps count as causes: what was
bought causes what comes next more often than what was only looked at, which adds noise. Counted
over the whole of the sequences; a drift of what is popular enters too, but lies within few steps
of each other seldom.

The control is the same score where each user's steps come in another order, drawn once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.contract import FloatArray, Histories, IntArray, OffsetArray

LEAST = 1.0  # a score below tells nothing and is not kept
SEED = 0  # of the control


@dataclass(frozen=True, eq=False)
class Directions:
    """Pairs of items whose score is large, in ascending order of cause * n_items + effect."""

    keys: OffsetArray  # [m]
    scores: FloatArray  # [m] float32, at least LEAST
    supports: OffsetArray  # [m] how often the cause came first, within the window


@dataclass(frozen=True)
class Rule:
    """What counts as a cause, and how much."""

    window: int  # steps at most between cause and effect
    shrinkage: float  # in terms of steps next to each other
    strong: float  # share of the largest strength that a cause's must have


def directions(histories: Histories, rule: Rule) -> Directions:
    """The pairs of items whose score is LEAST or more."""
    counts = _counted(histories, histories.items, rule)
    kept = counts.scores >= LEAST
    return Directions(counts.keys[kept], counts.scores[kept], counts.supports[kept])


def control(histories: Histories, rule: Rule, keys: OffsetArray) -> FloatArray:
    """The scores [m] of the same pairs where each user's steps are shuffled; 0 for none."""
    rng = np.random.default_rng(SEED)
    drawn = rng.random(len(histories.items))
    order = np.lexsort((drawn, _users(histories)))
    counts = _counted(histories, histories.items[order], rule, order)
    if not len(counts.keys):
        return np.zeros(len(keys), dtype=np.float32)
    at = np.searchsorted(counts.keys, keys).clip(max=len(counts.keys) - 1)
    return np.where(counts.keys[at] == keys, counts.scores[at], np.float32(0))


def _users(histories: Histories) -> OffsetArray:
    sizes = np.diff(histories.indptr)
    return np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)


def _counted(
    histories: Histories, items: IntArray, rule: Rule, order: OffsetArray | None = None
) -> Directions:
    """The scores of all pairs of steps at most `window` apart, the items in this order."""
    n, user = histories.n_items, _users(histories)
    strengths = histories.strengths if order is None else histories.strengths[order]
    is_cause = strengths >= rule.strong * strengths.max(initial=0)
    items = items.astype(np.int64)
    keys: list[OffsetArray] = [np.empty(0, dtype=np.int64)]
    terms: list[npt.NDArray[np.float64]] = [np.empty(0)]
    for lag in range(1, rule.window + 1):
        first = np.flatnonzero((user[lag:] == user[:-lag]) & (items[lag:] != items[:-lag]))
        for cause, effect, sign in ((first, first + lag, 1.0), (first + lag, first, -1.0)):
            counts = is_cause[cause]
            keys.append(items[cause[counts]] * n + items[effect[counts]])
            terms.append(np.full(int(counts.sum()), sign / lag))
    pairs, pair = np.unique(np.concatenate(keys), return_inverse=True)
    term = np.concatenate(terms)
    difference = np.bincount(pair, term, len(pairs))
    square = np.bincount(pair, term * term, len(pairs))
    supports = np.bincount(pair, term > 0, len(pairs)).astype(np.int64)
    scores = difference / np.sqrt(square + rule.shrinkage)
    return Directions(pairs, scores.astype(np.float32), supports)
