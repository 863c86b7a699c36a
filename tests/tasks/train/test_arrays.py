from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import TrainingError
from tasks.train.arrays import (
    Interactions,
    Source,
    build_interactions,
    item_mask,
    pairs_to_csr,
    positions,
    values_of_pairs,
)
from tasks.train.csr import from_keys

Rows = list[tuple[str, str, float]]
ids = st.text("abé0 \n", max_size=3)
many_rows = st.lists(st.tuples(ids, ids, st.floats(0.01, 100)), max_size=40)


def as_table(rows: Rows) -> pa.Table:
    fields = [("user_id", pa.string()), ("item_id", pa.string()), ("weight", pa.float64())]
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return pa.table(
        [pa.array(c, f[1]) for c, f in zip(columns, fields, strict=True)], pa.schema(fields)
    )


def as_dict(data: Interactions) -> dict[tuple[str, str], float]:
    users, items = data.users.to_pylist(), data.items.to_pylist()
    csr = data.csr()
    return {
        (users[u], items[i]): float(w)
        for u, i, w in zip(csr.rows(), csr.indices, data.weights, strict=True)
    }


@settings(deadline=None)  # the first example starts polars
@given(rows=many_rows, seed=st.randoms())
def test_arrays_hold_the_summed_rows_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, seed: object
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    data = build_interactions(as_table(rows), folder)
    expected: dict[tuple[str, str], float] = {}
    for user, item, weight in rows:
        expected[user, item] = expected.get((user, item), 0.0) + weight
    assert as_dict(data) == pytest.approx(expected, rel=1e-6)
    assert data.users.to_pylist() == sorted({row[0] for row in rows}, key=str.encode)
    assert data.items.to_pylist() == sorted({row[1] for row in rows}, key=str.encode)
    seed.shuffle(rows)  # type: ignore[attr-defined]
    again = build_interactions(as_table(rows), folder)
    assert again.weights.tobytes() == data.weights.tobytes()
    assert again.indices.tobytes() == data.indices.tobytes()


def test_the_arrays_are_mapped_from_disk_and_a_second_build_leaves_open_ones_alone(
    tmp_path: Path,
) -> None:
    data = build_interactions(as_table([("a", "x", 1.0)]), tmp_path)
    assert isinstance(data.weights, np.memmap)
    build_interactions(as_table([("a", "x", 2.0)]), tmp_path)
    assert data.weights.tolist() == [1.0]


def test_a_table_a_stream_and_files_give_the_same(tmp_path: Path) -> None:
    table = as_table([("b", "x", 1.0), ("a", "y", 2.0), ("b", "x", 0.5)])
    pl.DataFrame(table).write_parquet(tmp_path / "rows.parquet")
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(1))
    sources: list[Source] = [table, reader, [tmp_path / "rows.parquet"]]
    found = [as_dict(build_interactions(source, tmp_path / "work")) for source in sources]
    assert found == [{("a", "y"): 2.0, ("b", "x"): 1.5}] * 3


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), None])
def test_a_weight_that_is_no_weight_is_refused(tmp_path: Path, weight: float) -> None:
    with pytest.raises(TrainingError, match="1 positives have a null id or a weight"):
        build_interactions(as_table([("a", "x", 1.0), ("a", "y", weight)]), tmp_path)


def test_propensities_follow_the_items(tmp_path: Path) -> None:
    propensities = pa.table({"item_id": ["z", "y", "x"], "propensity": [0.9, 0.5, 1.0]})
    rows = [("a", "x", 1.0), ("a", "y", 1.0)]
    data = build_interactions(as_table(rows), tmp_path, propensities=propensities)
    assert data.propensity is not None
    assert data.propensity.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("bad", [0.0, 1.5, float("nan"), None])
def test_an_item_without_a_valid_propensity_is_refused(tmp_path: Path, bad: float) -> None:
    propensities = pa.table({"item_id": ["x", "y"], "propensity": [1.0, bad]})
    rows = [("a", "x", 1.0), ("a", "y", 1.0)]
    with pytest.raises(TrainingError, match="1 of 2 items have no propensity"):
        build_interactions(as_table(rows), tmp_path, propensities=propensities)


def test_pairs_with_unknown_ids_are_dropped_and_repeats_count_once(tmp_path: Path) -> None:
    users, items = pa.array(["b", "a"]), pa.array(["y", "z", "x"])
    pairs = pa.table({"user_id": ["a", "a", "b", "q"], "item_id": ["x", "x", "y", "x"]})
    csr = pairs_to_csr(pairs.append_column("weight", pa.array([1.0] * 4)), users, items, tmp_path)
    assert csr.indptr.tolist() == [0, 1, 2]
    assert csr.indices.tolist() == [0, 2]


def test_no_pairs_make_empty_rows(tmp_path: Path) -> None:
    pairs = pa.table({"user_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())})
    csr = pairs_to_csr(pairs, pa.array(["a", "b"]), pa.array(["x"]), tmp_path)
    assert (csr.n_rows, len(csr.indices)) == (2, 0)


def test_positions_and_masks() -> None:
    items = pa.array(["x", "y", "z"], pa.large_string())
    assert positions(pa.array(["z", "q"]), items).tolist() == [2, -1]
    assert item_mask(pa.array(["q", "y"]), items).tolist() == [False, True, False]


def test_values_of_pairs_stand_beside_their_pairs(tmp_path: Path) -> None:
    data = build_interactions(as_table([("a", "x", 1), ("b", "y", 1), ("b", "z", 1)]), tmp_path)
    wanted = from_keys(np.array([1, 2, 3]), 2, 3)  # (a, y), (a, z), (b, x)
    said = pa.table(
        {
            "user_id": ["b", "a", "a", "c"],
            "item_id": ["x", "y", "x", "x"],
            "n": [5, 6, 7, 8],
            "w": [0.5, 0.25, 0.1, 0.1],
        }
    )
    found = values_of_pairs(said, data, wanted, tmp_path)
    assert found["n"].tolist() == [6, 0, 5]
    assert found["w"].tolist() == [0.25, 0, 0.5]
    nothing = values_of_pairs(said.slice(0, 0), data, wanted, tmp_path)
    assert {name: values.tolist() for name, values in nothing.items()} == {
        "n": [0, 0, 0], "w": [0, 0, 0]
    }  # fmt: skip
