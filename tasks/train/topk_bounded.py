"""The lists of `tasks/train/topk.py` without most of their scores: the same items, order and ties.

Where BLAS rounds a product by its place (`tasks/train/topk.py`), the last bit may be another.

Of a user vector p and an item vector q, coordinates in which all users are alike (such as the 1
that meets an item's bias) give a sum b that is the item's alone; the rest obeys Cauchy-Schwarz:

    p . q <= |p| |q| + b,    |p| and |q| without those coordinates

Some thousand users at a time: each one's k-th best score among the few items that promise most is a
score that the k-th of all reaches. An item whose bound stays below it, for everyone of a block of
users, stands in no list of theirs and is not scored. Users share a block with those who need about
as many items. Where bounds rule out little, as before a model has learnt, all is scored.

Bounds by norms: C. Teflioudi, R. Gemulla, O. Mykytiuk, "LEMP: Fast Retrieval of Large Entries in a
Matrix Product", SIGMOD 2015.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.train.csr import BoolArray, Csr, IntArray, OffsetArray
from tasks.train.topk import (
    MOST_USERS,
    FloatArray,
    TopK,
    VectorScorer,
    iter_lists,
    iter_top_k,
    joined,
    refuse,
)

LEAST_ITEMS = 8192  # fewer are all scored
USERS = 65_536  # that are put to blocks together
BLOCKS = 32  # that they are put to, each of
LEAST_ROWS = 128  # users at least
TRIED = 4096  # users of all who tell whether bounds help
FIRST = 64  # one item of so many is scored for everyone
SAMPLE = 64  # items by which users are put to blocks
STEP = 64  # items scored are a multiple: at the edge of a product BLAS may round otherwise
MOST = 0.6  # share of the scores left; with more than that all are made, from then on
GRID = 512  # norms between which the bounds of a block are taken
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Bounds:
    """What the bounds of scores are made of."""

    of_users: Floats  # [U] |p|
    of_items: Floats  # [W] |q|
    biases: Floats  # [W] b
    slack: float  # more than rounding adds to a score

    def needed(self, rows: OffsetArray, reached: Floats) -> IntArray:
        """Columns whose bound reaches what some of these users' k-th does; at least, ascending."""
        low, high = self.of_items.min(), self.of_items.max()
        norms = np.linspace(low, high, GRID + 1)
        # convex in the norm: between two norms it is at most what it is at one of them
        above = np.full(GRID + 1, -np.inf)
        for start in range(0, len(rows), 1024):
            some = slice(start, start + 1024)
            lines = self.of_users[rows[some], None] * norms - reached[some, None]
            above = np.maximum(above, lines.max(axis=0))
        at = ((self.of_items - low) / max(high - low, 1e-30) * GRID).astype(np.int64)
        at = np.clip(at, 0, GRID - 1)
        most = np.maximum.reduce([above[np.clip(at + near, 0, GRID)] for near in (-1, 0, 1, 2)])
        is_needed = most + self.biases + self.slack >= 0
        n_more = -int(is_needed.sum()) % STEP
        is_needed[np.flatnonzero(~is_needed)[:n_more]] = True
        return np.flatnonzero(is_needed).astype(np.int32)


def iter_lists_bounded(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    threads: int = 0,
) -> Iterator[TopK]:
    """The k best items of every user, block by block; arguments and errors as in `topk.top_k`."""
    n_users = len(user_vectors)
    kept = np.flatnonzero(np.ones(len(item_vectors)) if allowed is None else allowed)
    if len(kept) < LEAST_ITEMS or n_users == 0:
        yield from iter_top_k(
            user_vectors, item_vectors, k, seen=seen, allowed=allowed, threads=threads
        )
        return
    refuse(user_vectors, item_vectors, k, seen, allowed)
    everything = kept.astype(np.int32)
    vectors = item_vectors[kept]
    bounds = _bounds(user_vectors, vectors)
    promising = _most_promising(bounds, k)

    def work(rows: OffsetArray) -> _Work:
        users, hidden = user_vectors[rows], None if seen is None else seen.take(rows)
        return _Work(users, vectors, everything, hidden, k, threads)

    some = np.unique(np.linspace(0, n_users - 1, TRIED, dtype=np.int64))
    helps = n_users < 2 * TRIED or work(some).plan(bounds, some, promising).share <= MOST
    for start in range(0, n_users, USERS):
        rows = np.arange(start, min(start + USERS, n_users))
        now = work(rows)
        plan = now.plan(bounds, rows, promising) if helps else None
        if plan is None or plan.share > MOST:
            helps = False
            yield from now.lists(np.arange(len(rows)), np.arange(len(kept), dtype=np.int32))
        else:
            yield from _cut(now.done(plan))


def _cut(lists: TopK) -> Iterator[TopK]:
    """The same lists by few users: their rows are written as they come."""
    for start in range(0, len(lists.items), MOST_USERS):
        some = slice(start, start + MOST_USERS)
        yield TopK(lists.items[some], lists.scores[some], lists.counts[some])


def _bounds(user_vectors: FloatArray, item_vectors: FloatArray) -> _Bounds:
    is_alike = (user_vectors == user_vectors[0]).all(axis=0)  # [d]
    users, items = user_vectors[:, ~is_alike], item_vectors[:, ~is_alike]
    longest = (
        np.linalg.norm(user_vectors, axis=1).max() * np.linalg.norm(item_vectors, axis=1).max()
    )
    return _Bounds(
        of_users=_norms(users),
        of_items=_norms(items),
        biases=item_vectors[:, is_alike].astype(np.float64) @ user_vectors[0, is_alike],
        slack=4 * (item_vectors.shape[1] + 8) * float(np.finfo(np.float32).eps) * float(longest),
    )


def _norms(vectors: FloatArray) -> Floats:
    norms: Floats = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return norms


def _most_promising(bounds: _Bounds, k: int) -> IntArray:
    """The columns that are scored for everyone, ascending."""
    promise = np.median(bounds.of_users) * bounds.of_items + bounds.biases
    n_first = -(-max(len(promise) // FIRST, 16 * k) // STEP) * STEP
    n_first = min(n_first, len(promise))
    return np.sort(np.argsort(-promise, kind="stable")[:n_first]).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which items are scored for which users."""

    found: TopK  # of every user, of the items that promise most
    blocks: list[OffsetArray]  # positions of users
    columns: list[IntArray]  # of each block, ascending
    n_scores: int  # of all users and items

    @property
    def share(self) -> float:
        """Of the scores, what is made."""
        sizes = (len(some) * len(of) for some, of in zip(self.blocks, self.columns, strict=True))
        return sum(sizes) / self.n_scores


@dataclass(frozen=True, eq=False)
class _Work:
    """Some users and all items that may be listed."""

    users: FloatArray  # [n, d]
    items: FloatArray  # [W, d]
    kept: IntArray  # [W] the position of each
    seen: Csr | None  # n rows
    k: int
    threads: int

    def lists(self, rows: OffsetArray, columns: IntArray) -> Iterator[TopK]:
        """The lists of these users, of these items alone."""
        scorer = VectorScorer(self.users[rows], self.items[columns])
        hidden = None if self.seen is None else self.seen.take(rows)
        kept = self.kept[columns]
        return iter_lists(scorer, self.k, seen=hidden, kept=kept, threads=self.threads)

    def plan(self, bounds: _Bounds, rows: OffsetArray, promising: IntArray) -> _Plan:
        """What bounds leave to be scored. `rows` are the users' places in the bounds."""
        n = len(self.users)
        n_blocks = min(-(-n // LEAST_ROWS), BLOCKS)
        found = joined(self.lists(np.arange(n), promising), self.k)
        reached = found.scores[:, self.k - 1].astype(np.float64)  # [n], -inf where fewer are left
        blocks = np.array_split(_by_need(bounds, rows, reached), n_blocks)
        columns = [bounds.needed(rows[some], reached[some]) for some in blocks]
        return _Plan(found, blocks, columns, n * len(self.items))

    def done(self, plan: _Plan) -> TopK:
        """The lists of all items, in the order of the users."""
        found = plan.found
        for some, of in zip(plan.blocks, plan.columns, strict=True):
            part = joined(self.lists(some, of), self.k)
            found.items[some], found.scores[some] = part.items, part.scores
            found.counts[some] = part.counts
        return found


def _by_need(bounds: _Bounds, rows: OffsetArray, reached: Floats) -> OffsetArray:
    """The users in order of how many items of a sample they need."""
    sample = slice(0, None, max(len(bounds.of_items) // SAMPLE, 1))
    norms, biases = (each[sample].astype(np.float32) for each in (bounds.of_items, bounds.biases))
    limit = bounds.of_users[rows, None].astype(np.float32) * norms + biases
    n_needed = (limit >= reached[:, None].astype(np.float32)).sum(axis=1)
    return np.argsort(n_needed, kind="stable")
