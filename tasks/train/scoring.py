"""The lists of any model: from its vectors where it has them, else from blocks of its scores."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from models.contract import Recommender
from tasks.train.csr import BoolArray, Csr, IntArray, OffsetArray
from tasks.train.topk import (
    FloatArray,
    Scores,
    TopK,
    iter_top_k,
    iter_top_k_of_scores,
    top_k,
    top_k_of_scores,
)


@dataclass(frozen=True, eq=False)
class Side:
    """Users or items by id, and where the model has each: -1 for those it was not trained on."""

    ids: pa.Array  # [n] strings
    at: IntArray  # [n]


def best_items(
    model: Recommender,
    rows: OffsetArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
) -> TopK:
    """The k best of all items the model knows, for users by position; the rest as in `top_k`."""
    if model.has_vectors:
        vectors = model.user_vectors()[rows], model.item_vectors()
        return top_k(*vectors, k, seen=seen, allowed=allowed)
    scores = Scores(len(rows), model.n_items, lambda start, stop: model.scores(rows[start:stop]))
    return top_k_of_scores(scores, k, seen=seen, allowed=allowed)


def iter_lists(
    model: Recommender, users: Side, items: Side, k: int, *, seen: Csr
) -> Iterator[pa.RecordBatch]:
    """The k best of these items for each of these users, as rows of `topk.SCHEMA`.

    Only a side that the model serves cold may hold -1. `seen` is over the same users and items.
    """
    if model.has_vectors:
        of_users = _vectors(model.user_vectors(), model.cold_user_vector(), users.at)
        of_items = _vectors(model.item_vectors(), model.cold_item_vector(), items.at)
        return iter_top_k(users.ids, items.ids, of_users, of_items, k, seen=seen)

    def of(start: int, stop: int) -> FloatArray:
        scores: FloatArray = model.scores(users.at[start:stop].astype(np.int64))[:, items.at]
        return scores

    scores = Scores(len(users.at), len(items.at), of)
    return iter_top_k_of_scores(users.ids, items.ids, scores, k, seen=seen)


def _vectors(known: FloatArray, cold: FloatArray | None, at: IntArray) -> FloatArray:
    """The vector of each, [n, d]."""
    if cold is None:
        return known[at]
    vectors = np.tile(cold, (len(at), 1))
    vectors[at >= 0] = known[at[at >= 0]]
    return vectors
