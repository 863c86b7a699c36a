"""Odd data and odd numbers, for every model that is trained by gradient."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract import GradientConfig, GradientModel, Loss, SequenceModel
from models.registry import MODELS, load
from tasks.errors import TrainingError
from tasks.train.arrays import Interactions
from tasks.train.checkpoints import Checkpoints
from tasks.train.csr import from_keys
from tasks.train.loop import Holdout, train
from tasks.train.run import DivergedError
from tasks.train.scoring import best_items
from tests.tasks.train.test_sequence_models import world

GRADIENT = [name for name in MODELS if issubclass(load(name).config_type, GradientConfig)]
FAST: dict[str, dict[str, object]] = {
    "bpr": {"n_factors": 4, "epochs": 3},
    "lightgcn": {"n_factors": 4, "epochs": 3},
    "sasrec": {"width": 8, "epochs": 3, "length": 8},
    "causalrec": {"width": 8, "epochs": 3, "length": 8},
}
SEQUENCES = ("sasrec", "causalrec")
VARIANTS = [(name, FAST[name]) for name in GRADIENT]
VARIANTS += [(name, {**FAST[name], "loss": loss}) for name in SEQUENCES for loss in ("bce", "full")]
every_model = pytest.mark.parametrize(("name", "config"), VARIANTS)
compares = [(n, c) for n, c in VARIANTS if n not in SEQUENCES or c.get("loss") == "bce"]
EVERYONE_DIFFERENT = [[n, (n + 1) % 6, (n + 3) % 6] for n in range(6)] * 3


def holdout(data: Interactions, *, seen: bool) -> Holdout:
    """Everything is relevant; all of it was seen, or none."""
    n = data.n_users * data.n_items
    everything = from_keys(np.arange(n), data.n_users, data.n_items)
    return Holdout(everything, seen=everything if seen else None)


def test_every_gradient_model_is_here() -> None:
    assert {name for name, _ in VARIANTS} == set(GRADIENT) == set(FAST)


@every_model
def test_no_data(name: str, config: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no positives to train on"):
        train(name, config, world([[]], tmp_path), seed=0)


@every_model
def test_one_item(name: str, config: dict[str, object], tmp_path: Path) -> None:
    why = "no user has two steps" if name in SEQUENCES else "each user has every item"
    with pytest.raises(TrainingError, match=why):
        train(name, config, world([[0], [0, 0], [0]], tmp_path), seed=0)


@every_model
@pytest.mark.parametrize("n_users", [1, 3])
def test_everyone_has_everything(
    name: str, config: dict[str, object], n_users: int, tmp_path: Path
) -> None:
    data = world([[0, 1, 2]] * n_users, tmp_path)
    if (name, config) in compares:
        with pytest.raises(TrainingError, match="each user has every item"):
            train(name, config, data, seed=0)
    else:
        assert np.isfinite(train(name, config, data, seed=0).model.user_vectors()).all()


@every_model
def test_a_holdout_in_which_everything_was_seen_finds_nothing(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    data = world(EVERYONE_DIFFERENT, tmp_path)
    trained = train(name, config, data, seed=0, holdout=holdout(data, seen=True))
    assert set(trained.ndcgs) == {0.0}
    assert trained.best_epoch == trained.n_epochs == 3
    lists = best_items(trained.model, np.arange(18), 5, seen=holdout(data, seen=True).relevant)
    assert set(lists.items.flatten()) == {-1}


@every_model
def test_more_is_asked_for_than_there_are_items(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    data = world(EVERYONE_DIFFERENT, tmp_path)
    trained = train(name, config, data, seed=0, holdout=holdout(data, seen=False))
    assert trained.ndcgs == pytest.approx([1.0] * trained.n_epochs)  # all 6 of 6 are found
    lists = best_items(trained.model, np.arange(18), 1000).items
    assert lists.shape == (18, 1000)
    assert all(sorted(row[:6]) == [*range(6)] for row in lists.tolist())
    assert set(lists[:, 6:].flatten()) == {-1}


@every_model
def test_weights_that_explode_are_an_error(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    data = world(EVERYONE_DIFFERENT, tmp_path)
    with pytest.raises(DivergedError, match=r"(loss|weights) became .* in epoch [123]"):
        train(name, {**config, "learning_rate": 1e38}, data, seed=0)


@pytest.mark.parametrize("is_measured", [False, True])
def test_the_last_step_of_an_epoch_is_looked_at_too(is_measured: bool, tmp_path: Path) -> None:
    data = world(EVERYONE_DIFFERENT, tmp_path / "data")
    with pytest.raises(DivergedError, match="weights became NaN or infinite in epoch 1"):
        train(
            "lightgcn",
            {"learning_rate": 1e300, "epochs": 1},
            data,
            seed=0,
            holdout=holdout(data, seen=False) if is_measured else None,
            checkpoints=Checkpoints(tmp_path / "kept", seconds=0, steps=1),
        )
    assert list((tmp_path / "kept").iterdir()) == []


@every_model
def test_a_loss_that_is_no_number_ends_the_training_and_its_checkpoint(
    name: str, config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world(EVERYONE_DIFFERENT, tmp_path / "data")
    kind = load(name)
    assert issubclass(kind, GradientModel | SequenceModel)
    loss: Callable[..., Loss] = kind.loss
    n_calls = [0]

    def spoilt(self: torch.nn.Module, batch: object) -> Loss:
        n_calls[0] += 1
        found = loss(self, batch)
        return found._replace(total=found.total * torch.nan) if n_calls[0] == 5 else found

    monkeypatch.setattr(kind, "loss", spoilt)
    plan = Checkpoints(tmp_path / "kept", seconds=0, steps=1)
    asked = {**config, "batch_size": 9 if name in SEQUENCES else 27}  # two batches an epoch
    with pytest.raises(DivergedError, match="the loss became nan in epoch 3") as caught:
        train(name, asked, data, seed=0, checkpoints=plan)
    assert "learning_rate" in caught.value.fix
    assert list((tmp_path / "kept").iterdir()) == []


@every_model
def test_a_user_without_a_step_and_an_unseen_user_are_no_trouble(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    data = world([*EVERYONE_DIFFERENT, [2]], tmp_path)
    if data.sequences is not None:
        assert data.sequences.sizes()[-1] == 1
    trained = train(name, config, replace(data, propensity=None), seed=0)
    assert np.isfinite(trained.model.user_vectors()).all()
