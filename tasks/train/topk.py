"""Exact top-K lists, a block of users at a time: of user and item vectors, or of given scores.

The order is total: larger float32 score first, then smaller item position. Per block: the scores
of all items (for vectors one matrix product), seen items set to -inf, then one more pass over
them: item n is in group n mod N, and the best score of each group is found by long vector
operations. The k-th best of the groups' bests (of groups of groups, which are fewer) is a bound
that k items reach, so every item of the list is in a group that reaches it, and few others are:
only their scores are looked at again. A row in which too many groups reach it, as where scores are
equal, is sorted on its own. So memory is bounded, whatever the scores and however many the users.

Blocks go by turns to one thread per core, each with BLAS held to one thread: what is done beside
the product then runs on all cores too. Nothing of a list depends on who shares its block, but the
last bit of its scores where BLAS rounds a product by the place of its row and its column, as
OpenBLAS does on processors without AVX-512.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.errors import TrainingError
from tasks.train.csr import BoolArray, Csr, IntArray, OffsetArray

FloatArray = npt.NDArray[np.float32]
CACHE_LINE = 16  # scores
ROW_STEP = 16  # users a block is rounded up to
MOST_ROWS = 1024  # users of a block: the product of more is not faster
BLOCK_BYTES = 256 << 20  # of all threads; a smaller block has a slower product
LOWEST = np.finfo(np.float32).min  # no score is below it but -inf
NOTHING = np.iinfo(np.int64).max  # the key of no item: it comes after all others
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("because", pa.string()),
    ]
)


@dataclass(frozen=True, eq=False)
class TopK:
    """Lists of U users, best first; places beyond counts[u] hold item -1 and score -inf."""

    items: IntArray  # [U, k] item positions
    scores: FloatArray  # [U, k]
    counts: IntArray  # [U] items listed


class Scorer(Protocol):
    """Scores of U users for W items, by blocks of users."""

    shape: tuple[int, int]  # (U, W)

    def write(self, start: int, stop: int, out: FloatArray) -> None:
        """Write the finite scores of users start to stop into the first rows of out.

        out has W columns and stop - start rows, rounded up to ROW_STEP; what is left in the rows
        beyond does not matter. Several threads call this at once, each with its own out. A
        user's scores must not depend on start and stop.
        """


class VectorScorer:
    """Inner products of user vectors [U, d] and item vectors [W, d]."""

    def __init__(self, user_vectors: FloatArray, item_vectors: FloatArray) -> None:
        self.shape = (len(user_vectors), len(item_vectors))
        self._users = user_vectors
        self._items = np.ascontiguousarray(item_vectors.T)  # a tenth faster than a view of it

    def write(self, start: int, stop: int, out: FloatArray) -> None:
        """See Scorer."""
        # whole steps of rows: BLAS has another kernel, with another rounding, for a few rows, and
        # a user's list must not depend on who shares the block
        padded = np.zeros((len(out), self._users.shape[1]), dtype=np.float32)
        padded[: stop - start] = self._users[start:stop]
        np.matmul(padded, self._items, out=out)


@dataclass(frozen=True)
class _Layout:
    """How a row of scores is laid out and how many rows a thread takes at once.

    Group g holds columns g, g + n_groups, g + 2 n_groups, ...; a coarse group holds groups alike.
    Columns from n_items on are padding: -inf.
    """

    n_items: int
    group: int  # columns of a group
    coarse: int  # groups of a coarse group
    n_groups: int
    n_rows: int  # of a block
    n_threads: int

    @property
    def width(self) -> int:
        """Columns of a row."""
        return self.group * self.n_groups


def top_k(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    block_bytes: int = BLOCK_BYTES,
    threads: int = 0,
) -> TopK:
    """The k best items of every user.

    Args:
        user_vectors: [U, d] float32.
        item_vectors: [I, d] float32.
        k: at least 1; may exceed I.
        seen: U rows over I columns of items not to list for that user.
        allowed: [I], items that may be listed at all.
        block_bytes: what all blocks of scores at work may take, each of 16 users at least; the
            result does not depend on it.
        threads: that work on blocks; 0: one per core.

    Raises:
        TrainingError: shapes do not fit, or a vector is not finite or too long to score.
    """
    blocks = iter_top_k(
        user_vectors,
        item_vectors,
        k,
        seen=seen,
        allowed=allowed,
        block_bytes=block_bytes,
        threads=threads,
    )
    return joined(blocks, k)


def iter_top_k(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    block_bytes: int = BLOCK_BYTES,
    threads: int = 0,
) -> Iterator[TopK]:
    """The same lists, block by block, users in the order given; arguments as in `top_k`."""
    refuse(user_vectors, item_vectors, k, seen, allowed)
    kept = None if allowed is None else np.flatnonzero(allowed).astype(np.int32)
    vectors = item_vectors if kept is None else item_vectors[kept]
    scorer = VectorScorer(user_vectors, vectors)
    yield from iter_lists(scorer, k, seen=seen, kept=kept, block_bytes=block_bytes, threads=threads)


def joined(blocks: Iterable[TopK], k: int) -> TopK:
    """One from many; none gives lists of no user."""
    empty = TopK(np.empty((0, k), np.int32), np.empty((0, k), np.float32), np.empty(0, np.int32))
    parts = list(blocks) or [empty]
    return TopK(
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


class Reasons(Protocol):
    """Why items are listed."""

    def of(self, first: int, listed: IntArray) -> pa.Array:
        """The id of the item that is why each of these is listed, list by list; null: not known.

        listed [U, k] are the lists of user number `first` and those after; -1 has no reason.
        """


def rows_of(
    blocks: Iterable[TopK], users: pa.Array, items: pa.Array, reasons: Reasons | None = None
) -> Iterator[pa.RecordBatch]:
    """The lists as rows of `SCHEMA`, one batch per block, users in the order of the blocks.

    `users` [U] and `items` [I] are the string ids. Ranks count from 1. A user with no item left
    has no row.
    """
    first = 0
    for block in blocks:
        rows, places = np.nonzero(block.items >= 0)
        columns = [
            users.take(pa.array(rows + first)).cast(pa.string()),
            items.take(pa.array(block.items[rows, places])).cast(pa.string()),
            pa.array((places + 1).astype(np.int32)),
            pa.array(block.scores[rows, places].astype(np.float64)),
            pa.nulls(len(rows), pa.string()) if reasons is None else reasons.of(first, block.items),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
        first += len(block.items)


def iter_lists(
    scorer: Scorer,
    k: int,
    *,
    seen: Csr | None = None,
    kept: IntArray | None = None,
    block_bytes: int = BLOCK_BYTES,
    threads: int = 0,
) -> Iterator[TopK]:
    """The lists of the scorer's users, block by block, in their order.

    Args:
        scorer: U users, W items.
        k: at least 1.
        seen: U rows of items not to list for that user.
        kept: [W] ascending, the item position of each of the scorer's columns; all items if None.
        block_bytes: what all blocks of scores at work may take.
        threads: that work on blocks; 0: one per core.

    Raises:
        TrainingError: a score is not finite.
    """
    n_users, n_items = scorer.shape
    layout = _layout(n_users, n_items, k, block_bytes, threads or _n_cores())
    column = None if kept is None or seen is None else _inverse(kept, seen.n_columns)
    parts = [
        _part(scorer, k, seen, column, layout, first * layout.n_rows)
        for first in range(layout.n_threads)
    ]
    for block in _in_turn(parts):
        yield block if kept is None else _at(block, kept)


def refuse(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    seen: Csr | None,
    allowed: BoolArray | None,
) -> None:
    """Raise TrainingError for what cannot be ranked; arguments as in `top_k`."""
    shape = (len(user_vectors), len(item_vectors))
    if k < 1:
        raise unrankable(f"k must be at least 1, not {k}")
    if user_vectors.shape[1:] != item_vectors.shape[1:]:
        raise unrankable(f"vectors do not fit: {user_vectors.shape} and {item_vectors.shape}")
    if seen is not None and (seen.n_rows, seen.n_columns) != shape:
        raise unrankable(f"seen is {(seen.n_rows, seen.n_columns)}, users and items are {shape}")
    if allowed is not None and allowed.shape != shape[1:]:
        raise unrankable(f"allowed is {allowed.shape}, items are {shape[1:]}")
    # by Cauchy-Schwarz: no sum inside a score can overflow, so no score can become NaN or inf
    longest = _longest(user_vectors) * _longest(item_vectors)
    if not longest < float(np.finfo(np.float32).max):
        raise unrankable("vectors hold NaN or infinity, or are too long to score in float32")


def _longest(vectors: FloatArray) -> float:
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0)))


def unrankable(what: str) -> TrainingError:
    """The error of scores that cannot be ranked."""
    return TrainingError(
        what,
        where="top-K scoring",
        unchanged="no list was written",
        fix="look at the model's loss curve and its vectors",
    )


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _layout(n_users: int, n_items: int, k: int, block_bytes: int, threads: int) -> _Layout:
    # a score looked at again is far from its neighbours and costs as much as 25 that are not
    group = _power_of_two(np.sqrt(n_items / (8 * k)), 4, 16)
    n_groups = -(-n_items // group)
    coarse = _power_of_two(n_groups / (6 * k), 1, 32)  # leaves at least 4 k
    # rows start an odd number of cache lines apart: at 4 kB the product is a third slower
    lines = -(-n_groups * group // CACHE_LINE) | 1
    n_groups = lines * CACHE_LINE // group
    width = n_groups * group
    looked_at = min(_most_groups(k) * group, width)
    threads = min(threads, max(-(-n_users // ROW_STEP), 1))
    fits = block_bytes // threads // max(4 * width + 6 * n_groups + 32 * looked_at, 1)
    even = -(-n_users // threads)
    steps = max(min(fits, MOST_ROWS) // ROW_STEP, 1)
    steps = min(steps, max(-(-even // ROW_STEP), 1))
    return _Layout(n_items, group, coarse, n_groups, steps * ROW_STEP, threads)


def _power_of_two(about: float, least: int, most: int) -> int:
    return int(2 ** np.round(np.log2(np.clip(about, least, most))))


def _most_groups(k: int) -> int:
    """Groups of one row that are looked at again; a row with more is sorted on its own."""
    return 2 * k + 16


def _inverse(kept: IntArray, n_items: int) -> IntArray:
    column = np.full(n_items, -1, dtype=np.int32)
    column[kept] = np.arange(len(kept), dtype=np.int32)
    return column


def _at(block: TopK, kept: IntArray) -> TopK:
    """The same lists by item position instead of column."""
    listed = block.items >= 0
    block.items[listed] = kept[block.items[listed]]
    return block


def _in_turn(parts: list[Iterator[TopK]]) -> Iterator[TopK]:
    """One block of each part, then the next of each, until one has none; a thread for each part.

    A part is one block ahead at most, so that memory does not grow with the users.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(len(parts)) as pool:
        ahead = deque((part, pool.submit(next, part, None)) for part in parts)
        while (block := ahead[0][1].result()) is not None:
            part, _ = ahead.popleft()
            ahead.append((part, pool.submit(next, part, None)))
            yield block


def _part(
    scorer: Scorer, k: int, seen: Csr | None, column: IntArray | None, layout: _Layout, first: int
) -> Iterator[TopK]:
    """The lists of every n_threads-th block from user `first` on."""
    n_users = scorer.shape[0]
    buffer = np.empty((layout.n_rows, layout.width), dtype=np.float32)
    buffer[:, layout.n_items :] = -np.inf  # nobody writes there
    bests = np.empty((layout.n_rows, layout.n_groups), dtype=np.float32)
    for start in range(first, n_users, layout.n_rows * layout.n_threads):
        stop = min(start + layout.n_rows, n_users)
        n_rounded = -(-(stop - start) // ROW_STEP) * ROW_STEP
        scorer.write(start, stop, buffer[:n_rounded, : layout.n_items])
        scores = buffer[: stop - start]
        if seen is not None:
            _mask(scores, seen.slice(start, stop), column)
        yield _select(scores, k, layout, bests[: len(scores)])


def _mask(scores: FloatArray, seen: Csr, column: IntArray | None) -> None:
    """Set what is seen to -inf; `column` has the column of each item, -1 for none."""
    cells = seen.rows() * scores.shape[1]
    columns = seen.indices if column is None else column[seen.indices]
    if column is not None:
        cells, columns = cells[columns >= 0], columns[columns >= 0]
    scores.reshape(-1)[cells + columns] = -np.inf


def _select(scores: FloatArray, k: int, layout: _Layout, bests: FloatArray) -> TopK:
    """The k best columns of each row of scores [B, width]; bests [B, n_groups] is room to work."""
    grouped = scores.reshape(len(scores), layout.group, layout.n_groups)
    np.maximum.reduce(grouped, axis=1, out=bests)
    if not bests.max(initial=-np.inf) < np.inf:
        raise unrankable("a score is NaN or infinite")
    bound = _bound(bests, k, layout.coarse)  # [B]
    rows, groups = np.divmod(np.flatnonzero(bests >= bound[:, None]), layout.n_groups)
    is_crowded = np.bincount(rows, minlength=len(scores)) > _most_groups(k)
    if is_crowded.any():
        rows, groups = rows[~is_crowded[rows]], groups[~is_crowded[rows]]
    gathered = grouped[rows, :, groups]  # [groups that reach the bound, group]
    reached = np.flatnonzero(gathered >= bound[rows][:, None])
    nth, member = np.divmod(reached, layout.group)
    keys = keys_of(gathered[nth, member], member * layout.n_groups + groups[nth])
    table = _table(keys, rows[nth], len(scores), k)
    for row in np.flatnonzero(is_crowded):
        table[row, :k] = _sorted_alone(scores[row], k)
        table[row, k:] = NOTHING
    return decoded(np.sort(table, axis=1)[:, :k])


def _bound(bests: FloatArray, k: int, coarse: int) -> FloatArray:
    """What at least k scores of each row reach; LOWEST where that is not known."""
    n_rows, n_groups = bests.shape
    n_coarse = n_groups // coarse
    if n_coarse < k:
        return np.full(n_rows, LOWEST, dtype=np.float32)
    coarsest = bests[:, : coarse * n_coarse].reshape(n_rows, coarse, n_coarse).max(axis=1)
    kth = np.partition(coarsest, n_coarse - k, axis=1)[:, n_coarse - k]
    return np.maximum(kth, LOWEST)


def keys_of(scores: FloatArray, columns: OffsetArray) -> OffsetArray:
    """One int64 each, that orders as (-score, column); `decoded` turns them back."""
    # floats order as their bits do once those of negative ones are flipped; + 0: -0.0 is 0.0
    bits = (scores + np.float32(0)).view(np.int32)
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys: OffsetArray = (~ascending).astype(np.int64) << 32 | columns
    return keys


def _table(keys: OffsetArray, rows: OffsetArray, n_rows: int, k: int) -> OffsetArray:
    """The keys in their rows, from the left, at least k columns; `rows` is ascending."""
    counts = np.bincount(rows, minlength=n_rows)
    table = np.full((n_rows, max(k, counts.max(initial=0))), NOTHING, dtype=np.int64)
    table[rows, np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]] = keys
    return table


def _sorted_alone(scores: FloatArray, k: int) -> OffsetArray:
    """The keys of the k best of one row, NOTHING after the last."""
    n_best = min(k, len(scores))
    kth = max(np.partition(scores, len(scores) - n_best)[len(scores) - n_best], LOWEST)
    above = np.flatnonzero(scores > kth)
    equal = np.flatnonzero(scores == kth)[: n_best - len(above)]
    columns = np.concatenate([above, equal])
    keys = np.full(k, NOTHING, dtype=np.int64)
    keys[: len(columns)] = keys_of(scores[columns], columns)
    return keys


def decoded(keys: OffsetArray) -> TopK:
    """Lists from ascending keys [B, k], by column."""
    listed = keys != NOTHING
    ascending = ~(keys >> 32).astype(np.int32)
    scores = (ascending ^ ((ascending >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    items = (keys & 0x7FFFFFFF).astype(np.int32)
    return TopK(
        np.where(listed, items, np.int32(-1)),
        np.where(listed, scores, np.float32(-np.inf)),
        listed.sum(axis=1, dtype=np.int32),
    )
