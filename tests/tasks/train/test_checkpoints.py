"""A training that is stopped and gone on with ends with the bits of one that is not."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract import GradientConfig
from models.registry import MODELS, load
from tasks.errors import OverrunError
from tasks.train import checkpoints, loop
from tasks.train.arrays import Interactions
from tasks.train.checkpoints import Array, Checkpoint, Checkpoints, identity
from tasks.train.loop import Holdout, Trained, train
from tasks.train.registry import model_version
from tasks.train.run import Step
from tests.tasks.train.planted import data_and_holdout

PAIRS = {"n_factors": 8, "batch_size": 256, "learning_rate": 0.05, "epochs": 12, "patience": 6}
FAST: dict[str, dict[str, object]] = {
    "bpr": {**PAIRS},
    "lightgcn": {**PAIRS},
    "sasrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 6, "length": 20},
    "causalrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 6, "length": 20},
}
VARIANTS = [*FAST.items()]
VARIANTS += [("sasrec", {**FAST["sasrec"], "loss": "bce", "epochs": 12, "accumulate": 3})]
VARIANTS += [("sasrec", {**FAST["sasrec"], "ema": 0.9})]
VARIANTS += [("bpr", {**PAIRS, "epochs": 15, "accumulate": 2, "max_grad_norm": 0.01})]


class StoppedError(Exception):
    """Stands in for a kill."""


def stop_after(n_steps: int) -> Callable[[Step], None]:
    """Let a training make so many steps."""
    left = [n_steps]

    def progress(_: Step) -> None:
        left[0] -= 1
        if not left[0]:
            raise StoppedError

    return progress


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Holdout]:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))


def plan(folder: Path, steps: int = 1) -> Checkpoints:
    return Checkpoints(folder, seconds=0, steps=steps)


def written(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def assert_same(one: Trained, two: Trained) -> None:
    states = [each.model.state_dict() for each in (one, two)]
    assert {name: each.numpy().tobytes() for name, each in states[0].items()} == {
        name: each.numpy().tobytes() for name, each in states[1].items()
    }
    for field in ("losses", "ndcgs", "ess_shares", "n_epochs", "best_epoch", "n_parts"):
        assert getattr(one, field) == getattr(two, field)


def test_every_model_that_is_trained_by_gradient_is_stopped_here() -> None:
    assert set(FAST) == {n for n in MODELS if issubclass(load(n).config_type, GradientConfig)}


@pytest.mark.usefixtures("few_may_choose")
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(("name", "config"), VARIANTS)
def test_stopped_and_gone_on_with_equals_never_stopped(
    name: str,
    config: dict[str, object],
    every: int,
    planted: tuple[Interactions, Holdout],
    tmp_path: Path,
) -> None:
    data, holdout = planted
    whole = train(name, config, data, seed=3, holdout=holdout)
    n_stops = 0
    for n_steps in (2, 4, 9, 6):  # inside the first epoch, and on and on
        with pytest.raises(StoppedError):
            train(
                name,
                config,
                data,
                seed=3,
                holdout=holdout,
                checkpoints=plan(tmp_path, every),
                progress=stop_after(n_steps),
            )
        n_stops += len(written(tmp_path))
    steps: list[Step] = []
    last = train(
        name,
        config,
        data,
        seed=3,
        holdout=holdout,
        checkpoints=plan(tmp_path, every),
        progress=steps.append,
    )
    assert n_stops >= 3
    assert steps[0].epoch > 1
    assert steps[0].note.startswith("gone on from epoch")
    assert_same(whole, last)
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("accumulate", "stops", "n_epochs"), [(1, (6, 20, 28), 14), (2, (6, 20, 25), 26)]
)
def test_stopped_where_steps_and_not_epochs_say_how_patient_it_is(
    accumulate: int,
    stops: tuple[int, ...],
    n_epochs: int,
    planted: tuple[Interactions, Holdout],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last stop is inside the epoch after which its patience ends: it counts whole epochs."""
    data, holdout = planted
    size = -(-len(data.indices) // 4)  # four batches an epoch
    config = {**FAST["bpr"], "epochs": 40, "batch_size": size, "accumulate": accumulate}
    monkeypatch.setattr(loop, "LEAST_CHOOSING", 1)
    made = []
    for stopped in ((), stops):
        told = iter([0.1] + [0.0] * 39)  # the first epoch is the best
        monkeypatch.setattr(loop, "_ndcg", partial(_next, told))
        asked = {"seed": 3, "holdout": holdout, "checkpoints": plan(tmp_path)}
        for n_steps in stopped:
            with pytest.raises(StoppedError):
                train("bpr", config, data, **asked, progress=stop_after(n_steps))  # type: ignore[arg-type]
        assert len(written(tmp_path)) == len(stopped[:1])
        made.append(train("bpr", config, data, **asked))  # type: ignore[arg-type]
    assert (made[0].n_epochs, made[0].best_epoch) == (n_epochs, 1)
    assert_same(*made)


def _next(told: Iterator[float], *_: object) -> float:
    return next(told)


@pytest.mark.parametrize("name", ["bpr", "sasrec"])
def test_what_is_ended_for_lack_of_time_goes_on_and_ends_the_same(
    name: str, planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    data, holdout = planted
    whole = train(name, FAST[name], data, seed=3, holdout=holdout)
    ended: list[str] = []
    made = None
    while made is None:
        made = _within(0.03 * len(ended), name, data, holdout, tmp_path, ended)
    assert len(ended) > 1
    assert all("its time was over in epoch" in what for what in ended)
    assert made.losses == whole.losses
    assert model_version(made) == model_version(whole)
    assert not written(tmp_path)


def _within(
    seconds: float,
    name: str,
    data: Interactions,
    holdout: Holdout,
    folder: Path,
    ended: list[str],
) -> Trained | None:
    """A training that ends, with its checkpoint, where its time is over."""
    kept = Checkpoints(folder, seconds=0)
    until = time.monotonic() + seconds
    try:
        return train(name, FAST[name], data, seed=3, holdout=holdout, checkpoints=kept, until=until)
    except OverrunError as error:
        ended.append(error.what if written(folder) else "nothing was kept")
        return None


def test_it_goes_on_after_the_last_step_that_was_saved(
    planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    steps: list[Step] = []

    def progress(step: Step) -> None:
        steps.append(step)
        if len(steps) == 9:
            raise StoppedError

    asked = {"seed": 3, "checkpoints": plan(tmp_path, 4), "progress": progress}
    with pytest.raises(StoppedError):
        train("bpr", FAST["bpr"], planted[0], **asked)  # type: ignore[arg-type]
    train("bpr", FAST["bpr"], planted[0], **asked)  # type: ignore[arg-type]
    assert steps[9] == replace(steps[8], note="gone on from epoch 2")
    assert steps[9].epoch == 2


def test_another_training_does_not_take_it(
    planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    data, holdout = planted
    config = {**FAST["bpr"], "epochs": 3}

    def first_note(**changed: object) -> str:
        told: list[Step] = []
        asked = {"config": config, "data": data, "seed": 3, "checkpoints": plan(tmp_path)}
        train("bpr", **{**asked, **changed}, progress=told.append)  # type: ignore[arg-type]
        return told[0].note

    with pytest.raises(StoppedError):
        train("bpr", config, data, seed=3, checkpoints=plan(tmp_path), progress=stop_after(5))
    heavier = replace(data, weights=np.asarray(data.weights) * 2)
    for changed in (
        {"config": {**config, "regularisation": 0.02}},
        {"data": heavier},
        {"data": replace(data, propensity=None)},
        {"seed": 4},
        {"epochs": 2},
        {"holdout": holdout},
        {"holdout": replace(holdout, seen=None)},
        {"checkpoints": replace(plan(tmp_path), recipe="other code")},
    ):
        assert first_note(**changed) == "", changed
    assert first_note().startswith("gone on")


@pytest.mark.parametrize("damage", ["cut", "zeros", "turned", "no safetensors", "empty"])
def test_a_damaged_checkpoint_is_ignored_with_a_word(
    damage: str, planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    data, _ = planted
    config = {**FAST["bpr"], "epochs": 2}
    asked = {"seed": 3, "checkpoints": plan(tmp_path)}
    with pytest.raises(StoppedError):
        train("bpr", config, data, **asked, progress=stop_after(3))  # type: ignore[arg-type]
    (path,) = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "zeros": content[:-100] + bytes(100),
            "turned": content[:-1] + bytes([content[-1] ^ 1]),
            "no safetensors": b"what is this",
            "empty": b"",
        }[damage]
    )
    told: list[Step] = []
    again = train("bpr", config, data, **asked, progress=told.append)  # type: ignore[arg-type]
    assert told[0].note.startswith("a damaged checkpoint was ignored")
    assert told[0].epoch == 1
    assert_same(train("bpr", config, data, seed=3), again)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    told: list[Step] = []
    train(
        "bpr",
        {**FAST["bpr"], "epochs": 1},
        planted[0],
        seed=3,
        checkpoints=plan(tmp_path / "file"),
        progress=told.append,
    )
    assert "no checkpoint could be written" in told[-1].note


def test_the_old_one_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoint(plan(tmp_path), "x")
    kept.save({"a": torch.ones(3)}, {"n": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    kept.save({"a": torch.zeros(3)}, {"n": 2})
    assert "No space left" in kept.note
    saved = Checkpoint(plan(tmp_path), "x").load()
    assert saved is not None
    assert saved.about == {"n": 1}
    assert saved.tensors["a"].tolist() == [1, 1, 1]
    assert len(written(tmp_path)) == 1


def test_what_a_kill_left_half_written_goes_with_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(_: object, path: Path, **__: object) -> None:
        (path.parent / ".tmpX1").write_bytes(b"half")  # as safetensors does
        raise KilledError

    kept = Checkpoint(plan(tmp_path), "x")
    kept.save({"a": torch.ones(3)}, {"n": 1})
    other = Checkpoint(plan(tmp_path), "y")
    other.save({"a": torch.ones(3)}, {"n": 1})
    monkeypatch.setattr(checkpoints, "save_file", killed)
    with pytest.raises(KilledError):
        kept.save({"a": torch.zeros(3)}, {"n": 2})
    again = Checkpoint(plan(tmp_path), "x")
    saved = again.load()
    assert saved is not None
    assert saved.about == {"n": 1}
    again.remove()
    assert [path.name for path in tmp_path.iterdir()] == [other.path.name]


def test_writing_takes_at_most_a_fiftieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow(*_: object, **__: object) -> None:
        clock[0] += 4.0
        raise OSError("slow")

    monkeypatch.setattr(checkpoints, "save_file", slow)
    kept = Checkpoint(Checkpoints(tmp_path, seconds=60), "x")
    clock[0] = 59.9
    assert not kept.is_due()
    clock[0] = 60.0
    assert kept.is_due()
    kept.save({}, {})
    clock[0] = 64.0 + 199.9
    assert not kept.is_due()
    clock[0] = 64.0 + 200.0
    assert kept.is_due()


def test_what_nobody_came_back_for_goes_with_the_next_that_ends(tmp_path: Path) -> None:
    names = [".training-old.safetensors", ".training-new.safetensors", "0123456789abcdef"]
    for name in names:
        (tmp_path / name).write_text("x")
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (0, 0))
    Checkpoint(plan(tmp_path), "mine").remove()
    assert [path.name for path in written(tmp_path)] == sorted(names[1:])


def test_an_identity_tells_apart_facts_values_and_places() -> None:
    one, two = np.arange(4), np.arange(4, dtype=np.int32)
    cases: list[tuple[dict[str, int], list[Array | None]]] = [
        ({}, [one]),
        ({"a": 1}, [one]),
        ({}, [two]),
        ({}, [one, None]),
        ({}, [None, one]),
        ({}, [one[::-1]]),
        ({}, [one.reshape(2, 2)]),
        ({}, []),
    ]
    names = [identity(facts, arrays) for facts, arrays in cases]
    assert len(set(names)) == len(names)
    assert identity({}, [np.arange(8)[::2] // 2]) == names[0]
