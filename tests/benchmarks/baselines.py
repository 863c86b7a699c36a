"""Baselines on Amazon Baby (the MMRec split), full ranking. Writes results/baselines.json.

Training pairs train, validation pairs choose the epoch and the settings, test pairs are looked at
once; lists of 20 leave out training pairs only, as MMRec does. Recall@20 and NDCG@20 are means over
all users with a test pair; an item that nobody has in training is found by nobody and counts as
missed. CPU seconds are those of training with its early stopping, of all threads; "to best" until
the epoch that was kept, "to published" until NDCG@20 on validation pairs was what is published for
test pairs.

Cell by cell: what stands in the file with the same settings is not run again.
    --search       run what is missing of the candidates, on validation pairs, with one seed
    --quick        measure one seed anew, tell it beside the file's figures, and write nothing
    --only MODEL   one model
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from tasks.estimate.ranking import found, of_users
from tasks.train.arrays import Interactions, build_interactions, pairs_to_csr
from tasks.train.csr import Csr
from tasks.train.loop import Holdout, Trained, train
from tasks.train.run import Step
from tasks.train.scoring import best_items
from tests.benchmarks.origins import keep, versions
from tests.scenarios.real_data import FOLDER

RESULTS = Path(__file__).parent / "results" / "baselines.json"
DATA_SET = "amazon-baby-mm"
SEEDS = (1, 2, 3)
K = 20
Settings = dict[str, Any]
Cell = dict[str, Any]
PUBLISHED = {"bpr": [0.0575, 0.0249], "lightgcn": [0.0754, 0.0328]}  # Recall@20, NDCG@20


def _tried(names: str, *rows: tuple[float, ...]) -> list[Settings]:
    return [dict(zip(names.split(), row, strict=True)) for row in rows]


# What was tried; the settings with the best NDCG@20 on validation pairs are measured.
CANDIDATES: dict[str, list[Settings]] = {
    "popularity": [{}],
    "ease": _tried("regularisation", (100.0,), (300.0,), (500.0,), (1000.0,)),
    "ials": _tried(
        "n_factors regularisation confidence",
        *[(64, 10.0, 10.0), (64, 3.0, 3.0), (64, 30.0, 30.0), (64, 30.0, 10.0), (64, 10.0, 40.0)],
        *[(128, 20.0, 5.0), (128, 15.0, 10.0), (128, 30.0, 10.0), (128, 60.0, 10.0)],
        *[(128, 60.0, 20.0), (128, 100.0, 20.0), (128, 100.0, 40.0), (128, 150.0, 40.0)],
        *[(128, 200.0, 80.0), (128, 300.0, 80.0), (256, 20.0, 5.0), (256, 100.0, 40.0)],
        *[(256, 200.0, 40.0), (256, 200.0, 80.0), (256, 300.0, 80.0), (256, 500.0, 80.0)],
        (256, 400.0, 160.0),
    ),
    "bpr": _tried(
        "batch_size learning_rate patience init_scale regularisation",
        (8192, 0.005, 3, 0.1, 0.01),
        *[(8192, 0.005, 4, 0.01, each) for each in (0.03, 0.1, 0.3)],
        (8192, 0.002, 4, 0.01, 0.1),
    )
    + _tried(
        "batch_size learning_rate patience init_scale regularisation decay",
        *[(2048, rate, 4, 0.01, 0.0, 1e-5) for rate in (0.002, 0.003, 0.005)],
        (2048, 0.003, 4, 0.01, 0.0, 2e-5),
    ),
    "lightgcn": _tried(
        "batch_size learning_rate patience init_scale regularisation n_layers",
        (16384, 0.02, 5, 0.1, 0.0001, 2),
        (8192, 0.02, 5, 0.01, 0.0001, 3),
        (8192, 0.01, 5, 0.1, 0.001, 3),
        (8192, 0.01, 5, 0.01, 0.001, 3),
        (8192, 0.01, 5, 0.01, 0.01, 3),
        (8192, 0.01, 5, 0.01, 0.001, 4),
        (8192, 0.005, 5, 0.01, 0.001, 3),
        (8192, 0.01, 5, 0.01, 0.01, 4),
    ),
}


@dataclass(frozen=True, eq=False)
class Split:
    """Positions are those of the training data; unknown items stand behind the known."""

    data: Interactions
    valid: Csr
    test: Csr


def read(folder: Path) -> Split:
    """The published split."""
    rows = pl.read_parquet(FOLDER / DATA_SET / "interactions.parquet").cast(pl.String)
    parts = {
        split: rows.filter(pl.col("split") == split).select("user_id", "item_id").to_arrow()
        for split in ("train", "valid", "test")
    }
    weights = pa.array(np.ones(parts["train"].num_rows))
    data = build_interactions(parts["train"].append_column("weight", weights), folder)
    unknown = set(rows["item_id"]) - set(data.items.to_pylist())
    items = pa.concat_arrays([data.items, pa.array(sorted(unknown), data.items.type)])
    valid = pairs_to_csr(parts["valid"], data.users, data.items, folder)
    return Split(data, valid, pairs_to_csr(parts["test"], data.users, items, folder))


def measure(split: Split, name: str, settings: Settings, seed: int) -> tuple[Trained, Cell]:
    """Train once, with early stopping on the validation pairs."""
    clock = [time.process_time()]
    wall = time.perf_counter()

    def tick(step: Step) -> None:
        if step.ends_epoch:
            clock.append(time.process_time())

    trained = train(
        name,
        settings,
        split.data,
        seed=seed,
        device="cpu",
        holdout=Holdout(split.valid, seen=split.data.csr()),
        progress=tick,
    )
    clock.append(time.process_time())
    cpu = np.array(clock)[1:] - clock[0]
    goal = PUBLISHED[name][1] if name in PUBLISHED else np.inf
    reached = np.flatnonzero(np.array(trained.ndcgs) >= goal)
    return trained, {
        "model": name,
        "settings": settings,
        "seed": seed,
        "n_epochs": trained.n_epochs,
        "best_epoch": trained.best_epoch,
        "valid": quality(split, trained, split.valid),
        "cpu_seconds": round(cpu[-1], 1),
        "cpu_seconds_to_best": round(cpu[trained.best_epoch - 1], 1),
        "cpu_seconds_to_published": round(cpu[reached[0]], 1) if len(reached) else None,
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "load": round(os.getloadavg()[0], 1),
        "date": date.today().isoformat(),
    }


def quality(split: Split, trained: Trained, relevant: Csr) -> list[float]:
    """Recall@20 and NDCG@20."""
    users = np.flatnonzero(relevant.sizes())
    seen = split.data.csr().take(users)
    lists = best_items(trained.model, users, K, seen=seen).items
    of = of_users(found(lists, relevant.take(users)), K)
    return [round(float(of[name].mean()), 5) for name in ("recall", "ndcg")]


def missing(results: Cell, kind: str, wanted: list[Cell]) -> Iterator[Cell]:
    """Those of the wanted cells that the results do not hold."""
    there = [{key: each[key] for key in ("model", "settings", "seed")} for each in results[kind]]
    return (each for each in wanted if each not in there)


def chosen(results: Cell, name: str) -> Settings | None:
    """The candidate with the best NDCG on validation pairs."""
    tried = [each for each in results["search"] if each["model"] == name]
    best = max(tried, key=lambda each: each["valid"][1], default=None)
    return None if best is None else best["settings"]


def plan(results: Cell, names: list[str], seeds: tuple[int, ...], search: bool) -> list[Cell]:
    """The cells to have."""
    if search:
        return [
            {"model": name, "settings": settings, "seed": 1}
            for name in names
            for settings in CANDIDATES[name]
        ]
    picked = [(name, chosen(results, name)) for name in names]
    return [
        {"model": name, "settings": settings, "seed": seed}
        for name, settings in picked
        if settings is not None
        for seed in seeds
    ]


def summary(results: Cell) -> Cell:
    """Mean test quality of the chosen settings of each model, and the share of the published."""
    told = {}
    for name in CANDIDATES:
        settings = chosen(results, name)
        cells = [c for c in results["cells"] if (c["model"], c["settings"]) == (name, settings)]
        if not cells:
            continue
        mean = np.mean([cell["test"] for cell in cells], axis=0)
        told[name] = {
            "settings": settings,
            "recall": round(float(mean[0]), 4),
            "ndcg": round(float(mean[1]), 4),
            "seeds": len(cells),
            "cpu_seconds": round(np.mean([cell["cpu_seconds"] for cell in cells]), 1),
        }
        if name in PUBLISHED:
            share = mean / PUBLISHED[name]
            told[name]["of_published"] = [round(float(each), 3) for each in share]
            spent = [cell["cpu_seconds_to_published"] for cell in cells]
            if None not in spent:
                told[name]["cpu_seconds_to_published"] = round(np.mean(spent), 1)
    return told


def environment() -> Cell:
    """What the figures were measured on."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        **versions("torch", "numpy", "implicit"),
        "torch_threads": torch.get_num_threads(),
    }


def again(split: Split, wanted: Cell) -> None:
    """Measure one cell anew, and tell it beside what the file holds."""
    trained, cell = measure(split, wanted["model"], wanted["settings"], wanted["seed"])
    cell["test"] = quality(split, trained, split.test)
    kept = [each for each in load()["cells"] if wanted.items() <= each.items()]
    for whose, figures in (("now", [cell]), ("in the file", kept)):
        for each in figures:
            told = {key: each[key] for key in ("test", "n_epochs", "cpu_seconds", "date")}
            name = f"{wanted['model']}, seed {wanted['seed']}"
            print(f"{name}, {whose}: {json.dumps(told)}", flush=True)


def load() -> Cell:
    """What was measured so far."""
    if RESULTS.exists():
        results: Cell = json.loads(RESULTS.read_text())
        return results
    return {"summary": {}, "environment": {}, "published": PUBLISHED, "cells": [], "search": []}


def run(split: Split, kind: str, wanted: Cell) -> None:
    """Measure one cell and write it; the file is read again, for others may write to it too."""
    trained, cell = measure(split, wanted["model"], wanted["settings"], wanted["seed"])
    if kind == "cells":
        cell["test"] = quality(split, trained, split.test)
    print(json.dumps(cell), flush=True)
    results = load()
    results[kind] = sorted([*results[kind], cell], key=lambda each: (each["model"], each["seed"]))
    results |= {"environment": environment(), "summary": summary(results)}
    keep(RESULTS, json.dumps(results, indent=1) + "\n")


def main() -> None:
    """Run what is missing and write after each cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=list(CANDIDATES))
    given = parser.parse_args()
    if not (FOLDER / DATA_SET).is_dir():
        print(f"{DATA_SET} is not here: NIGHTRANK_DATA names the folder that holds it")
        return
    kind = "search" if given.search else "cells"
    names = [given.only] if given.only else list(CANDIDATES)
    with TemporaryDirectory() as work:
        split = read(Path(work))
        if given.quick:
            for cell in plan(load(), names, SEEDS[:1], search=False):
                again(split, cell)
            return
        for cell in missing(load(), kind, plan(load(), names, SEEDS, given.search)):
            run(split, kind, cell)
    print(json.dumps(load()["summary"], indent=2))


if __name__ == "__main__":
    main()
