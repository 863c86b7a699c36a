"""Exact top-K lists from user and item vectors, or from scores, a block of users at a time.

The order is total: larger float32 score first, then smaller item position. Per block: one
matrix product, masks set to -inf, then the best score of each group of G neighbouring items. The
K best groups (ties to the first group) are certain to hold the K best items: each group left out
is beaten by K groups that each hold an item at least as good and, where equal, of smaller
position. So only I / G and K * G scores a user are ordered, and memory is bounded however many
scores are equal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.errors import TrainingError
from tasks.train.csr import BoolArray, Csr, IntArray, OffsetArray

FloatArray = npt.NDArray[np.float32]
ROW_STEP = 16  # users a block is rounded up to
BLOCK_BYTES = 64 << 20  # 256 MiB is a third slower at 50,000 items: it leaves the caches
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model without vectors gives: the scores of any block of users."""

    n_users: int
    n_items: int
    of: Callable[[int, int], FloatArray]  # users start to stop: [stop - start, n_items]


@dataclass(frozen=True, eq=False)
class TopK:
    """Lists of U users, best first; places beyond counts[u] hold item -1 and score -inf."""

    items: IntArray  # [U, k] item positions
    scores: FloatArray  # [U, k]
    counts: IntArray  # [U] items listed


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """The allowed items only, padded to whole groups.

    The n-th allowed item is in group n // group and in column (n % group) * n_groups + n // group:
    a group is a column of the [group, n_groups] view of a row of scores, so that the best of all
    groups is found by `group` long vector operations instead of n_groups short ones.
    """

    group: int  # items a group
    vectors: FloatArray  # [d, width]
    kept: IntArray  # [n_kept] original positions, ascending
    column: IntArray  # [I] original position to column, -1 if not allowed
    padding: IntArray  # columns that hold no item


def top_k(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> TopK:
    """The k best items of every user.

    Args:
        user_vectors: [U, d] float32.
        item_vectors: [I, d] float32.
        k: at least 1; may exceed I.
        seen: U rows over I columns of items not to list for that user.
        allowed: [I], items that may be listed at all.
        block_bytes: what one block of scores may take; the result does not depend on it.

    Raises:
        TrainingError: shapes do not fit, or a vector is not finite or too long to score.
    """
    return _joined(_blocks(user_vectors, item_vectors, k, seen, allowed, block_bytes), k)


def top_k_of_scores(
    scores: Scores,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> TopK:
    """The k best items of every user, as `top_k` but from scores; they must be finite."""
    return _joined(_blocks_of_scores(scores, k, seen, allowed, block_bytes), k)


def _joined(blocks: Iterator[TopK], k: int) -> TopK:
    empty = TopK(np.empty((0, k), np.int32), np.empty((0, k), np.float32), np.empty(0, np.int32))
    parts = list(blocks) or [empty]
    return TopK(
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def iter_top_k(
    users: pa.Array,
    items: pa.Array,
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The lists as rows of `SCHEMA`, one batch per block, users in the order given.

    Arguments as in `top_k`; `users` [U] and `items` [I] are the string ids. Ranks count from 1.
    A user with no item left has no row.
    """
    yield from _rows(
        users, items, _blocks(user_vectors, item_vectors, k, seen, allowed, block_bytes)
    )


def iter_top_k_of_scores(
    users: pa.Array,
    items: pa.Array,
    scores: Scores,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """The lists as rows of `SCHEMA`, as `iter_top_k` but from scores; they must be finite."""
    yield from _rows(users, items, _blocks_of_scores(scores, k, seen, allowed, block_bytes))


def _rows(users: pa.Array, items: pa.Array, blocks: Iterator[TopK]) -> Iterator[pa.RecordBatch]:
    first = 0
    for block in blocks:
        rows, places = np.nonzero(block.items >= 0)
        columns = [
            users.take(pa.array(rows + first)).cast(pa.string()),
            items.take(pa.array(block.items[rows, places])).cast(pa.string()),
            pa.array((places + 1).astype(np.int32)),
            pa.array(block.scores[rows, places].astype(np.float64)),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
        first += len(block.items)


def _blocks(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    seen: Csr | None,
    allowed: BoolArray | None,
    block_bytes: int,
) -> Iterator[TopK]:
    _refuse(user_vectors, item_vectors, k, seen, allowed)
    catalogue = _catalogue(item_vectors, allowed, k)
    width = catalogue.vectors.shape[1]
    n_users = len(user_vectors)
    # a row of scores, and what ordering its groups and the gathered scores takes beside it
    n_ordered = width // catalogue.group + min(k * catalogue.group, width)
    fits = max(block_bytes // max(4 * width + 28 * n_ordered, 1) // ROW_STEP, 1) * ROW_STEP
    size = min(fits, -(-max(n_users, 1) // ROW_STEP) * ROW_STEP)
    buffer = np.empty((size, width), dtype=np.float32)
    for start in range(0, n_users, size):
        stop = min(start + size, n_users)
        _score(user_vectors[start:stop], catalogue, buffer)
        scores = buffer[: stop - start]
        if seen is not None:
            _mask(scores, seen.slice(start, stop), catalogue.column)
        yield _select(scores, k, catalogue)


def _blocks_of_scores(
    scores: Scores, k: int, seen: Csr | None, allowed: BoolArray | None, block_bytes: int
) -> Iterator[TopK]:
    _refuse_shapes((scores.n_users, scores.n_items), k, seen, allowed)
    catalogue = _catalogue(np.empty((scores.n_items, 0), dtype=np.float32), allowed, k)
    width = catalogue.vectors.shape[1]
    # the model's scores, the same in the order of the catalogue, and what ordering them takes
    size = max(block_bytes // max(4 * (scores.n_items + 2 * width), 1), 1)
    for start in range(0, scores.n_users, size):
        stop = min(start + size, scores.n_users)
        given = scores.of(start, stop)
        if given.shape != (stop - start, scores.n_items) or not np.isfinite(given).all():
            raise _error("scores hold NaN or infinity, or are not one per user and item")
        block = np.full((stop - start, width), -np.inf, dtype=np.float32)
        block[:, catalogue.column[catalogue.kept]] = given[:, catalogue.kept]
        if seen is not None:
            _mask(block, seen.slice(start, stop), catalogue.column)
        yield _select(block, k, catalogue)


def _refuse(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    seen: Csr | None,
    allowed: BoolArray | None,
) -> None:
    _refuse_shapes((len(user_vectors), len(item_vectors)), k, seen, allowed)
    if user_vectors.shape[1:] != item_vectors.shape[1:]:
        raise _error(f"vectors do not fit: {user_vectors.shape} and {item_vectors.shape}")
    # by Cauchy-Schwarz: no sum inside a score can overflow, so no score can become NaN or inf
    longest = _longest(user_vectors) * _longest(item_vectors)
    if not longest < float(np.finfo(np.float32).max):
        raise _error("vectors hold NaN or infinity, or are too long to score in float32")


def _refuse_shapes(
    shape: tuple[int, int], k: int, seen: Csr | None, allowed: BoolArray | None
) -> None:
    if k < 1:
        raise _error(f"k must be at least 1, not {k}")
    if seen is not None and (seen.n_rows, seen.n_columns) != shape:
        raise _error(f"seen is {(seen.n_rows, seen.n_columns)}, users and items are {shape}")
    if allowed is not None and allowed.shape != shape[1:]:
        raise _error(f"allowed is {allowed.shape}, items are {shape[1:]}")


def _longest(vectors: FloatArray) -> float:
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0)))


def _error(what: str) -> TrainingError:
    return TrainingError(
        what,
        where="top-K scoring",
        unchanged="no list was written",
        fix="look at the model's loss curve and its vectors",
    )


def _catalogue(item_vectors: FloatArray, allowed: BoolArray | None, k: int) -> _Catalogue:
    n_items, d = item_vectors.shape
    kept = np.arange(n_items) if allowed is None else np.flatnonzero(allowed)
    # I / G + K * G is smallest at sqrt(I / K)
    group = int(2 ** np.clip(np.round(np.log2(max(len(kept), 1) / k) / 2), 3, 6))
    n_groups = -(-len(kept) // group)
    place = np.arange(n_groups * group, dtype=np.int32).reshape(group, n_groups).T.ravel()
    column = np.full(n_items, -1, dtype=np.int32)
    column[kept] = place[: len(kept)]
    vectors = np.zeros((n_groups * group, d), dtype=np.float32)
    vectors[column[kept]] = item_vectors[kept]
    return _Catalogue(group, vectors.T, kept.astype(np.int32), column, place[len(kept) :])


def _score(users: FloatArray, catalogue: _Catalogue, buffer: FloatArray) -> None:
    """Fill the first rows of the buffer with the scores of these users."""
    # whole steps of rows: BLAS has another kernel, with another rounding, for a few rows, and a
    # user's list must not depend on who shares the block
    padded = np.zeros((-(-len(users) // ROW_STEP) * ROW_STEP, users.shape[1]), dtype=np.float32)
    padded[: len(users)] = users
    scores = buffer[: len(padded)]
    np.matmul(padded, catalogue.vectors, out=scores)
    scores[:, catalogue.padding] = -np.inf


def _mask(scores: FloatArray, seen: Csr, column: IntArray) -> None:
    columns = column[seen.indices]
    listed = columns >= 0
    scores[seen.rows()[listed], columns[listed]] = -np.inf


def _select(scores: FloatArray, k: int, catalogue: _Catalogue) -> TopK:
    """The k best columns of each row of scores, as items."""
    n_rows, width = scores.shape
    group = catalogue.group
    grouped = scores.reshape(n_rows, group, width // group)
    n_groups = min(k, width // group)
    # ascending, so that a smaller place among the gathered is a smaller item position
    groups = np.sort(_largest(grouped.max(axis=1), n_groups), axis=1)  # [n_rows, n_groups]
    gathered = grouped[np.arange(n_rows)[:, None], :, groups].reshape(n_rows, n_groups * group)
    n_best = min(k, n_groups * group)
    best = _largest(gathered, n_best)  # [n_rows, n_best]
    found = np.take_along_axis(gathered, best, axis=1)
    places = np.take_along_axis(groups, best // group, axis=1) * group + best % group
    real = found > -np.inf
    items = np.full((n_rows, k), -1, dtype=np.int32)
    items[:, :n_best][real] = catalogue.kept[places[real]]
    ranked = np.full((n_rows, k), -np.inf, dtype=np.float32)
    ranked[:, :n_best] = found
    return TopK(items, ranked, real.sum(axis=1, dtype=np.int32))


def _largest(scores: FloatArray, n: int) -> OffsetArray:
    """Columns of the n largest scores of each row, best first, ties to the smaller column."""
    width = scores.shape[1]
    if n == 0:
        return np.empty((len(scores), 0), dtype=np.int64)
    # one int64 that orders as (score, -column): floats order as their bits do once those of
    # negative ones are flipped; adding 0 makes -0.0 equal to 0.0
    bits = (scores + np.float32(0)).view(np.int32)
    keys = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    keys = (keys << 32) | np.arange(width - 1, -1, -1, dtype=np.int64)
    if n < width:
        keys = np.partition(keys, width - n, axis=1)[:, width - n :]
    keys.sort(axis=1)
    columns: OffsetArray = (width - 1) - (keys[:, ::-1] & 0xFFFFFFFF)
    return columns
