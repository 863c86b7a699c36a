import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.train.csr import from_keys
from tasks.train.topk import TopK, joined, top_k
from tasks.train.topk_cuda import iter_lists_on
from tests.threads import one_thread  # noqa: F401  a fixture

Array = np.ndarray
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def whole(device: str, users: Array, items: Array, k: int, **more: object) -> TopK:
    return joined(iter_lists_on(torch.device(device), users, items, k, **more), k)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(1, 30),
    n_items=st.integers(0, 400),
    k=st.sampled_from([1, 3, 20, 500]),
    n_values=st.sampled_from([1, 3, 100]),
    p_seen=st.sampled_from([None, 0.0, 0.3, 1.0]),
    p_allowed=st.sampled_from([None, 0.0, 0.5]),
    rows=st.sampled_from([1, 7, 64]),
    columns=st.sampled_from([16, 130, 1000]),
    rising=st.booleans(),
)
def test_lists_are_those_of_the_cpu(
    device: str,
    seed: int,
    n_users: int,
    n_items: int,
    k: int,
    n_values: int,
    p_seen: float | None,
    p_allowed: float | None,
    rows: int,
    columns: int,
    rising: bool,
) -> None:
    rng = np.random.default_rng(seed)
    # few whole numbers: exact sums, and ties everywhere
    users = rng.integers(-n_values, n_values, (n_users, 3)).astype(np.float32)
    items = rng.integers(-n_values, n_values, (n_items, 3)).astype(np.float32)
    if rising:
        users, items = np.abs(users), np.sort(items, axis=0)
    seen, allowed = None, None
    if p_seen is not None:
        hidden = rng.random((n_users, n_items)) < p_seen
        seen = from_keys(np.flatnonzero(hidden), n_users, n_items)
    if p_allowed is not None:
        allowed = rng.random(n_items) < p_allowed
    found = whole(device, users, items, k, seen=seen, allowed=allowed, rows=rows, columns=columns)
    expected = top_k(users, items, k, seen=seen, allowed=allowed)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.counts, expected.counts)


@pytest.mark.parametrize("device", DEVICES)
def test_lists_do_not_depend_on_who_shares_the_block(device: str) -> None:
    rng = np.random.default_rng(0)
    users = rng.standard_normal((50, 33), dtype=np.float32)
    items = rng.standard_normal((1000, 33), dtype=np.float32)
    together = whole(device, users, items, 20, rows=16, columns=300)
    for n in (1, 7, 20):
        parts = [
            whole(device, users[s : s + n], items, 20, rows=16, columns=300)
            for s in range(0, 50, n)
        ]
        np.testing.assert_array_equal(np.concatenate([p.items for p in parts]), together.items)
        np.testing.assert_array_equal(np.concatenate([p.scores for p in parts]), together.scores)


def test_the_precision_of_products_is_as_before_afterwards() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        ones = np.ones((2, 2), dtype=np.float32)
        whole("cpu", ones, ones, 1)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
