from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.errors import TrainingError
from tasks.estimate.ranking import ndcg
from tasks.train import loop, run
from tasks.train.arrays import Interactions, build_interactions
from tasks.train.csr import from_keys
from tasks.train.loop import NDCG_K, Holdout, Trained, train
from tasks.train.run import DivergedError, Step
from tasks.train.topk import top_k
from tests.tasks.train.planted import data_and_holdout

FAST = {"n_factors": 8, "batch_size": 256, "learning_rate": 0.05, "epochs": 40, "patience": 3}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Holdout]:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))


def holdout_ndcg(trained: Trained, data: Interactions, holdout: Holdout) -> float:
    model = trained.model
    lists = top_k(model.user_vectors(), model.item_vectors(), NDCG_K, seen=data.csr())
    return float(ndcg(lists.items, holdout.relevant, NDCG_K).mean())


def positives(pairs: list[tuple[str, str]], folder: Path) -> Interactions:
    users, items = zip(*pairs, strict=True) if pairs else ((), ())
    columns = [pa.array(users, pa.string()), pa.array(items, pa.string())]
    weights = pa.array([1.0] * len(pairs), pa.float64())
    return build_interactions(
        pa.table([*columns, weights], ["user_id", "item_id", "weight"]), folder
    )


def test_bpr_finds_the_planted_tastes_and_popularity_cannot(
    planted: tuple[Interactions, Holdout],
) -> None:
    data, holdout = planted
    bpr = train("bpr", FAST, data, seed=0, holdout=holdout)
    popularity = train("popularity", {}, data, seed=0)
    assert holdout_ndcg(bpr, data, holdout) > 1.4 * holdout_ndcg(popularity, data, holdout)


@pytest.mark.usefixtures("few_may_choose")
@pytest.mark.parametrize("name", ["bpr", "lightgcn"])
def test_early_stopping_returns_the_best_epoch_and_a_refit_of_that_length_equals_it(
    name: str, planted: tuple[Interactions, Holdout]
) -> None:
    data, holdout = planted
    stopped = train(name, FAST, data, seed=0, holdout=holdout)
    assert stopped.n_epochs == stopped.best_epoch + 3 < 40
    assert stopped.ndcgs[stopped.best_epoch - 1] == max(stopped.ndcgs)
    assert holdout_ndcg(stopped, data, holdout) == max(stopped.ndcgs)
    refit = train(name, FAST, data, seed=0, epochs=stopped.best_epoch)
    assert refit.model.item_vectors().tobytes() == stopped.model.item_vectors().tobytes()


@pytest.mark.usefixtures("few_may_choose")
@pytest.mark.parametrize(
    ("ndcgs", "n_epochs", "best"),
    [
        ([0.0] * 6 + [0.1, 0.2, 0.1, 0.1, 0.2, 0.9], 11, 8),
        ([0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.9], 6, 3),
        ([0.0] * 12, 12, 12),
    ],
)
def test_patience_begins_with_the_first_epoch_that_finds_anything(
    ndcgs: list[float],
    n_epochs: int,
    best: int,
    planted: tuple[Interactions, Holdout],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, holdout = planted
    told = iter(ndcgs)
    monkeypatch.setattr(loop, "_ndcg", lambda *_: next(told))
    trained = train("bpr", {**FAST, "epochs": 12}, data, seed=0, holdout=holdout)
    assert (trained.n_epochs, trained.best_epoch) == (n_epochs, best)
    refit = train("bpr", FAST, data, seed=0, epochs=best)
    assert refit.model.item_vectors().tobytes() == trained.model.item_vectors().tobytes()


@pytest.mark.parametrize(("accumulate", "n_worse"), [(1, 13), (2, 25)])
def test_where_an_epoch_is_few_steps_patience_lasts_for_some_steps(
    accumulate: int,
    n_worse: int,
    planted: tuple[Interactions, Holdout],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, holdout = planted
    size = -(-len(data.indices) // 4)  # four batches an epoch
    monkeypatch.setattr(loop, "LEAST_CHOOSING", 1)
    told = iter([0.1] + [0.0] * 39)
    monkeypatch.setattr(loop, "_ndcg", partial(_next, told))
    settings = {**FAST, "batch_size": size, "accumulate": accumulate}
    trained = train("bpr", settings, data, seed=0, holdout=holdout)
    assert (trained.n_epochs, trained.best_epoch) == (1 + n_worse, 1)


def _next(told: Iterator[float], *_: object) -> float:
    return next(told)


def test_too_few_users_choose_no_epoch(
    planted: tuple[Interactions, Holdout], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, holdout = planted
    n_users = np.count_nonzero(holdout.relevant.sizes())
    monkeypatch.setattr(run, "LEAST_PATIENCE", 0)
    made = []
    for least in (n_users, n_users + 1):
        monkeypatch.setattr(loop, "LEAST_CHOOSING", least)
        told = iter([0.02] + [0.0] * 11)  # one was lucky at once, as one of few may be
        monkeypatch.setattr(loop, "_ndcg", partial(_next, told))
        made.append(train("bpr", {**FAST, "epochs": 12}, data, seed=0, holdout=holdout))
    enough, too_few = made
    assert (enough.n_epochs, enough.best_epoch) == (4, 1)
    assert (too_few.n_epochs, too_few.best_epoch, len(too_few.ndcgs)) == (12, 12, 12)
    refit = train("bpr", FAST, data, seed=0, epochs=12)
    assert refit.model.item_vectors().tobytes() == too_few.model.item_vectors().tobytes()


def test_given_epochs_are_made_whatever_the_holdout_says(
    planted: tuple[Interactions, Holdout],
) -> None:
    trained = train("bpr", FAST, planted[0], seed=0, holdout=planted[1], epochs=30)
    assert (trained.n_epochs, trained.best_epoch, len(trained.ndcgs)) == (30, 30, 30)


def test_progress_is_told_after_each_step(planted: tuple[Interactions, Holdout]) -> None:
    told: list[Step] = []
    trained = train("bpr", FAST, planted[0], seed=0, epochs=3, progress=told.append)
    n = len(planted[0].indices)
    assert [step.n_done for step in told] == [*range(256, n, 256), n] * 3
    assert {(step.n_epochs, step.n_samples, step.note) for step in told} == {(3, n, "")}
    ends = [step for step in told if step.ends_epoch]
    assert [(step.epoch, step.loss) for step in ends] == [*enumerate(trained.losses, 1)]


def test_the_effective_sample_is_that_of_the_weights(
    planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    data, _ = planted
    plain = train("bpr", {**FAST, "strength_power": 0.0}, data, seed=0, epochs=2)
    assert plain.ess_shares == pytest.approx((1.0, 1.0))
    assert data.propensity is not None
    ips = {**FAST, "weighting": "ips", "strength_power": 0.0, "propensity_clip": 0.05}
    shares = train("bpr", ips, data, seed=0, epochs=2).ess_shares
    w = 1 / np.maximum(data.propensity, 0.05)[data.indices].astype(float)
    assert shares == pytest.approx([w.sum() ** 2 / np.square(w).sum() / len(w)] * 2, rel=1e-5)
    assert shares[0] < 0.999


def test_another_seed_gives_other_weights(planted: tuple[Interactions, Holdout]) -> None:
    one, two = (train("bpr", FAST, planted[0], seed=seed, epochs=1) for seed in (1, 2))
    assert (one.model.item_vectors() != two.model.item_vectors()).any()


def test_training_leaves_torch_as_it_was(planted: tuple[Interactions, Holdout]) -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    threads = torch.get_num_threads()
    train("bpr", FAST, planted[0], seed=0, epochs=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_divergence_is_an_error_of_its_own(planted: tuple[Interactions, Holdout]) -> None:
    with pytest.raises(DivergedError, match=r"the loss became (inf|nan) in epoch"):
        train("bpr", {**FAST, "learning_rate": 1e30}, planted[0], seed=0)


@pytest.mark.parametrize("name", ["popularity", "bpr"])
def test_nothing_to_train_on_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no positives to train on"):
        train(name, {}, positives([], tmp_path), seed=0)


def test_one_item_can_be_popular_but_not_compared(tmp_path: Path) -> None:
    data = positives([("a", "x"), ("b", "x")], tmp_path)
    assert train("popularity", {}, data, seed=0).model.item_vectors().shape == (1, 1)
    with pytest.raises(TrainingError, match="each user has every item"):
        train("bpr", {}, data, seed=0)


@pytest.mark.parametrize("name", ["bpr", "lightgcn"])
def test_a_user_who_has_everything_is_left_out_and_counted(name: str, tmp_path: Path) -> None:
    data = positives([("a", "x"), ("a", "y"), ("b", "x")], tmp_path)
    trained = train(name, FAST, data, seed=0, epochs=2)
    assert trained.n_users_dropped == 1
    assert np.isfinite(trained.model.user_vectors()).all()


def test_what_cannot_work_is_refused_before_training(
    planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    data, _ = planted
    nothing = from_keys(np.empty(0, dtype=np.int64), data.n_users, data.n_items)
    plain = positives([("a", "x"), ("b", "y")], tmp_path)
    with pytest.raises(TrainingError, match="known models"):
        train("brp", {}, data, seed=0)
    with pytest.raises(TrainingError, match="unknown fields"):
        train("bpr", {"factors": 3}, data, seed=0)
    with pytest.raises(TrainingError, match="holdout has no relevant item"):
        train("bpr", FAST, data, seed=0, holdout=Holdout(nothing))
    with pytest.raises(TrainingError, match="not over the training users"):
        train("bpr", FAST, plain, seed=0, holdout=Holdout(nothing))
    with pytest.raises(TrainingError, match="needs propensities"):
        train("bpr", {**FAST, "weighting": "ips"}, plain, seed=0)
    with pytest.raises(TrainingError, match="limit of 1 items, and 2 would take"):
        train("ease", {"max_items": 1}, plain, seed=0)
