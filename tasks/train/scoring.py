"""The lists of any model: from its vectors where it has them, else from blocks of its scores."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from models.contract import FloatArray, Recommender
from tasks.train.csr import BoolArray, Csr, IntArray, OffsetArray
from tasks.train.topk import Reasons, TopK, in_steps, iter_lists, joined, rows_of, unrankable
from tasks.train.topk_alike import are_alike, iter_lists_alike
from tasks.train.topk_bounded import iter_lists_bounded
from tasks.train.topk_cuda import iter_lists_on

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Side:
    """Users or items by id, and where the model has each: -1 for those it was not trained on."""

    ids: pa.Array  # [n] strings
    at: IntArray  # [n]


class ModelScorer:
    """What a model without vectors gives for users [U] and items [W] by position; see `Scorer`."""

    def __init__(self, model: Recommender, users: OffsetArray, items: OffsetArray) -> None:
        self.shape, self.n_held = (len(users), len(items)), model.n_items
        self._model, self._users, self._items = model, users, items

    def tiles(self, start: int, stop: int, n_items: int) -> Iterator[FloatArray]:
        """Raises TrainingError for scores that are not finite, or not one per item."""
        scores = self._model.scores(self._users[start:stop])
        if scores.shape != (stop - start, self._model.n_items) or not np.isfinite(scores).all():
            raise unrankable("scores hold NaN or infinity, or are not one per user and item")
        for first in range(0, len(self._items), n_items):
            items = self._items[first : first + n_items]
            tile = np.zeros((len(items), in_steps(stop - start)), dtype=np.float32)
            tile[:, : stop - start] = scores[:, items].T
            yield tile


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
        return joined(_of_vectors(*vectors, k, seen=seen, allowed=allowed), k)
    kept = np.flatnonzero(np.ones(model.n_items) if allowed is None else allowed)
    scorer = ModelScorer(model, rows, kept)
    return joined(iter_lists(scorer, k, seen=seen, kept=kept.astype(np.int32)), k)


def iter_rows(
    model: Recommender,
    users: Side,
    items: Side,
    k: int,
    *,
    seen: Csr,
    device: torch.device,
    threads: int = 0,
    reasons: Reasons | None = None,
) -> Iterator[pa.RecordBatch]:
    """The k best of these items for each of these users, as rows of `topk.SCHEMA`.

    Only a side that the model serves cold may hold -1. `seen` is over the same users and items. On
    a GPU where `device` is one and the model has vectors, else by `threads` (0: one per core).
    """
    blocks = _lists(model, users, items, k, seen, device, threads)
    return rows_of(blocks, users.ids, items.ids, reasons)


def _lists(
    model: Recommender,
    users: Side,
    items: Side,
    k: int,
    seen: Csr,
    device: torch.device,
    threads: int,
) -> Iterator[TopK]:
    if not model.has_vectors:
        scorer = ModelScorer(model, users.at.astype(np.int64), items.at.astype(np.int64))
        return iter_lists(scorer, k, seen=seen, threads=threads)
    of_users = _vectors(model.user_vectors(), model.cold_user_vector(), users.at)
    of_items = _vectors(model.item_vectors(), model.cold_item_vector(), items.at)
    return _of_vectors(of_users, of_items, k, seen=seen, device=device, threads=threads)


def _of_vectors(
    users: FloatArray,
    items: FloatArray,
    k: int,
    *,
    seen: Csr | None,
    allowed: BoolArray | None = None,
    device: torch.device = _CPU,
    threads: int = 0,
) -> Iterator[TopK]:
    """By the way that costs least for these vectors; all give the same lists."""
    if are_alike(users):
        return iter_lists_alike(users, items, k, seen=seen, allowed=allowed)
    if device.type == "cuda":
        return iter_lists_on(device, users, items, k, seen=seen, allowed=allowed)
    return iter_lists_bounded(users, items, k, seen=seen, allowed=allowed, threads=threads)


def _vectors(known: FloatArray, cold: FloatArray | None, at: IntArray) -> FloatArray:
    """The vector of each, [n, d]."""
    if cold is None:
        return known[at]
    vectors = np.tile(cold, (len(at), 1))
    vectors[at >= 0] = known[at[at >= 0]]
    return vectors
