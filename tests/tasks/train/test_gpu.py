"""The same training on a GPU; and its benchmark, whose parts run anywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.train.checkpoints import Checkpoints
from tasks.train.loop import train
from tasks.train.run import Step
from tests.benchmarks import gpu
from tests.tasks.train.planted import data_and_holdout

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
PAIRS: dict[str, object] = {"n_factors": 8, "batch_size": 256, "epochs": 4}
STEPS: dict[str, object] = {"width": 16, "batch_size": 8, "length": 20, "dropout": 0.0, "epochs": 3}
SAME = [("bpr", PAIRS), ("lightgcn", PAIRS)]  # what draws nothing on the device
SAME += [("sasrec", {**STEPS, "loss": loss}) for loss in ("bce", "full")]
CPU = torch.device("cpu")


@needs_gpu
@pytest.mark.parametrize(("name", "config"), SAME)
def test_a_gpu_learns_what_a_cpu_learns(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    data, _ = data_and_holdout(tmp_path)
    one, two = (train(name, config, data, seed=0, device=each) for each in ("cpu", "cuda"))
    assert one.losses == pytest.approx(two.losses, rel=1e-3)
    users = np.arange(data.n_users)
    np.testing.assert_allclose(one.model.scores(users), two.model.scores(users), atol=1e-2)


@needs_gpu
@pytest.mark.parametrize(
    ("name", "config"),
    [*SAME, ("sasrec", {**STEPS, "dropout": 0.2}), ("sasrec", {**STEPS, "precision": "float16"})],
)
def test_a_training_on_a_gpu_goes_on_with_the_same_bits(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    data, _ = data_and_holdout(tmp_path / "data")
    plan, left = Checkpoints(tmp_path / "kept", seconds=0, steps=2), [9]

    def stop(_: Step) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    whole = train(name, config, data, seed=0, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        train(name, config, data, seed=0, device="cuda", checkpoints=plan, progress=stop)
    again = train(name, config, data, seed=0, device="cuda", checkpoints=plan)
    assert again.losses == whole.losses
    users = np.arange(data.n_users)
    assert again.model.scores(users).tobytes() == whole.model.scores(users).tobytes()


def test_the_benchmark_measures_steps_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = gpu.seconds
    monkeypatch.setattr(gpu, "seconds", lambda work, device, turns=1: measure(work, device, 1))
    rates = gpu.bandwidth(CPU, 1 << 16), gpu.operations(CPU, 64)
    assert min(rates) > 0
    for figures in (
        gpu.lightgcn(CPU, rates[0], 300, 200),
        gpu.lists(CPU, rates[1], 300, 200, 8),
    ):
        assert figures["seconds"] > 0
        assert figures["times_the_floor"] == figures["seconds"] / figures["floor_seconds"]
    found = gpu.agreement(CPU, 40, 300)
    assert found["share_of_ranks_with_the_same_item"] > 0.99
    assert found["largest_difference_of_scores"] < 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_that_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main()
    assert capsys.readouterr().out == "skipped: no GPU\n"
