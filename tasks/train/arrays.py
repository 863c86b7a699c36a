"""Tables of string ids become memory-mapped arrays of positions.

Positions follow the sorted order of the ids (by UTF-8 bytes), so that the same rows give the
same arrays in whatever order they arrive, and "smaller position" means "smaller id".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import TrainingError
from tasks.train.csr import BoolArray, Csr, IntArray, OffsetArray, from_keys

FloatArray = npt.NDArray[np.float32]
Source: TypeAlias = pa.Table | pa.RecordBatchReader | Sequence[Path]
"""Rows of a table, or the Parquet files that hold them."""
ValueArrays: TypeAlias = dict[str, npt.NDArray[np.float64]]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Row u holds the items of user u, oldest first: items[indptr[u] : indptr[u + 1]]."""

    indptr: OffsetArray  # [n_users + 1]
    items: IntArray  # [n_steps] item positions
    strengths: FloatArray  # [n_steps] of the strongest behaviour of each step, > 0
    n_items: int

    def sizes(self) -> OffsetArray:
        """Steps of each user, [n_users]."""
        return np.diff(self.indptr)

    def had(self) -> Csr:
        """Which users had which items."""
        n_users = len(self.indptr) - 1
        rows = np.repeat(np.arange(n_users, dtype=np.int64), self.sizes())
        return from_keys(np.unique(rows * self.n_items + self.items), n_users, self.n_items)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Positives of n_users x n_items in compressed rows, users and items in sorted id order."""

    users: pa.Array  # [n_users] string ids
    items: pa.Array  # [n_items] string ids
    indptr: OffsetArray  # [n_users + 1]
    indices: IntArray  # [nnz] item positions, ascending within a user
    weights: FloatArray  # [nnz] summed weight, > 0
    propensity: FloatArray | None  # [n_items] in (0, 1]
    sequences: Sequences | None = None  # the same users and items, for models that ask for them

    @property
    def n_users(self) -> int:
        """Users with a positive."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Items with a positive."""
        return len(self.items)

    def csr(self) -> Csr:
        """The positives without their weights."""
        return Csr(self.indptr, self.indices, self.n_items)


def build_interactions(
    positives: Source, folder: Path, *, propensities: Source | None = None
) -> Interactions:
    """Write the positives as arrays under `folder` and open them memory-mapped.

    Args:
        positives: user_id str, item_id str, weight f64 > 0; the weights of a repeated pair add.
        folder: made if missing; files of an earlier call are replaced.
        propensities: item_id str, propensity f64 in (0, 1], one row for every item that occurs.

    Raises:
        TrainingError: an id is null, a weight is not positive and finite, or an item has no
            valid propensity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _scan(positives, folder / "positives.parquet")
    _refuse_bad_rows(rows)
    users, items = _sorted_ids(rows, "user_id"), _sorted_ids(rows, "item_id")
    keys, weights = _summed(_encode(rows, users, items, "weight"))
    csr = from_keys(keys, len(users), len(items))
    propensity = None
    if propensities is not None:
        found = _propensity(_scan(propensities, folder / "propensities.parquet"), items)
        propensity = _mapped(folder / "propensity.npy", found)
    return Interactions(
        users=users.to_arrow().cast(pa.large_string()),
        items=items.to_arrow().cast(pa.large_string()),
        indptr=_mapped(folder / "indptr.npy", csr.indptr),
        indices=_mapped(folder / "indices.npy", csr.indices),
        weights=_mapped(folder / "weights.npy", weights),
        propensity=propensity,
    )


def build_sequences(steps: Source, users: pa.Array, items: pa.Array, folder: Path) -> Sequences:
    """Write the steps as arrays under `folder` and open them memory-mapped.

    Args:
        steps: user_id str, item_id str, weight f64 > 0; the steps of a user oldest first. Steps
            with an unknown user or item are left out; equal items in a row are one step, as
            strong as the strongest of them.
        users: ids that the rows follow, without repeats.
        items: ids that item positions point to, without repeats.
        folder: made if missing; files of an earlier call are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _scan(steps, folder / "steps.parquet").with_row_index("place")
    # streaming may hand the rows on in another order
    encoded = _encode(rows, _series(users), _series(items), "place", "weight").sort("place")
    keys, strengths = encoded["key"].to_numpy(), encoded["weight"].to_numpy()
    order = np.argsort(keys // max(len(items), 1), kind="stable")
    keys, strengths = keys[order], strengths[order].astype(np.float32)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    # ascending by user, which is all that finding the rows needs
    found = from_keys(keys[starts], len(users), len(items))
    strongest = np.maximum.reduceat(strengths, starts) if len(starts) else strengths
    return Sequences(
        indptr=_mapped(folder / "step_indptr.npy", found.indptr),
        items=_mapped(folder / "step_items.npy", found.indices),
        strengths=_mapped(folder / "step_strengths.npy", strongest),
        n_items=len(items),
    )


def pairs_to_csr(pairs: Source, users: pa.Array, items: pa.Array, folder: Path) -> Csr:
    """The pairs (user_id, item_id) as a matrix over the given ids; repeats count once.

    Rows follow `users` and columns `items`, in the order given, both without repeats. Pairs
    with an unknown id are dropped. `folder` takes the rows of a reader while they are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _scan(pairs, folder / "pairs.parquet")
    encoded = _encode(rows, _series(users), _series(items))
    keys = np.unique(encoded["key"].to_numpy())
    return from_keys(keys, len(users), len(items))


def values_of_pairs(pairs: Source, data: Interactions, wanted: Csr, folder: Path) -> ValueArrays:
    """What rows say of the wanted pairs: each column but the ids as f64, [nnz], 0 if not said.

    Args:
        pairs: user_id str, item_id str, and columns of numbers; no pair twice.
        data: whose users and items the rows and columns of `wanted` are.
        wanted: the pairs, in whose order the values come.
        folder: takes the rows of a reader while they are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _scan(pairs, folder / "values.parquet")
    names = [name for name in rows.collect_schema().names() if name not in ("user_id", "item_id")]
    told = _encode(rows, _series(data.users), _series(data.items), *names).sort("key")
    keys, asked = told["key"].to_numpy(), wanted.keys()
    at = np.minimum(np.searchsorted(keys, asked), max(len(keys) - 1, 0))
    if not len(keys):
        return {name: np.zeros(len(asked)) for name in names}
    is_told = keys[at] == asked
    return {name: np.where(is_told, told[name].to_numpy()[at], 0.0) for name in names}


def positions(ids: pa.Array, among: pa.Array) -> IntArray:
    """Where each id stands in `among`; -1 for ids that are not there. [len(ids)] int32."""
    text = pa.large_string()
    found = pc.index_in(ids.cast(text), value_set=among.cast(text)).fill_null(-1)
    return cast(IntArray, found.to_numpy(zero_copy_only=False))


def item_mask(ids: pa.Array, items: pa.Array) -> BoolArray:
    """Which of `items` are among `ids`. [n_items] bool."""
    return positions(items, ids) >= 0


def _scan(source: Source, spool: Path) -> pl.LazyFrame:
    if isinstance(source, pa.Table):
        return pl.LazyFrame(pl.from_arrow(source))
    if isinstance(source, pa.RecordBatchReader):
        # a reader can be read once and we need two passes: ids first, then positions
        with pq.ParquetWriter(spool, source.schema, compression="zstd") as writer:
            for batch in source:
                writer.write_batch(batch)
        return pl.scan_parquet(spool)
    return pl.scan_parquet(list(source))


def _refuse_bad_rows(rows: pl.LazyFrame) -> None:
    weight = pl.col("weight")
    bad = (
        pl.any_horizontal(pl.col("user_id", "item_id", "weight").is_null())
        | ~weight.is_finite()
        | (weight <= 0)
    )
    n_bad = rows.select(bad.sum()).collect(engine="streaming").item()
    if n_bad:
        raise TrainingError(
            f"{n_bad} positives have a null id or a weight that is not positive and finite",
            where="the table of positives",
            unchanged="no model was trained",
            fix="mend the query that makes the positives; weights of 0 are no positives",
        )


def _sorted_ids(rows: pl.LazyFrame, column: str) -> pl.Series:
    unique = rows.select(pl.col(column).cast(pl.String).unique())
    return unique.collect(engine="streaming")[column].sort()


def _series(ids: pa.Array) -> pl.Series:
    return pl.Series(pl.from_arrow(ids)).cast(pl.String)


def _encode(rows: pl.LazyFrame, users: pl.Series, items: pl.Series, *columns: str) -> pl.DataFrame:
    """key = user * n_items + item of each row whose ids are both known, int64."""
    known = rows.select(
        _position("user_id", users).alias("user"),
        _position("item_id", items).alias("item"),
        *columns,
    ).drop_nulls(["user", "item"])
    key = pl.col("user") * len(items) + pl.col("item")
    return known.select(key.alias("key"), *columns).collect(engine="streaming")


def _position(column: str, ids: pl.Series) -> pl.Expr:
    # an Enum's physical value is the position in its list: encoding without a join
    return pl.col(column).cast(pl.Enum(ids), strict=False).to_physical().cast(pl.Int64)


def _summed(encoded: pl.DataFrame) -> tuple[OffsetArray, FloatArray]:
    """Distinct ascending keys and the sum of each one's weights."""
    # sorted by weight too: a float sum must not depend on the order the rows came in
    ordered = encoded.sort("key", "weight")
    keys = ordered["key"].to_numpy()
    weights = ordered["weight"].cast(pl.Float64).to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    if not len(starts):
        return keys, np.empty(0, dtype=np.float32)
    return keys[starts], np.add.reduceat(weights, starts).astype(np.float32)


def _propensity(rows: pl.LazyFrame, items: pl.Series) -> FloatArray:
    known = (
        rows.select(_position("item_id", items).alias("item"), pl.col("propensity"))
        .drop_nulls()
        .collect(engine="streaming")
    )
    found = np.zeros(len(items), dtype=np.float32)
    found[known["item"].to_numpy()] = known["propensity"].to_numpy()
    n_bad = int(np.sum(~((found > 0) & (found <= 1))))
    if n_bad:
        raise TrainingError(
            f"{n_bad} of {len(items)} items have no propensity in (0, 1]",
            where="the table of propensities",
            unchanged="no model was trained",
            fix="estimate the propensities on the same dates as the positives",
        )
    return found


def _mapped(path: Path, array: npt.NDArray[T]) -> npt.NDArray[T]:
    beside = path.with_suffix(".tmp.npy")
    np.save(beside, array)
    # renamed, so that maps that an earlier call opened keep what they had
    beside.replace(path)
    return cast("npt.NDArray[T]", np.load(path, mmap_mode="r"))
