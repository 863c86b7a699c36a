import numpy as np
import pytest
import torch

import models.ease
from models.contract import ModelError
from models.ease import EASE, EASEConfig
from tests.models.positives import SmallPositives, random_positives


def fitted(data: SmallPositives, **fields: object) -> EASE:
    model = EASE(EASEConfig.from_dict(fields), data.n_users, data.n_items)
    model.fit(data)
    return model


def by_hand(x: np.ndarray, regularisation: float) -> np.ndarray:
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(x.shape[1]))
    return np.asarray(np.eye(x.shape[1]) - p / np.diag(p))


@pytest.mark.parametrize("block_bytes", [1, 100, 64 << 20])
@pytest.mark.parametrize("power", [0.0, 1.5])
def test_the_weights_are_the_papers(
    power: float, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.ease, "_BLOCK_BYTES", block_bytes)
    data = random_positives(9, 7)
    model = fitted(data, regularisation=2.0, strength_power=power)
    x = np.where(data.dense > 0, data.dense.astype(np.float64) ** power, 0)
    b = by_hand(x, 2.0)
    np.testing.assert_allclose(model.b.numpy(), b, rtol=1e-4, atol=1e-6)
    assert (model.b.diagonal() == 0).all()
    some = np.array([3, 8, 3, 0])
    np.testing.assert_allclose(model.scores(some), (x @ b)[some], rtol=1e-4, atol=1e-6)


def test_a_user_without_a_positive_scores_nothing() -> None:
    dense = random_positives(5, 4).dense
    dense[2] = 0
    assert (fitted(SmallPositives(dense)).scores(np.array([2])) == 0).all()


@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_everything_taken_is_no_special_case(n_users: int, n_items: int) -> None:
    data = SmallPositives(np.ones((n_users, n_items), dtype=np.float32))
    scores = fitted(data, regularisation=1.0).scores(np.arange(n_users))
    np.testing.assert_allclose(
        scores, data.dense @ by_hand(data.dense.astype(np.float64), 1.0), atol=1e-6
    )


def test_more_items_than_the_limit_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(ModelError, match=r"limit of 15,000 items, and 1,000,000 would take"):
        EASE(EASEConfig(), 1, 1_000_000)


def test_what_float32_cannot_solve_is_refused() -> None:
    data = SmallPositives(np.full((2, 3), 1e4, dtype=np.float32))
    with pytest.raises(ModelError, match="raise regularisation"):
        fitted(data, regularisation=1e-6, strength_power=1.0)


def test_the_users_rows_are_saved_with_the_model() -> None:
    data = random_positives(6, 5)
    model = fitted(data)
    other = EASE(EASEConfig(), 6, 5)
    other.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert torch.equal(other.x.indices, model.x.indices)
    np.testing.assert_array_equal(other.scores(np.arange(6)), model.scores(np.arange(6)))
