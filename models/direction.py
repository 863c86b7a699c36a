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

That score is for the steps of one history. For a rank of all pairs of items it is too easy on what
is popular: of many pairs with many terms on both sides a few are far from 0 by chance. So an edge
must stand out of what came after and of chance together:

    excess(a, b) = (before - after - chance) / sqrt(after + chance + shrinkage)
    chance = (terms of a as cause) (terms of b as effect) / (2 all terms)

with sums of sizes of terms; chance is what one direction would have if the neighbours of a were
anybody's. What a theme brings together stands in `after` too. What is only popular has about as
much before, and after, as chance: it would have to come first twice as often.

The control is the same excess where each user's steps come in another order, drawn once.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.contract import FloatArray, Histories, IntArray, OffsetArray

Floats = npt.NDArray[np.float64]
LEAST = 1.0  # a score below tells nothing and is not kept
SEED = 0  # of the control


@dataclass(frozen=True, eq=False)
class Directions:
    """Pairs of items that score at least LEAST, in ascending order of cause * n_items + effect."""

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
    scores = counts.differences / np.sqrt(counts.squares + rule.shrinkage)
    return _told(counts, scores.astype(np.float32))


def standing_out(histories: Histories, rule: Rule) -> Directions:
    """The pairs of items whose excess is LEAST or more, as scores."""
    counts = _counted(histories, histories.items, rule)
    return _told(counts, _excess(counts, rule))


def control(histories: Histories, rule: Rule, keys: OffsetArray) -> FloatArray:
    """The excess [m] of the same pairs where each user's steps are shuffled; 0 if nothing is."""
    rng = np.random.default_rng(SEED)
    drawn = rng.random(len(histories.items))
    order = np.lexsort((drawn, _users(histories)))
    counts = _counted(histories, histories.items[order], rule, order)
    if not len(counts.keys):
        return np.zeros(len(keys), dtype=np.float32)
    return _excess(counts.of(keys), rule)


@dataclass(frozen=True, eq=False)
class _Counts:
    """What was counted of pairs of items, in ascending order of their keys."""

    keys: OffsetArray  # [m]
    differences: Floats  # [m] sum of the terms
    totals: Floats  # [m] sum of their sizes
    squares: Floats  # [m]
    supports: OffsetArray  # [m]
    causes: Floats  # [n_items] sum of the sizes of all terms of the item as a cause
    effects: Floats  # [n_items]

    def of(self, keys: OffsetArray) -> "_Counts":
        """What was counted of these pairs, where any was: 0 of what never stood together."""
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        met = self.keys[at] == keys
        return replace(
            self,
            keys=keys,
            differences=self.differences[at] * met,
            totals=self.totals[at] * met,
            squares=self.squares[at] * met,
            supports=self.supports[at] * met,
        )


def _told(counts: _Counts, scores: FloatArray) -> Directions:
    kept = scores >= LEAST
    return Directions(counts.keys[kept], scores[kept], counts.supports[kept])


def _excess(counts: _Counts, rule: Rule) -> FloatArray:
    """[m] float32."""
    cause, effect = np.divmod(counts.keys, len(counts.causes))
    chance = counts.causes[cause] * counts.effects[effect] / (2 * counts.causes.sum())
    after = (counts.totals - counts.differences) / 2
    excess: Floats = (counts.differences - chance) / np.sqrt(after + chance + rule.shrinkage)
    return excess.astype(np.float32)


def _users(histories: Histories) -> OffsetArray:
    sizes = np.diff(histories.indptr)
    return np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)


def _counted(
    histories: Histories, items: IntArray, rule: Rule, order: OffsetArray | None = None
) -> _Counts:
    """Of all pairs of steps at most `window` apart, the items in this order."""
    n, user = histories.n_items, _users(histories)
    strengths = histories.strengths if order is None else histories.strengths[order]
    is_cause = strengths >= rule.strong * strengths.max(initial=0)
    items = items.astype(np.int64)
    keys: list[OffsetArray] = [np.empty(0, dtype=np.int64)]
    terms: list[Floats] = [np.empty(0)]
    for lag in range(1, rule.window + 1):
        first = np.flatnonzero((user[lag:] == user[:-lag]) & (items[lag:] != items[:-lag]))
        for cause, effect, sign in ((first, first + lag, 1.0), (first + lag, first, -1.0)):
            counts = is_cause[cause]
            keys.append(items[cause[counts]] * n + items[effect[counts]])
            terms.append(np.full(int(counts.sum()), sign / lag))
    pairs, pair = np.unique(np.concatenate(keys), return_inverse=True)
    term = np.concatenate(terms)
    totals = _sums(pair, np.abs(term), len(pairs))
    cause, effect = np.divmod(pairs, n)
    return _Counts(
        keys=pairs,
        differences=_sums(pair, term, len(pairs)),
        totals=totals,
        squares=_sums(pair, term * term, len(pairs)),
        supports=np.bincount(pair, term > 0, len(pairs)).astype(np.int64),
        causes=_sums(cause, totals, n),
        effects=_sums(effect, totals, n),
    )


def _sums(groups: OffsetArray, values: Floats, n: int) -> Floats:
    return np.bincount(groups, values, n).astype(np.float64, copy=False)
