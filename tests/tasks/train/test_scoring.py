import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import Config, Recommender
from tasks.errors import TrainingError
from tasks.train import topk
from tasks.train.csr import from_keys
from tasks.train.scoring import Side, best_items, iter_rows

CPU = torch.device("cpu")


class Table(Recommender):
    """Scores that are there already, or what a broken model would give."""

    has_vectors = False

    def __init__(self, given: np.ndarray) -> None:
        super().__init__(Config(), *given.shape)
        self.given = given.astype(np.float32)

    def scores(self, users: np.ndarray) -> np.ndarray:
        return np.asarray(self.given[users])


def side(prefix: str, at: np.ndarray) -> Side:
    return Side(pa.array([f"{prefix}{i}" for i in at], pa.string()), at.astype(np.int32))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9), n_values=st.integers(1, 50))
def test_lists_of_scores_are_those_of_a_full_sort(seed: int, k: int, n_values: int) -> None:
    rng = np.random.default_rng(seed)
    model = Table(rng.integers(-n_values, n_values, (30, 12)))
    users = rng.integers(0, 30, 20)
    allowed = rng.random(12) < 0.7
    hidden = rng.random((20, 12)) < 0.3
    seen = from_keys(np.flatnonzero(hidden), 20, 12)
    found = best_items(model, users, k, seen=seen, allowed=allowed)
    for n, user in enumerate(users):
        listed = [i for i in np.argsort(-model.given[user], kind="stable") if allowed[i]]
        listed = [i for i in listed if not hidden[n, i]][:k]
        assert found.items[n, : found.counts[n]].tolist() == listed


def test_rows_of_some_users_and_some_items_by_id() -> None:
    model = Table(np.arange(12).reshape(3, 4))
    users, items = side("u", np.array([2, 0])), side("i", np.array([0, 1, 3]))
    seen = from_keys(np.array([2]), 2, 3)  # of the first user here, the last item here
    batches = iter_rows(model, users, items, 2, seen=seen, device=CPU)
    found = pa.Table.from_batches(batches).to_pylist()
    assert [(r["user_id"], r["item_id"], r["rank"], r["score"]) for r in found] == [
        ("u2", "i1", 1, 9.0),
        ("u2", "i0", 2, 8.0),
        ("u0", "i3", 1, 3.0),
        ("u0", "i1", 2, 1.0),
    ]


def test_a_model_is_asked_for_few_users_at_once_where_items_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class Counting(Table):
        def scores(self, users: np.ndarray) -> np.ndarray:
            asked.append(len(users))
            return super().scores(users)

    monkeypatch.setattr(topk, "HELD_BYTES", 2 * 4 * 50 * 32)  # of 2 threads: 32 users of 50 items
    model = Counting(np.arange(5000.0).reshape(100, 50))
    users, items = side("u", np.arange(100)), side("i", np.arange(3))
    seen = from_keys(np.empty(0, dtype=np.int64), 100, 3)
    rows = iter_rows(model, users, items, 1, seen=seen, device=CPU, threads=2)
    assert sum(batch.num_rows for batch in rows) == 100
    assert sorted(asked) == [4, 32, 32, 32]  # in the order in which the threads came


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(TrainingError, match="scores hold NaN or infinity"):
        best_items(Table(np.array([[1.0, bad]])), np.array([0]), 1)


def test_scores_of_another_shape_are_refused() -> None:
    model = Table(np.zeros((2, 3)))
    model.n_items = 4
    with pytest.raises(TrainingError, match="not one per user and item"):
        best_items(model, np.array([0]), 1)
