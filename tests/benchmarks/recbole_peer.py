"""RecBole 1.2.1, trained epoch by epoch, in an environment of its own: see recbole_speed.

Not imported by anything: run as a file by a Python that has RecBole, with one argument, a JSON of

    model, config   as RecBole's Config takes them; its atomic files lie in config["data_path"]
    cap             stop once training has taken so many CPU seconds
    goal            stop once this metric on the validation pairs is reached: [name, value], or null
    every           with a goal: epochs from one evaluation to the next; else null
    batches         train only so many of an epoch, or null for all

Prints a line of JSON per epoch: cpu_seconds of training and evaluation_cpu_seconds (both of the
whole process, all threads, summed since training began), batches and of_batches, and after an
evaluation its metrics.
"""

import json
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


def _restore_dok_update() -> None:
    """RecBole's LightGCN fills a matrix with `_update`, which SciPy no longer has."""
    if not hasattr(scipy.sparse.dok_matrix, "_update"):

        def update(self: Any, entries: dict[tuple[int, int], float]) -> None:
            self._dict.update(entries)

        scipy.sparse.dok_matrix._update = update


def epochs(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Train until the goal or the cap."""
    config = Config(model=asked["model"], dataset="data", config_dict=asked["config"])
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, _ = data_preparation(config, dataset)
    model = get_model(asked["model"])(config, train_data.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], asked["model"])(config, model)
    trainer.eval_collector.data_collect(train_data)
    n_batches = asked["batches"] or len(train_data)
    began, spent = time.process_time(), 0.0
    for epoch in range(1, config["epochs"] + 1):
        started = time.process_time()
        loss = trainer._train_epoch(islice(train_data, n_batches), epoch, show_progress=False)
        spent += time.process_time() - started
        found: dict[str, Any] = {"epoch": epoch, "loss": float(np.sum(loss))}
        if asked["goal"] is not None and (epoch % asked["every"] == 0 or spent >= asked["cap"]):
            found["valid"] = dict(trainer.evaluate(valid_data, load_best_model=False))
        found |= {"batches": n_batches, "of_batches": len(train_data)}
        found["cpu_seconds"] = round(spent, 2)
        found["evaluation_cpu_seconds"] = round(time.process_time() - began - spent, 2)
        yield found
        if spent >= asked["cap"] or _is_reached(found, asked["goal"]):
            return


def _is_reached(found: dict[str, Any], goal: tuple[str, float] | None) -> bool:
    return goal is not None and "valid" in found and found["valid"][goal[0]] >= goal[1]


def main() -> None:
    """Say what this is, then train."""
    asked = json.loads(sys.argv.pop())  # RecBole reads what is left as its own
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _restore_dok_update()
    names = ("recbole", "torch", "numpy", "scipy")
    print(json.dumps({"versions": {name: version(name) for name in names}}), flush=True)
    for found in epochs(asked):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
