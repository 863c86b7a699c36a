from typing import Any

import numpy as np
import pytest
import torch

from models.contract import ModelError
from models.ials import IALS, IALSConfig
from tests.models.positives import SmallPositives, random_positives


def fitted(data: SmallPositives, seed: int = 1, **fields: object) -> IALS:
    model = IALS(IALSConfig.from_dict({"n_factors": 3, **fields}), data.n_users, data.n_items)
    torch.manual_seed(seed)
    model.fit(data)
    return model


def half(c: np.ndarray, p: np.ndarray, fixed: np.ndarray, penalty: float) -> np.ndarray:
    """Each row by its normal equation: (Y^T C Y + lambda I) x = Y^T C p."""
    return np.stack(
        [
            np.linalg.solve(
                fixed.T @ (weight[:, None] * fixed) + penalty * np.eye(fixed.shape[1]),
                fixed.T @ (weight * wanted),
            )
            for weight, wanted in zip(c, p, strict=True)
        ]
    )


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_the_items_solve_the_papers_normal_equations(power: float) -> None:
    data = random_positives(8, 6)
    model = fitted(
        data, regularisation=0.7, confidence=4.0, strength_power=power, sweeps=5, exact=True
    )
    is_positive = data.dense > 0
    c = np.where(is_positive, 1 + 4.0 * data.dense.astype(np.float64) ** power, 1.0)
    solved = half(c.T, is_positive.T.astype(np.float64), model.user_vectors(), 0.7)
    np.testing.assert_allclose(model.item_vectors(), solved, rtol=1e-3, atol=1e-5)


def test_conjugate_gradients_arrive_where_the_exact_sweeps_do() -> None:
    data = random_positives(8, 6)
    exact, cg = (
        fitted(data, sweeps=80, exact=exact).scores(np.arange(8)) for exact in (True, False)
    )
    np.testing.assert_allclose(exact, cg, atol=0.02)


def test_another_seed_starts_elsewhere() -> None:
    data = random_positives(8, 6)
    one, same, two = (fitted(data, seed, sweeps=1).user_vectors() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != two).any()


@pytest.mark.parametrize(
    "fields",
    [{"confidence": 1e30}, {"n_factors": 40, "regularisation": 1e-30, "exact": True}],
)
def test_what_cannot_be_solved_is_refused(fields: dict[str, Any]) -> None:
    why = "iALS: .+; raise regularisation or lower confidence"
    with pytest.raises(ModelError, match=why):
        fitted(random_positives(8, 6), **fields)


@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_everything_taken_is_no_special_case(n_users: int, n_items: int) -> None:
    data = SmallPositives(np.ones((n_users, n_items), dtype=np.float32))
    scores = fitted(data, regularisation=0.1).scores(np.arange(n_users))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, 1.0, atol=0.1)
