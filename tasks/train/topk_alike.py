"""The lists of `tasks/train/topk.py` where all users have the same vector: the same order and ties.

The items are then sorted once, and each user has the first k that are left. If seen items stand at
the places c_0 < c_1 < ... of that order, what is left at rank r stands at r + #{m : c_m - m <= r}
(ranks and places from 0), so a list costs k searches and no score.
"""

from collections.abc import Iterator

import numpy as np

from tasks.train.csr import BoolArray, Csr, OffsetArray
from tasks.train.topk import (
    MOST_USERS,
    NOTHING,
    TILE_ITEMS,
    USER_STEP,
    FloatArray,
    TopK,
    VectorScorer,
    decoded,
    keys_of,
    refuse,
)


def are_alike(user_vectors: FloatArray) -> bool:
    """Whether there are users, and all have the same vector."""
    # the second look is at all of them: most models fail the first
    some = user_vectors[:USER_STEP]
    return len(some) > 0 and all(bool((each == some[0]).all()) for each in (some, user_vectors))


def iter_lists_alike(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
) -> Iterator[TopK]:
    """The k best items of every user, block by block; arguments and errors as in `topk.top_k`."""
    refuse(user_vectors, item_vectors, k, seen, allowed)
    n_users, n_items = len(user_vectors), len(item_vectors)
    kept = np.arange(n_items) if allowed is None else np.flatnonzero(allowed)
    keys = np.sort(keys_of(_scores(user_vectors[:1], item_vectors[kept]), kept))
    place = np.full(n_items, -1, dtype=np.int64)  # of those that may not be listed: none
    place[keys & 0x7FFFFFFF] = np.arange(len(keys))
    hidden = seen or Csr(np.zeros(n_users + 1, np.int64), np.empty(0, np.int32), n_items)
    for start in range(0, n_users, MOST_USERS):
        stop = min(start + MOST_USERS, n_users)
        yield decoded(_left(keys, place, hidden.slice(start, stop), k))


def _scores(user_vector: FloatArray, item_vectors: FloatArray) -> FloatArray:
    """Of one user, [W]; rounded as in a block of users."""
    scorer = VectorScorer(user_vector, item_vectors)
    tiles = [tile[:, 0].copy() for tile in scorer.tiles(0, 1, TILE_ITEMS)]
    return np.concatenate([np.empty(0, dtype=np.float32), *tiles])


def _left(keys: OffsetArray, place: OffsetArray, seen: Csr, k: int) -> OffsetArray:
    """The first k keys that each of B users has not seen, NOTHING after the last, [B, k]."""
    width = len(place)
    at = place[seen.indices]
    cells = np.sort((seen.rows() * width + at)[at >= 0])  # of the seen: row and place
    row = cells // max(width, 1)
    starts = np.searchsorted(row, np.arange(seen.n_rows))  # [B]
    gaps = cells - (np.arange(len(cells)) - starts[row])  # row and c_m - m, ascending
    ranks = np.arange(min(k, len(keys)))
    wanted = np.arange(seen.n_rows)[:, None] * width + ranks
    places = ranks + np.searchsorted(gaps, wanted, side="right") - starts[:, None]
    table = np.full((seen.n_rows, k), NOTHING, dtype=np.int64)
    padded = np.append(keys, NOTHING)
    table[:, : len(ranks)] = padded[np.minimum(places, len(keys))]
    return table
