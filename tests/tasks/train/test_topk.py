import tracemalloc
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from tasks.errors import TrainingError
from tasks.train.csr import Csr, from_keys
from tasks.train.topk import SCHEMA, in_steps, iter_lists, iter_top_k, joined, rows_of, top_k

Array = np.ndarray


def brute_force(scores: Array, k: int) -> tuple[Array, Array]:
    """Per user: sort everything by (-score, position), keep what is not masked."""
    items = np.full((len(scores), k), -1)
    kept = np.full((len(scores), k), -np.inf)
    for u, row in enumerate(scores):
        order = sorted(np.flatnonzero(row > -np.inf), key=lambda i: (-row[i], i))[:k]
        items[u, : len(order)] = order
        kept[u, : len(order)] = row[order]
    return items, kept


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(0, 40),
    n_items=st.integers(0, 150),
    k=st.integers(1, 170),
    n_values=st.integers(1, 4),
    p_seen=st.sampled_from([None, 0.0, 0.3, 1.0]),
    p_allowed=st.sampled_from([None, 0.0, 0.5, 1.0]),
    tile_bytes=st.sampled_from([1, 20_000, 64 << 20]),
    threads=st.sampled_from([1, 3]),
)
def test_lists_are_those_of_a_full_sort(
    seed: int,
    n_users: int,
    n_items: int,
    k: int,
    n_values: int,
    p_seen: float | None,
    p_allowed: float | None,
    tile_bytes: int,
    threads: int,
) -> None:
    rng = np.random.default_rng(seed)
    # few whole numbers: exact sums, and ties everywhere
    users = rng.integers(-n_values, n_values, (n_users, 3)).astype(np.float32)
    items = rng.integers(-n_values, n_values, (n_items, 3)).astype(np.float32)
    scores = users.astype(np.float64) @ items.T
    seen, allowed = None, None
    if p_seen is not None:
        hidden = rng.random(scores.shape) < p_seen
        seen = from_keys(np.flatnonzero(hidden), n_users, n_items)
        scores[hidden] = -np.inf
    if p_allowed is not None:
        allowed = rng.random(n_items) < p_allowed
        scores[:, ~allowed] = -np.inf
    found = top_k(
        users, items, k, seen=seen, allowed=allowed, tile_bytes=tile_bytes, threads=threads
    )
    expected_items, expected_scores = brute_force(scores, k)
    np.testing.assert_array_equal(found.items, expected_items)
    np.testing.assert_array_equal(found.scores, expected_scores)
    np.testing.assert_array_equal(found.counts, (expected_items >= 0).sum(axis=1))


def test_lists_do_not_depend_on_who_shares_the_block() -> None:
    rng = np.random.default_rng(0)
    # whole numbers have exact sums: BLAS may round others by where a row stands
    users = rng.integers(-40, 40, (203, 65)).astype(np.float32)
    items = rng.integers(-40, 40, (1000, 65)).astype(np.float32)
    whole = top_k(users, items, 20)
    for n in (1, 2, 17, 100):
        parts = [top_k(users[s : s + n], items, 20) for s in range(0, 203, n)]
        np.testing.assert_array_equal(np.concatenate([p.items for p in parts]), whole.items)
        np.testing.assert_array_equal(np.concatenate([p.scores for p in parts]), whole.scores)


def test_scores_are_the_products() -> None:
    rng = np.random.default_rng(1)
    users = rng.standard_normal((9, 64), dtype=np.float32)
    items = rng.standard_normal((300, 64), dtype=np.float32)
    found = top_k(users, items, 10)
    exact = np.take_along_axis(users.astype(float) @ items.T.astype(float), found.items, axis=1)
    np.testing.assert_allclose(found.scores, exact, rtol=1e-4)
    assert (np.diff(found.scores) <= 0).all()


class Given:
    """Scores that are there already."""

    def __init__(self, scores: Array) -> None:
        self.scores = scores.astype(np.float32)
        self.shape, self.n_held = scores.shape, 0

    def tiles(self, start: int, stop: int, n_items: int) -> Iterator[Array]:
        for first in range(0, self.shape[1], n_items):
            some = self.scores[start:stop, first : first + n_items].T
            beyond = in_steps(stop - start) - (stop - start)
            yield np.ascontiguousarray(np.pad(some, ((0, 0), (0, beyond)), constant_values=3e38))


def listed(scores: Array, k: int, seen: Csr | None = None) -> tuple[Array, Array]:
    lists = joined(iter_lists(Given(scores), k, seen=seen, tile_bytes=1, threads=2), k)
    return lists.items, lists.scores


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 6000),
    k=st.integers(1, 30),
    n_values=st.sampled_from([1, 2, 50, 10_000, 1_000_000]),
)
def test_lists_of_given_scores_in_wide_rows(seed: int, n_items: int, k: int, n_values: int) -> None:
    rng = np.random.default_rng(seed)
    unit = np.float32(rng.choice([0.0, 1.0, 1e-40]))
    scores = rng.integers(-n_values, 1, (20, n_items)).astype(np.float32) * unit
    scores[::3] = np.sort(scores[::3], axis=1)  # the best are last
    scores[:, rng.random(n_items) < 0.5] *= -1  # with -0.0 beside 0.0
    hidden = rng.random(scores.shape) < np.array([0.0, 0.5, 0.99, 1.0] * 5)[:, None]
    expected = brute_force(np.where(hidden, -np.inf, scores), k)
    found = listed(scores, k, from_keys(np.flatnonzero(hidden), *scores.shape))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_the_best_may_all_be_neighbours_or_all_in_one_group() -> None:
    rng = np.random.default_rng(3)
    for step in (1, *range(60, 70), 100, 128):
        scores = rng.standard_normal((16, 4000)).astype(np.float32)
        scores[:, 5 : 5 + 30 * step : step] += 100
        found, _ = listed(scores, 30)
        np.testing.assert_array_equal(found, brute_force(scores, 30)[0])


def test_scores_that_rise_with_the_items_take_no_more_room() -> None:
    rising = np.arange(60_000.0)  # each is above all before it
    scores = np.stack([rising, *np.zeros((15, 60_000))])
    tracemalloc.start()
    found, _ = listed(scores, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found[0], np.arange(59_999, 59_989, -1))
    np.testing.assert_array_equal(found[1:], np.tile(np.arange(10), (15, 1)))
    assert peak < 6 << 20  # 3.7 MB are the scores; 30,000 keys of one user would make 7 more


def test_zeros_are_listed_where_the_processor_takes_tiny_numbers_for_zero() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not")
    try:
        found, _ = listed(np.zeros((16, 2000)), 3)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found, np.tile(np.arange(3), (16, 1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_cannot_be_ranked_are_refused(bad: float) -> None:
    scores = np.ones((40, 30))
    scores[33, 7] = bad
    with pytest.raises(TrainingError, match="a score is NaN or infinite"):
        listed(scores, 3)


def test_blas_has_its_threads_again_afterwards() -> None:
    before = [each["num_threads"] for each in threadpool_info()]
    ones = np.ones((40, 3), dtype=np.float32)
    blocks = iter_top_k(ones, ones, 2, tile_bytes=1)
    next(blocks)
    del blocks  # a reader that stops early
    assert [each["num_threads"] for each in threadpool_info()] == before


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_vectors_that_cannot_be_ranked_are_refused(bad: float) -> None:
    users = np.full((2, 2), 1e10, dtype=np.float32)
    items = np.array([[0, 1], [bad, 0]], dtype=np.float32)
    with pytest.raises(TrainingError, match="NaN or infinity, or are too long"):
        top_k(users, items, 1)


def test_shapes_that_do_not_fit_are_refused() -> None:
    ones = np.ones((2, 3), dtype=np.float32)
    with pytest.raises(TrainingError, match="vectors do not fit"):
        top_k(ones, ones[:, :2], 1)
    with pytest.raises(TrainingError, match="allowed is"):
        top_k(ones, ones, 1, allowed=np.ones(3, dtype=bool))
    with pytest.raises(TrainingError, match="seen is"):
        top_k(ones, ones, 1, seen=from_keys(np.empty(0, dtype=np.int64), 1, 2))
    with pytest.raises(TrainingError, match="at least 1"):
        top_k(ones, ones, 0)


def test_batches_hold_ids_ranks_and_scores_user_by_user() -> None:
    users = np.array([[1.0], [0.0], [-1.0]] * 12, dtype=np.float32)
    items = np.array([[1.0], [2.0]], dtype=np.float32)
    names = pa.array([f"u{n:02}" for n in range(36)], pa.large_string())
    seen = from_keys(np.array([2, 3]), 36, 2)  # user 1 has both
    blocks = iter_top_k(users, items, 5, seen=seen, tile_bytes=1)
    batches = list(rows_of(blocks, names, pa.array(["x", "y"])))
    assert [batch.schema for batch in batches] == [SCHEMA] * 3
    rows = pa.Table.from_batches(batches).to_pylist()
    assert [tuple(row.values()) for row in rows[:4]] == [
        ("u00", "y", 1, 2.0, None),
        ("u00", "x", 2, 1.0, None),
        ("u02", "x", 1, -1.0, None),
        ("u02", "y", 2, -2.0, None),
    ]
    assert len(rows) == 70
    assert [row["user_id"] for row in rows] == sorted(row["user_id"] for row in rows)
