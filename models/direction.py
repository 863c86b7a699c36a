"""Which items come before which more often than after: evidence of a cause that no theme has.

What makes two items stand together, a taste, a season, a session's theme, puts either first as
often as the other. A cause comes first. So of steps at most `window` apart, for each pair of items,

    D = sum of the strengths of a before b  -  sum of the strengths of a after b
    score(a, b) = D / sqrt(sum of the squares of both + shrinkage)

is about normal around 0 for pairs that only stand together, and grows where a causes b. A step's
strength counts when it is looked at as the cause: what was bought causes more than what was seen.
Counted over the whole of the sequences; a drift of what is popular enters too, but lies within few
steps of each other seldom.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.contract import FloatArray, Histories, OffsetArray

LEAST = 1.0  # a score below tells nothing and is not kept


@dataclass(frozen=True, eq=False)
class Directions:
    """Pairs of items whose score is large, in ascending order of cause * n_items + effect."""

    keys: OffsetArray  # [m]
    scores: FloatArray  # [m] float32, at least LEAST


def directions(histories: Histories, window: int, shrinkage: float) -> Directions:
    """The scores of all pairs of items at most `window` steps apart."""
    n = histories.n_items
    user = np.repeat(np.arange(len(histories.indptr) - 1), np.diff(histories.indptr))
    keys: list[OffsetArray] = [np.empty(0, dtype=np.int64)]
    signed: list[npt.NDArray[np.float64]] = [np.empty(0)]
    items = histories.items.astype(np.int64)
    strengths = histories.strengths.astype(np.float64)
    for lag in range(1, window + 1):
        together = np.flatnonzero((user[lag:] == user[:-lag]) & (items[lag:] != items[:-lag]))
        first, then = items[together], items[together + lag]
        keys += [first * n + then, then * n + first]
        signed += [strengths[together], -strengths[together + lag]]
    pairs, pair = np.unique(np.concatenate(keys), return_inverse=True)
    weights = np.concatenate(signed)
    difference = np.bincount(pair, weights, len(pairs))
    square = np.bincount(pair, weights * weights, len(pairs))
    scores = (difference / np.sqrt(square + shrinkage)).astype(np.float32)
    kept = scores >= LEAST
    return Directions(pairs[kept], scores[kept])
