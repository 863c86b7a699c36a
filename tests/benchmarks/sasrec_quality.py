"""SASRec on MovieLens-1M and Amazon Beauty, leave-one-out. Writes results/sasrec_quality.json.

The last item of each user is the test, the one before chooses the epoch (NDCG@20 over all items);
the tested state has seen both what was trained on and the item that chose. HR@10 and NDCG@10 among
100 items drawn uniformly from those that the user never had, as pmixer's SASRec.pytorch does, and
among all items but those that the user had before. An item that no one has in training is found
by nobody. Ties count against us.

Cell by cell: what is in the file with the same settings is not run again. --quick measures one seed
anew, tells it beside what is in the file, and writes nothing.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import torch

from models.contract import SequenceConfig, SequenceModel
from tasks.train.arrays import (
    Interactions,
    Sequences,
    build_interactions,
    build_sequences,
    pairs_to_csr,
)
from tasks.train.csr import Csr
from tasks.train.feeds import StepFeed
from tasks.train.loop import Holdout, Trained, train
from tasks.train.run import Step
from tests.benchmarks.origins import keep, processor, versions
from tests.scenarios.real_data import FOLDER

RESULTS = Path(__file__).parent / "results" / "sasrec_quality.json"
SEEDS = (1, 2, 3)
N_SAMPLED, K = 100, 10
# Data set, name of the settings, settings.
PLAN: dict[tuple[str, str], dict[str, Any]] = {
    ("amazon-beauty", "tuned"): {"length": 50, "dropout": 0.5, "epochs": 60, "patience": 4},
    ("ml-1m", "tuned"): {
        "length": 200,
        "batch_size": 64,
        "loss": "bce",
        "ema": 0.999,
        "epochs": 150,
        "patience": 12,
    },
}
Figures = dict[str, Any]
Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """One data set: positions are those of the items that someone has in training."""

    data: Interactions  # training, with its sequences
    chooser: Csr  # the last item but one
    before_test: Sequences  # all but the last item
    had: Csr  # all items of each user but the last
    tested: npt.NDArray[np.int64]  # [n_users] the last item, -1 if no one has it in training


def read(name: str, folder: Path) -> Split:
    """The sequences in their published order and split."""
    rows = (
        pl.read_parquet(FOLDER / name / "interactions.parquet")
        .with_columns(pl.col("split").cast(pl.String))
        .filter(pl.col("split") != "rare_item")
        .sort("user_id", "order")
        .with_columns(pl.col("user_id", "item_id").cast(pl.String))
    )
    parts = {split: _pairs(rows, [split]) for split in ("train", "valid", "test")}
    data = build_interactions(parts["train"], folder)
    both = (data.users, data.items)
    data = replace(data, sequences=build_sequences(parts["train"], *both, folder))
    before_test = build_sequences(_pairs(rows, ["train", "valid"]), *both, folder / "before")
    last = pairs_to_csr(parts["test"], *both, folder)
    tested = np.full(data.n_users, -1, dtype=np.int64)
    tested[last.rows()] = last.indices
    chooser = pairs_to_csr(parts["valid"], *both, folder)
    return Split(data, chooser, before_test, before_test.had(), tested)


def _pairs(rows: pl.DataFrame, splits: list[str]) -> pa.Table:
    kept = rows.filter(pl.col("split").is_in(splits)).select(
        "user_id", "item_id", weight=pl.lit(1.0)
    )
    return kept.to_arrow()


def ranks(split: Split, trained: Trained, seed: int) -> dict[str, Ranks]:
    """Rank from 0 of each user's last item, among sampled items and among all."""
    config = cast(SequenceConfig, trained.config)
    model = cast(SequenceModel, trained.model)
    feed = StepFeed(model, config, split.before_test, torch.device("cpu"))
    rows = np.arange(split.data.n_users, dtype=np.int64)
    feed.settle()
    vectors, items = model.user_vectors(), model.item_vectors()
    found: dict[str, list[Ranks]] = {"sampled": [], "full": []}
    rng = np.random.default_rng(seed)
    for block in np.array_split(rows, -(-len(rows) // 512)):
        scores = vectors[block] @ items.T  # [B, n_items]
        at = np.arange(len(block))
        own = scores[at, split.tested[block]]  # [B]
        had = split.had.slice(block[0], block[-1] + 1)
        scores[had.rows(), had.indices] = -np.inf
        scores[at, split.tested[block]] = -np.inf
        beaten_by = scores >= own[:, None]  # [B, n_items]
        found["full"].append(beaten_by.sum(axis=1))
        found["sampled"].append(_among_sampled(scores, beaten_by, rng))
    known = split.tested >= 0
    return {name: np.where(known, np.concatenate(each), len(items)) for name, each in found.items()}


def _among_sampled(
    scores: npt.NDArray[np.float32], beaten_by: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Ranks:
    """Items that a user had are drawn again until none is left."""
    drawn = rng.integers(scores.shape[1], size=(len(scores), N_SAMPLED))
    while (again := np.isneginf(np.take_along_axis(scores, drawn, axis=1))).any():
        drawn[again] = rng.integers(scores.shape[1], size=int(again.sum()))
    n_better: Ranks = np.take_along_axis(beaten_by, drawn, axis=1).sum(axis=1)
    return n_better


def measure(name: str, settings: dict[str, Any], seed: int, model: str = "sasrec") -> Figures:
    """Train and test once."""
    with TemporaryDirectory() as work:
        split = read(name, Path(work))
        holdout = Holdout(split.chooser, seen=split.data.csr())
        started = time.process_time(), time.perf_counter()
        trained = train(model, settings, split.data, seed=seed, holdout=holdout, progress=_tell)
        spent = time.process_time() - started[0], time.perf_counter() - started[1]
        found = ranks(split, trained, seed)
    return {
        "settings": settings,
        "seed": seed,
        "epochs": trained.n_epochs,
        "best_epoch": trained.best_epoch,
        "chooser_ndcg_20": round(max(trained.ndcgs), 5),
        **{
            f"{how}_{metric}": value
            for how, each in found.items()
            for metric, value in _figures(each)
        },
        "users": len(split.tested),
        "users_tested_on_unknown_items": int((split.tested < 0).sum()),
        "cpu_seconds": round(spent[0]),
        "seconds": round(spent[1]),
        "on": date.today().isoformat(),
    }


def _figures(found: Ranks) -> Iterator[tuple[str, float]]:
    yield f"hr_{K}", round(float((found < K).mean()), 5)
    yield f"ndcg_{K}", round(float(np.where(found < K, 1 / np.log2(found + 2.0), 0).mean()), 5)


def _tell(step: Step) -> None:
    if step.ends_epoch:
        print(f"  epoch {step.epoch} of at most {step.n_epochs}: loss {step.loss:.4f}", flush=True)


def machine() -> Figures:
    """Where this was measured."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions("torch", "numpy", "polars"),
    }


def main() -> None:
    """Run the cells that are not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one seed, anew; not written")
    parser.add_argument("--only", help="one data set")
    asked = parser.parse_args()
    for (name, label), settings in PLAN.items():
        if asked.only not in (None, name):
            continue
        if not (FOLDER / name).is_dir():
            print(f"{name} is not here: NIGHTRANK_DATA names the folder that holds it")
            continue
        if asked.quick:
            _again(name, label, settings, SEEDS[0])
            continue
        for seed in SEEDS:
            cell(RESULTS, f"{name}, {label}", name, settings, seed)


def _again(name: str, label: str, settings: dict[str, Any], seed: int) -> None:
    key = f"{name}, {label}, seed {seed}"
    print(key, "now:", json.dumps(measure(name, settings, seed)), flush=True)
    print(key, "in the file:", json.dumps(measured(RESULTS).get(key)), flush=True)


def cell(
    file: Path,
    label: str,
    name: str,
    settings: dict[str, Any],
    seed: int,
    model: str = "sasrec",
) -> None:
    """Measure one cell of a file of results, unless it is there with the same settings."""
    key = f"{label}, seed {seed}"
    if measured(file).get(key, {}).get("settings") != settings:
        print(key, flush=True)
        figures = measure(name, settings, seed, model) | {"machine": machine()}
        # read again: another run may have written another cell meanwhile
        kept = measured(file) | {key: figures}
        keep(file, json.dumps(dict(sorted(kept.items())), indent=2) + "\n")
    print(key, json.dumps(measured(file)[key]), flush=True)


def measured(file: Path) -> dict[str, Figures]:
    """The cells of a file of results."""
    if not file.exists():
        return {}
    return cast("dict[str, Figures]", json.loads(file.read_text()))


if __name__ == "__main__":
    main()
