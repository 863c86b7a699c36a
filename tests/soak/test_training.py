"""A training killed ten times, at any moment, ends with the weights of one that was not."""

import multiprocessing
import os
import random
import signal
from pathlib import Path
from threading import Timer

import pytest

from tasks.train import registry
from tasks.train.checkpoints import Checkpoints
from tasks.train.loop import train
from tasks.train.run import Step
from tests.tasks.train.planted import data_and_holdout

pytestmark = pytest.mark.soak
N_KILLS = 10
_APART = multiprocessing.get_context("forkserver")
_APART.set_forkserver_preload(["tests.soak.test_training", "models.bpr", "models.sasrec"])
PAIRS = {"n_factors": 8, "batch_size": 64, "epochs": 60, "patience": 60, "learning_rate": 0.02}
CONFIGS: dict[str, dict[str, object]] = {
    "bpr": {**PAIRS},
    "lightgcn": {**PAIRS},
    "sasrec": {"width": 16, "batch_size": 8, "epochs": 40, "patience": 40, "length": 20},
    "causalrec": {"width": 16, "batch_size": 8, "epochs": 40, "patience": 40, "length": 20},
}


def train_and_die(name: str, root: Path, seed: int, seconds: float) -> None:
    """Train and save; die so many seconds after the first step (0: do not)."""
    data, holdout = data_and_holdout(root / str(os.getpid()))
    timer = Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True

    def progress(_: Step) -> None:
        if seconds and timer.ident is None:
            timer.start()

    plan = Checkpoints(root / "checkpoints", seconds=0, steps=3)
    trained = train(
        name,
        CONFIGS[name],
        data,
        seed=seed,
        holdout=holdout,
        checkpoints=plan if seconds else None,
        progress=progress,
    )
    registry.save(trained, root / "models")
    os._exit(0)  # before the timer


def run(name: str, root: Path, seed: int, seconds: float = 0.0) -> int | None:
    process = _APART.Process(target=train_and_die, args=(name, root, seed, seconds))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("name", CONFIGS)
def test_killed_at_any_moment_it_ends_with_the_same_weights(name: str, tmp_path: Path) -> None:
    draw, n_killed, seed = random.Random(7), 0, 0
    while n_killed < N_KILLS:
        seed += 1
        whole, killed = tmp_path / f"whole-{seed}", tmp_path / f"killed-{seed}"
        assert run(name, whole, seed) == 0
        while (code := run(name, killed, seed, draw.uniform(0.02, 0.8))) != 0:
            assert code == -signal.SIGKILL
            n_killed += 1
        versions = [[p.name for p in (r / "models" / name).iterdir()] for r in (whole, killed)]
        assert versions[0] == versions[1]
        assert list((killed / "checkpoints").iterdir()) == []
