from collections.abc import Iterator

import numpy as np
import pytest

from tasks.errors import TrainingError
from tasks.train import topk_bounded
from tasks.train.csr import Csr, from_keys
from tasks.train.topk import TopK, VectorScorer, top_k
from tasks.train.topk_bounded import iter_lists_bounded

Array = np.ndarray
N_ITEMS = 3000


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"LEAST_ITEMS": 1000, "USERS": 150, "BLOCKS": 4, "LEAST_ROWS": 30, "TRIED": 60}
    for name, value in small.items():
        monkeypatch.setattr(topk_bounded, name, value)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many scores each product had."""
    sizes: list[int] = []
    made = VectorScorer.__init__

    def counting(self: VectorScorer, users: Array, items: Array) -> None:
        sizes.append(len(users) * len(items))
        made(self, users, items)

    monkeypatch.setattr(VectorScorer, "__init__", counting)
    return sizes


def learnt(n_users: int, d: int = 16, *, scale: float = 0.3) -> tuple[Array, Array]:
    """Vectors of a model whose items differ in norm and bias, as trained ones do; exact sums."""
    rng = np.random.default_rng(7)
    users = rng.standard_normal((n_users, d), dtype=np.float32)
    items = rng.standard_normal((N_ITEMS, d), dtype=np.float32)
    items *= rng.exponential(scale, (N_ITEMS, 1)).astype(np.float32)
    bias = rng.exponential(1.0, (N_ITEMS, 1)).astype(np.float32) - 1
    return (
        in_sixteenths(np.hstack([users, np.ones((n_users, 1), np.float32)])),
        in_sixteenths(np.hstack([items, bias])),
    )


def in_sixteenths(vectors: Array) -> Array:
    """Few digits, so that sums of products are exact: BLAS may round by where an item stands."""
    return np.round(vectors * 16) / 16


def hidden(n_users: int, p: float) -> Csr:
    rng = np.random.default_rng(5)
    return from_keys(np.flatnonzero(rng.random(n_users * N_ITEMS) < p), n_users, N_ITEMS)


def assert_same(blocks: Iterator[TopK], expected: TopK) -> None:
    parts = list(blocks)
    for name in ("items", "scores", "counts"):
        found = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(found, getattr(expected, name))


@pytest.mark.parametrize("k", [1, 20, 3500])
@pytest.mark.parametrize("p_seen", [0.0, 0.02, 0.999])
def test_the_lists_are_those_of_all_scores(k: int, p_seen: float) -> None:
    users, items = learnt(301)
    seen = hidden(301, p_seen)
    allowed = np.random.default_rng(1).random(N_ITEMS) < 0.8
    expected = top_k(users, items, k, seen=seen, allowed=allowed)
    assert_same(iter_lists_bounded(users, items, k, seen=seen, allowed=allowed), expected)


def test_equal_scores_go_by_position() -> None:
    rng = np.random.default_rng(2)
    users = rng.integers(-2, 3, (100, 3)).astype(np.float32)
    items = rng.integers(-2, 3, (N_ITEMS, 3)).astype(np.float32)
    assert_same(iter_lists_bounded(users, items, 20), top_k(users, items, 20))


def test_vectors_of_zeros_and_users_who_need_everything() -> None:
    users, items = learnt(90)
    users[::2] = 0
    items[:, -1] = 0
    assert_same(iter_lists_bounded(users, items, 20), top_k(users, items, 20))


def test_most_items_of_a_model_that_has_learnt_are_not_scored(scored: list[int]) -> None:
    users, items = learnt(300)
    list(iter_lists_bounded(users, items, 20))
    assert sum(scored) < 0.5 * 300 * N_ITEMS


def test_where_bounds_rule_out_nothing_they_are_given_up(scored: list[int]) -> None:
    rng = np.random.default_rng(3)
    users = in_sixteenths(rng.standard_normal((450, 64), dtype=np.float32))
    items = in_sixteenths(rng.standard_normal((N_ITEMS, 64), dtype=np.float32))
    expected = top_k(users, items, 20)
    scored.clear()
    assert_same(iter_lists_bounded(users, items, 20), expected)
    assert scored[1:] == [150 * N_ITEMS] * 3  # after a look at a few users, each part whole
    assert scored[0] < 0.2 * 60 * N_ITEMS


def test_they_are_given_up_where_few_users_told_otherwise(scored: list[int]) -> None:
    users, items = learnt(450)
    length = np.repeat(
        np.array([1, 1024], np.float32), [150, 300]
    )  # long ones see no bias, but need all
    length[np.linspace(0, 449, 60, dtype=np.int64)] = 1  # those who are looked at
    users[:, :-1] *= length[:, None]
    items[:, :-1] = in_sixteenths(np.random.default_rng(4).standard_normal((N_ITEMS, 16)))
    items[:, -1] *= 32
    expected = top_k(users, items, 20)
    scored.clear()
    assert_same(iter_lists_bounded(users, items, 20), expected)
    assert scored.count(150 * N_ITEMS) == 2  # the first 150 users were bounded


def test_few_items_or_no_user() -> None:
    users, items = learnt(30)
    assert_same(iter_lists_bounded(users, items[:90], 20), top_k(users, items[:90], 20))
    assert list(iter_lists_bounded(users[:0], items, 20)) == []


def test_vectors_that_cannot_be_ranked_are_refused() -> None:
    users, items = learnt(30)
    items[5, 3] = np.nan
    with pytest.raises(TrainingError, match="NaN or infinity"):
        list(iter_lists_bounded(users, items, 1))
