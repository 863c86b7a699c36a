"""Steps of several batches, long gradients, and memory that runs out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.bpr import BPR
from models.contract import GradientConfig, GradientModel, Loss, SequenceConfig, SequenceModel
from models.lightgcn import LightGCN
from models.registry import load
from models.sasrec import SASRec
from tasks.errors import TrainingError
from tasks.train.arrays import Interactions
from tasks.train.checkpoints import Checkpoints
from tasks.train.descent import Descent, clip
from tasks.train.feeds import Feed, StepFeed, TripleFeed
from tasks.train.loop import train
from tasks.train.run import Step
from tests.tasks.train.planted import data_and_holdout

CPU = torch.device("cpu")
MEANS: list[tuple[str, dict[str, object]]] = [  # losses that are plain means
    ("bpr", {"n_factors": 8, "batch_size": 100, "strength_power": 0.0}),
    ("lightgcn", {"n_factors": 8, "batch_size": 100, "strength_power": 0.0}),
    ("sasrec", {"width": 8, "batch_size": 9, "length": 20, "dropout": 0.0, "loss": "full"}),
    ("sasrec", {"width": 8, "batch_size": 9, "length": 20, "dropout": 0.0, "loss": "bce"}),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Interactions:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))[0]


def prepared(name: str, config: dict[str, object], data: Interactions) -> tuple[Descent, Feed]:
    torch.manual_seed(0)
    kind = load(name)
    settings = kind.config_type.from_dict(config)
    model = kind(settings, data.n_users, data.n_items)
    assert isinstance(settings, GradientConfig)
    assert isinstance(model, GradientModel | SequenceModel)
    descent = Descent(name, model, settings, CPU)
    if isinstance(model, GradientModel):
        model.prepare(data)
        return descent, TripleFeed(model, settings, data, CPU)
    assert isinstance(settings, SequenceConfig)
    assert data.sequences is not None
    return descent, StepFeed(model, settings, data.sequences, CPU)


def gradients(descent: Descent) -> list[Tensor]:
    found = [each.grad for each in descent.model.parameters()]
    return [(each.to_dense() if each.is_sparse else each) for each in found if each is not None]


def test_decay_steps_as_a_penalty_in_the_loss_would(data: Interactions) -> None:
    mu, config = 0.3, {"n_factors": 8, "batch_size": 200}
    descent, feed = prepared("bpr", {**config, "decay": mu}, data)
    # the same start and loss, dense too
    penalised = prepared("bpr", {**config, "decay": 1e-30}, data)[0].model
    adam = torch.optim.Adam(penalised.parameters(), lr=descent.config.learning_rate)
    for batch in list(feed.batches(seed=1, epoch=1))[:3]:
        descent.step([batch])
        adam.zero_grad()
        feed.model = penalised  # type: ignore[attr-defined]
        squares = torch.stack([each.square().sum() for each in penalised.parameters()]).sum()
        (batch.loss().total + mu / 2 * squares).backward()  # type: ignore[no-untyped-call]
        feed.model = descent.model  # type: ignore[attr-defined]
        adam.step()
    pairs = zip(descent.model.parameters(), penalised.parameters(), strict=True)
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("n_batches", [1, 3])
def test_gradients_of_all_rows_are_the_sums_of_sparse_ones(
    n_batches: int, data: Interactions
) -> None:
    descent, feed = prepared("bpr", {"n_factors": 8, "batch_size": 200, "decay": 1e-5}, data)
    sparse = prepared("bpr", {"n_factors": 8, "batch_size": 200}, data)[0]
    for seed in (1, 2):  # of the second nothing of the first is left
        batches = list(feed.batches(seed=seed, epoch=1))[:n_batches]
        sparse.model.load_state_dict(descent.model.state_dict())
        descent.step(batches)
        feed.model = sparse.model  # type: ignore[attr-defined]
        sparse.step(batches)
        feed.model = descent.model  # type: ignore[attr-defined]
        for ours, theirs in zip(gradients(descent), gradients(sparse), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("n_parts", [2, 3, 7, 1000])
@pytest.mark.parametrize(("name", "config"), MEANS)
def test_parts_of_a_batch_add_up_to_its_gradient(
    name: str, config: dict[str, object], n_parts: int, data: Interactions
) -> None:
    whole, feed = prepared(name, config, data)
    batch = next(iter(feed.batches(seed=1, epoch=1)))
    passed = whole.step([batch])
    cut, feed = prepared(name, config, data)
    batch = next(iter(feed.batches(seed=1, epoch=1)))
    parts = batch.cut(n_parts)
    assert 1 < len(parts) <= n_parts
    assert sum(part.n for part in parts) == batch.n == passed.n
    again = cut.step(parts)
    assert again == pytest.approx(passed, rel=1e-5)
    for one, two in zip(gradients(whole), gradients(cut), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["bpr", "lightgcn"])
def test_two_half_batches_a_step_are_one_whole_batch_a_step(name: str, data: Interactions) -> None:
    config = {"n_factors": 8, "strength_power": 0.0, "learning_rate": 0.05, "epochs": 4}
    whole = train(name, {**config, "batch_size": 256}, data, seed=0)
    halves = train(name, {**config, "batch_size": 128, "accumulate": 2}, data, seed=0)
    assert halves.losses == pytest.approx(whole.losses, rel=1e-5)
    small = train(name, {**config, "batch_size": 128}, data, seed=0)
    assert abs(small.losses[-1] - whole.losses[-1]) > 1e-3


def repeated_rows() -> list[nn.Parameter]:
    """A sparse gradient in which a row occurs twice, and a dense one."""
    table, dense = nn.Parameter(torch.ones(5, 2)), nn.Parameter(torch.ones(3))
    rows = nn.functional.embedding(torch.tensor([1, 4, 1]), table, sparse=True)
    (3 * rows.sum() + (dense * torch.tensor([1.0, 2.0, 3.0])).sum()).backward()  # type: ignore[no-untyped-call]
    return [table, dense]


@pytest.mark.parametrize("most", [0.5, 1e9])
def test_sparse_gradients_are_clipped_as_dense_ones_are(most: float) -> None:
    ours, theirs = repeated_rows(), repeated_rows()
    assert theirs[0].grad is not None
    theirs[0].grad = theirs[0].grad.to_dense()
    length = nn.utils.clip_grad_norm_(theirs, most)
    assert clip(ours, most) == pytest.approx(float(length), rel=1e-6)
    for one, two in zip(ours, theirs, strict=True):
        assert one.grad is not None
        assert two.grad is not None
        torch.testing.assert_close(one.grad.to_dense(), two.grad, rtol=1e-5, atol=1e-6)


def test_no_gradient_has_no_length() -> None:
    assert clip([nn.Parameter(torch.ones(2))], 1.0) == 0.0


@pytest.mark.parametrize(("name", "config"), MEANS)
def test_a_limit_holds_for_every_step(
    name: str, config: dict[str, object], data: Interactions
) -> None:
    descent, feed = prepared(name, {**config, "max_grad_norm": 1e-3}, data)
    for batch in feed.batches(seed=1, epoch=1):
        descent.step([batch])
        length = torch.cat([each.flatten() for each in gradients(descent)]).norm()
        assert float(length) <= 1e-3 * (1 + 1e-5)


def run_out(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[GradientModel | SequenceModel],
    most: int,
    times: int = 10**9,
    by: Callable[[], object] = lambda: _raise(torch.OutOfMemoryError("pretended")),
) -> None:
    """Let a model's loss run out of memory above so many users, at most so many times."""
    loss: Callable[..., Loss] = kind.loss
    left = [times]

    def fails(self: nn.Module, batch: tuple[Tensor, ...]) -> Loss:
        if len(batch[0]) > most and left[0]:
            left[0] -= 1
            by()
        return loss(self, batch)

    monkeypatch.setattr(kind, "loss", fails)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("kind", "name", "config"),
    [(kind, *MEANS[n]) for n, kind in enumerate((BPR, LightGCN, SASRec))],
)
def test_out_of_memory_halves_the_batch_and_says_so(
    kind: type[GradientModel | SequenceModel],
    name: str,
    config: dict[str, object],
    data: Interactions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = train(name, config, data, seed=0, epochs=3)
    run_out(monkeypatch, kind, most=0, times=1)
    told: list[Step] = []
    halved = train(name, config, data, seed=0, epochs=3, progress=told.append)
    assert halved.n_parts == (2, 2, 2)
    assert whole.n_parts == (1, 1, 1)
    assert {step.note for step in told} == {"memory ran out: batches are cut in 2 parts"}
    assert halved.losses == pytest.approx(whole.losses, rel=1e-4)


def test_it_is_halved_until_it_fits(data: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out(monkeypatch, BPR, most=30)
    assert train("bpr", MEANS[0][1], data, seed=0, epochs=2).n_parts == (4, 4)


@pytest.mark.parametrize("room", [torch.empty, np.empty])
def test_the_memory_of_the_machine_runs_out_as_that_of_a_gpu_does(
    room: Callable[[int], object], data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_out(monkeypatch, BPR, most=30, by=lambda: room(1 << 50))  # more than can be addressed
    assert train("bpr", MEANS[0][1], data, seed=0, epochs=2).n_parts == (4, 4)


def test_another_error_is_no_lack_of_memory(
    data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_out(monkeypatch, BPR, most=0, times=1, by=lambda: _raise(RuntimeError("a wrong shape")))
    with pytest.raises(TrainingError, match="RuntimeError: a wrong shape"):
        train("bpr", MEANS[0][1], data, seed=0)


def test_a_single_sample_that_does_not_fit_is_an_error(
    data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_out(monkeypatch, SASRec, most=0)
    with pytest.raises(TrainingError, match="out of memory, even with each batch cut in"):
        train("sasrec", MEANS[2][1], data, seed=0)


def test_who_goes_on_knows_that_memory_ran_out(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_out(monkeypatch, BPR, most=0, times=1)
    plan = Checkpoints(tmp_path, seconds=0, steps=1)

    def stop(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("bpr", MEANS[0][1], data, seed=0, epochs=2, checkpoints=plan, progress=stop)
    assert train("bpr", MEANS[0][1], data, seed=0, epochs=2, checkpoints=plan).n_parts == (2, 2)


PRECISE = {"width": 16, "length": 20, "batch_size": 8, "dropout": 0.0, "loss": "full"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_has_about_the_same_gradient(precision: str, data: Interactions) -> None:
    whole, feed = prepared("sasrec", {**PRECISE}, data)
    whole.step([next(iter(feed.batches(seed=1, epoch=1)))])
    lower = {**PRECISE, "precision": precision, "max_grad_norm": 1e9}
    rough, feed = prepared("sasrec", lower, data)
    rough.step(next(iter(feed.batches(seed=1, epoch=1))).cut(2))
    one, two = (torch.cat([each.flatten() for each in gradients(d)]) for d in (whole, rough))
    assert 0 < (one - two).norm() / one.norm() < 0.02
    assert {each.dtype for each in rough.model.parameters()} == {torch.float32}


def test_a_step_that_was_scaled_too_far_is_left_out(data: Interactions) -> None:
    descent, feed = prepared("sasrec", {**PRECISE, "precision": "float16"}, data)
    before = [each.clone() for each in descent.model.parameters()]
    descent.scaler.load_state_dict({**descent.scaler.state_dict(), "scale": 2.0**60})
    descent.step([next(iter(feed.batches(seed=1, epoch=1)))])
    assert all(map(torch.equal, descent.model.parameters(), before))
    scale = descent.numbers()["scaler.scale"]
    assert scale == 2.0**59
    again, _ = prepared("sasrec", {**PRECISE, "precision": "float16"}, data)
    again.restore({**descent.tensors(), **descent.numbers()})
    assert again.numbers()["scaler.scale"] == scale


def test_bfloat16_learns_and_what_was_stopped_ends_the_same(
    data: Interactions, tmp_path: Path
) -> None:
    config = {**PRECISE, "precision": "bfloat16", "epochs": 6, "learning_rate": 0.01}
    whole = train("sasrec", config, data, seed=0)
    assert whole.losses[-1] < 0.9 * whole.losses[0]
    assert whole.losses != train("sasrec", {**config, "precision": "float32"}, data, seed=0).losses
    plan = Checkpoints(tmp_path, seconds=0, steps=7)

    def stop(step: Step) -> None:
        if step.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("sasrec", config, data, seed=0, checkpoints=plan, progress=stop)
    assert train("sasrec", config, data, seed=0, checkpoints=plan).losses == whole.losses


@pytest.mark.parametrize(
    ("name", "precision", "why"),
    [
        ("bpr", "bfloat16", "no matrix product"),
        ("lightgcn", "float16", "no matrix product"),
        ("sasrec", "float16", "float16 needs a GPU"),
        ("sasrec", "float64", "precision must be"),
    ],
)
def test_a_precision_that_is_of_no_use_is_refused(
    name: str, precision: str, why: str, data: Interactions
) -> None:
    with pytest.raises(TrainingError, match=why):
        train(name, {"precision": precision}, data, seed=0, device="cpu")
