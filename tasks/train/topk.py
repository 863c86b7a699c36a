"""Exact top-K lists, a block of users at a time: of user and item vectors, or of given scores.

The order is total: larger float32 score first, then smaller item position. The scores of a block
come tile by tile, some items for all its users (for vectors a matrix product each), and stay in the
processor's cache: seen items are set to -inf, and what is above the k-th best of the items before
is kept aside. Now and then this is merged into the lists, which raises what later tiles have to
beat; an item that only equals it comes later in the order and stays out. So few scores are looked
at twice, and memory is bounded, whatever the scores and however many the users.

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
USER_STEP = 16  # users a block is rounded up to
MOST_USERS = 1024  # of a block: the product of more is not faster
TILE_ITEMS = 1024  # of a tile, and 16 k at least: of few, most are above what the first k reach
LEAST_ITEMS = 64
TILE_BYTES = 4 << 20  # of the scores that a thread holds: a small part of a common cache
HELD_BYTES = 256 << 20  # of what scorers hold beside, of all threads
GROUP = 8  # items of the first tile whose best tells what k reach
GROWTH = 2  # lists are merged each time so many times as many tiles are done
MOST_ASIDE = 2048  # scores of one user that are held aside
REPEATED = 16  # items whose scores are compared in one vector operation
ALL_TRUE = np.uint64(0x0101010101010101)
LOWEST = np.finfo(np.float32).min  # no score is below it but -inf
NOTHING = np.iinfo(np.int64).max  # the key of no item: it comes after all others
NOTHING_HIDDEN: OffsetArray = np.empty(0, dtype=np.int64)
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
    n_held: int  # scores of a user that it holds beside the tile

    def tiles(self, start: int, stop: int, n_items: int) -> Iterator[FloatArray]:
        """The finite scores of users start to stop for n_items items, then for the next, to W.

        A tile has a row for each item, n_items of them but for the last, and a column for each
        user, rounded up to USER_STEP: the columns beyond hold any finite numbers. It is
        contiguous, written in by whoever asked, and no more looked at when asking for the next.
        Several threads call this at once. A user's scores must not depend on start and stop.
        """


class VectorScorer:
    """Inner products of user vectors [U, d] and item vectors [W, d]."""

    def __init__(self, user_vectors: FloatArray, item_vectors: FloatArray) -> None:
        self.shape, self.n_held = (len(user_vectors), len(item_vectors)), 0
        self._users = user_vectors
        self._items = np.ascontiguousarray(item_vectors)

    def tiles(self, start: int, stop: int, n_items: int) -> Iterator[FloatArray]:
        """See Scorer."""
        # whole steps of users: BLAS has another kernel, with another rounding, for a few columns,
        # and a user's list must not depend on who shares the block
        n_columns = in_steps(stop - start)
        users = np.zeros((self._users.shape[1], n_columns), dtype=np.float32)
        users[:, : stop - start] = self._users[start:stop].T
        room = np.empty((min(n_items, len(self._items)), n_columns), dtype=np.float32)
        for first in range(0, len(self._items), n_items):
            items = self._items[first : first + n_items]
            yield np.matmul(items, users, out=room[: len(items)])


def in_steps(n_users: int) -> int:
    """So many or a few more."""
    return -(-n_users // USER_STEP) * USER_STEP


def top_k(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    tile_bytes: int = TILE_BYTES,
    threads: int = 0,
) -> TopK:
    """The k best items of every user.

    Args:
        user_vectors: [U, d] float32.
        item_vectors: [I, d] float32.
        k: at least 1; may exceed I.
        seen: U rows over I columns of items not to list for that user.
        allowed: [I], items that may be listed at all.
        tile_bytes: what the scores that a thread works on may take, of 16 users and 64 items at
            least; the result does not depend on it.
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
        tile_bytes=tile_bytes,
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
    tile_bytes: int = TILE_BYTES,
    threads: int = 0,
) -> Iterator[TopK]:
    """The same lists, block by block, users in the order given; arguments as in `top_k`."""
    refuse(user_vectors, item_vectors, k, seen, allowed)
    kept = None if allowed is None else np.flatnonzero(allowed).astype(np.int32)
    vectors = item_vectors if kept is None else item_vectors[kept]
    scorer = VectorScorer(user_vectors, vectors)
    yield from iter_lists(scorer, k, seen=seen, kept=kept, tile_bytes=tile_bytes, threads=threads)


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
    tile_bytes: int = TILE_BYTES,
    threads: int = 0,
) -> Iterator[TopK]:
    """The lists of the scorer's users, block by block, in their order.

    Args:
        scorer: U users, W items.
        k: at least 1.
        seen: U rows of items not to list for that user.
        kept: [W] ascending, the item position of each of the scorer's items; all items if None.
        tile_bytes: what the scores that a thread works on may take.
        threads: that work on blocks; 0: one per core.

    Raises:
        TrainingError: a score is NaN or infinite; one of -inf is not listed.
    """
    n_users = scorer.shape[0]
    threads = min(threads or _n_cores(), max(-(-n_users // USER_STEP), 1))
    n_items = _tile_items(k, tile_bytes)
    n_rows = _block_users(n_users, n_items, tile_bytes, threads)
    if scorer.n_held:
        n_rows = min(n_rows, _whole_steps(HELD_BYTES // threads // (4 * scorer.n_held)))
    row = None if kept is None or seen is None else _inverse(kept, seen.n_columns)

    def part(first: int) -> Iterator[TopK]:
        for start in range(first * n_rows, n_users, n_rows * threads):
            stop = min(start + n_rows, n_users)
            hidden = NOTHING_HIDDEN if seen is None else _cells(seen.slice(start, stop), row)
            lists = _Lists(stop - start, k)
            lists.add_all(scorer.tiles(start, stop, n_items), hidden)
            yield decoded(lists.kept)

    for block in _in_turn([part(first) for first in range(threads)]):
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


def _tile_items(k: int, tile_bytes: int) -> int:
    most = tile_bytes // (4 * USER_STEP)
    return max(min(max(TILE_ITEMS, 2 * GROUP * k), most), LEAST_ITEMS)


def _block_users(n_users: int, n_items: int, tile_bytes: int, threads: int) -> int:
    fits = _whole_steps(min(tile_bytes // (4 * n_items), MOST_USERS))
    return min(fits, max(in_steps(-(-n_users // threads)), USER_STEP))


def _whole_steps(n_users: int) -> int:
    """So many or a few less, but a step."""
    return max(n_users // USER_STEP, 1) * USER_STEP


def _inverse(kept: IntArray, n_items: int) -> IntArray:
    row = np.full(n_items, -1, dtype=np.int32)
    row[kept] = np.arange(len(kept), dtype=np.int32)
    return row


def _at(block: TopK, kept: IntArray) -> TopK:
    """The same lists by item position instead of row."""
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


def _cells(seen: Csr, row: IntArray | None) -> OffsetArray:
    """Where a tile of all items would hold what is seen, ascending.

    `row` has the place of each item among all, -1 for none.
    """
    rows = (seen.indices if row is None else row[seen.indices]).astype(np.int64)
    cells: OffsetArray = np.sort((rows * in_steps(seen.n_rows) + seen.rows())[rows >= 0])
    return cells


class _Lists:
    """The lists of B users, of the tiles so far."""

    def __init__(self, n_users: int, k: int) -> None:
        self.kept = np.full((n_users, k), NOTHING, dtype=np.int64)  # [B, k] keys, the greatest last
        self._bound = np.full(in_steps(n_users), np.inf, dtype=np.float32)  # of the lists
        self._bound[:n_users] = -np.inf
        self._nothing_aside()

    def _nothing_aside(self) -> None:
        self._users: list[OffsetArray] = []  # of what is not merged yet
        self._keys: list[OffsetArray] = []
        self._counts = np.zeros(len(self.kept), dtype=np.int64)  # [B]

    def add_all(self, tiles: Iterable[FloatArray], hidden: OffsetArray) -> None:
        """All tiles; `hidden` as `_cells` gives it."""
        first, merge_at = 0, 0
        for tile in tiles:
            begin, end = first * tile.shape[1], (first + len(tile)) * tile.shape[1]
            some = slice(*np.searchsorted(hidden, [begin, end]))
            tile.reshape(-1)[hidden[some] - begin] = -np.inf
            if first == 0:
                self._raise_to(_first_bound(tile[:, : len(self.kept)], self.kept.shape[1]))
            self._add(tile, first, np.less_equal if first else np.less)
            first += len(tile)
            if first >= merge_at or self._counts.max(initial=0) > MOST_ASIDE:
                self._merge()
                merge_at = GROWTH * first
        self._merge()
        self.kept.sort(axis=1)

    def _raise_to(self, bound: FloatArray) -> None:
        self._bound[: len(bound)] = bound
        self._bounds = np.tile(self._bound, REPEATED)

    def _add(self, tile: FloatArray, first: int, is_out: np.ufunc) -> None:
        """Set aside what is in, of a tile whose items count from `first`."""
        cells = _in(tile, self._bounds, is_out)
        scores = tile.reshape(-1)[cells]
        if not np.isfinite(scores).all():
            raise unrankable("a score is NaN or infinite")
        rows, users = np.divmod(cells, tile.shape[1])
        self._users.append(users)
        self._keys.append(keys_of(scores, rows + first))
        self._counts += np.bincount(users, minlength=len(self._counts))

    def _merge(self) -> None:
        """Keep the first k of each user, and raise the bound to the last of them."""
        if not self._users:
            return
        n_users, k = self.kept.shape
        users, keys = np.concatenate(self._users), np.concatenate(self._keys)
        order = np.argsort(users.astype(np.int16), kind="stable")  # of 16 bits: a radix sort
        users = users[order]
        width = k + int(self._counts.max())
        table = np.full((n_users, width), NOTHING, dtype=np.int64)
        table[:, :k] = self.kept
        starts = np.arange(n_users) * width + k - (np.cumsum(self._counts) - self._counts)
        table.reshape(-1)[starts[users] + np.arange(len(users))] = keys[order]
        table.partition(k - 1, axis=1)
        self.kept = table[:, :k].copy()
        self._raise_to(_scores(self.kept[:, -1]))
        self._nothing_aside()


def _first_bound(tile: FloatArray, k: int) -> FloatArray:
    """What at least k scores of each user reach; LOWEST where that is not known."""
    n_groups, n_users = len(tile) // GROUP, tile.shape[1]
    if n_groups < k:
        return np.full(n_users, LOWEST, dtype=np.float32)
    groups = tile[: n_groups * GROUP].reshape(n_groups, GROUP, n_users)
    bests = np.ascontiguousarray(groups.max(axis=1).T)  # [B, groups]
    bests.partition(n_groups - k, axis=1)
    bound: FloatArray = np.maximum(bests[:, n_groups - k], LOWEST)
    return bound


def _in(tile: FloatArray, bounds: FloatArray, is_out: np.ufunc) -> OffsetArray:
    """Cells of the scores that are not out, NaN too; `bounds` has each user's REPEATED times."""
    n_items, n_users = tile.shape
    n = REPEATED if n_items % REPEATED == 0 else 1  # of short rows, most time goes to their starts
    out = is_out(tile.reshape(n_items // n, n * n_users), bounds[: n * n_users]).reshape(-1)
    # nearly all are: eight at a time
    words = out.view(np.uint64)
    at = np.flatnonzero(words != ALL_TRUE)
    nth, byte = np.divmod(np.flatnonzero(words[at].view(np.uint8) == 0), 8)
    cells: OffsetArray = at[nth] * 8 + byte
    return cells


def keys_of(scores: FloatArray, columns: OffsetArray) -> OffsetArray:
    """One int64 each, that orders as (-score, column); `decoded` turns them back."""
    # floats order as their bits do once those of negative ones are flipped; + 0: -0.0 is 0.0
    bits = (scores + np.float32(0)).view(np.int32)
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys: OffsetArray = (~ascending).astype(np.int64) << 32 | columns
    return keys


def _scores(keys: OffsetArray) -> FloatArray:
    """The score of each key; -inf of NOTHING."""
    ascending = ~(keys >> 32).astype(np.int32)
    scores = (ascending ^ ((ascending >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return np.where(keys == NOTHING, np.float32(-np.inf), scores)


def decoded(keys: OffsetArray) -> TopK:
    """Lists from ascending keys [B, k], by column."""
    listed = keys != NOTHING
    items = (keys & 0x7FFFFFFF).astype(np.int32)
    return TopK(
        np.where(listed, items, np.int32(-1)),
        _scores(keys),
        listed.sum(axis=1, dtype=np.int32),
    )
