"""Moving averages of weights: the formula, and what a training makes of them."""

import numpy as np
import pytest
import torch
from torch import nn

from models.contract import SequenceModel
from tasks.errors import TrainingError
from tasks.train.arrays import Interactions
from tasks.train.averages import MovingMean
from tasks.train.loop import Holdout, train
from tests.tasks.train.planted import data_and_holdout

CONFIG = {"width": 16, "batch_size": 8, "learning_rate": 0.02, "length": 20, "dropout": 0.0}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Holdout]:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))


def test_the_mean_is_that_of_the_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    mean, expected = MovingMean(model, 0.5), 1.0
    for n, value in enumerate([3.0, -1.0, 4.0, 8.0], 1):
        model.weight.data.fill_(value)
        mean.follow()
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * value
    assert mean.mean["weight"].item() == pytest.approx(expected)


def test_it_stands_in_for_the_weights_and_they_come_back() -> None:
    model = nn.Linear(3, 2)
    mean = MovingMean(model, 0.9)
    first = model.weight.detach().clone()
    model.weight.data.add_(1.0)
    last = model.weight.detach().clone()
    with mean.in_place():
        assert torch.equal(model.weight, first)
    with pytest.raises(ZeroDivisionError), mean.in_place():
        raise ZeroDivisionError
    assert torch.equal(model.weight, last)
    assert torch.equal(mean.mean["weight"], first)
    mean.settle()
    assert torch.equal(model.weight, first)


def test_training_goes_on_from_the_last_weights(planted: tuple[Interactions, Holdout]) -> None:
    data, holdout = planted
    plain, averaged = (
        train("sasrec", {**CONFIG, "ema": ema, "epochs": 4}, data, seed=1, holdout=holdout)
        for ema in (0.0, 0.9)
    )
    assert averaged.losses == plain.losses[: len(averaged.losses)]
    assert averaged.ndcgs != plain.ndcgs[: len(averaged.ndcgs)]


def test_what_is_kept_is_the_mean_and_its_states(planted: tuple[Interactions, Holdout]) -> None:
    data, _ = planted
    kept = [
        train("sasrec", {**CONFIG, "ema": ema}, data, seed=1, epochs=2).model for ema in (0.0, 0.99)
    ]
    assert all(isinstance(each, SequenceModel) for each in kept)
    plain, averaged = (each.user_vectors() for each in kept)
    assert not np.allclose(plain, averaged)
    items = [each.item_vectors() for each in kept]
    # a mean that began at the first weights has moved less than the last
    first = train("sasrec", {**CONFIG, "learning_rate": 1e-9}, data, seed=1, epochs=1).model
    start = first.item_vectors()
    assert np.square(items[1] - start).sum() < np.square(items[0] - start).sum()


def test_a_decay_that_makes_no_sense_is_refused(planted: tuple[Interactions, Holdout]) -> None:
    with pytest.raises(TrainingError, match="ema"):
        train("sasrec", {**CONFIG, "ema": 1.0}, planted[0], seed=1)
