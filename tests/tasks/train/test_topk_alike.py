import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import TrainingError
from tasks.train.csr import from_keys
from tasks.train.topk import top_k
from tasks.train.topk_alike import are_alike, iter_lists_alike


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.sampled_from([1, 2, 30, 1030]),
    n_items=st.integers(0, 60),
    k=st.integers(1, 70),
    n_values=st.integers(1, 30),
    p_seen=st.sampled_from([None, 0.0, 0.3, 0.9, 1.0]),
    p_allowed=st.sampled_from([None, 0.0, 0.5, 1.0]),
)
def test_the_lists_are_those_of_the_product(
    seed: int,
    n_users: int,
    n_items: int,
    k: int,
    n_values: int,
    p_seen: float | None,
    p_allowed: float | None,
) -> None:
    rng = np.random.default_rng(seed)
    users = np.tile(rng.standard_normal((1, 2), dtype=np.float32), (n_users, 1))
    items = rng.integers(-n_values, n_values, (n_items, 2)).astype(np.float32)  # with ties
    shape = n_users, n_items
    hidden = None if p_seen is None else np.flatnonzero(rng.random(shape) < p_seen)
    seen = None if hidden is None else from_keys(hidden, *shape)
    allowed = None if p_allowed is None else rng.random(n_items) < p_allowed
    expected = top_k(users, items, k, seen=seen, allowed=allowed)
    blocks = list(iter_lists_alike(users, items, k, seen=seen, allowed=allowed))
    for name in ("items", "scores", "counts"):
        found = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(found, getattr(expected, name))


def test_vectors_are_alike_where_all_are_the_same() -> None:
    ones = np.ones((40, 3), dtype=np.float32)
    assert are_alike(ones)
    assert not are_alike(ones[:0])
    for row in (3, 33):
        other = ones.copy()
        other[row, 2] = 2
        assert not are_alike(other)
    assert not are_alike(np.full((2, 1), np.nan, dtype=np.float32))


def test_vectors_that_cannot_be_ranked_are_refused() -> None:
    ones = np.ones((2, 1), dtype=np.float32)
    with pytest.raises(TrainingError, match="NaN or infinity"):
        list(iter_lists_alike(ones, np.full((2, 1), np.inf, dtype=np.float32), 1))
