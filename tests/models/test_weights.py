"""The one door by which propensities enter a loss."""

import pytest
import torch

from models.contract import Batch, Loss, inverse_propensity


def batch(propensity: list[float] | None) -> Batch:
    n = 3
    index = torch.zeros(n, dtype=torch.int64)
    return Batch(
        users=index,
        positives=index,
        negatives=index,
        weights=torch.ones(n),
        propensity=None if propensity is None else torch.tensor(propensity),
    )


def test_it_is_one_over_the_clipped_propensity() -> None:
    found = inverse_propensity(batch([0.5, 0.001, 1.0]), clip=0.01)
    assert found.tolist() == pytest.approx([2.0, 100.0, 1.0])


def test_without_a_propensity_it_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the propensity"):
        inverse_propensity(batch(None), clip=0.01)


def test_a_loss_without_weights_has_none() -> None:
    assert Loss(torch.zeros(()), {}).weights is None
