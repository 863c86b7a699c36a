"""Training beside RecBole 1.2.1, in CPU seconds. Writes results/recbole_speed.json.

Amazon Baby (the MMRec split), BPR and LightGCN: until NDCG@20 on validation pairs is what is
published for test pairs. Lists leave out training pairs, means are over the users with a validation
pair, in both. Ours has the settings that `baselines` chose and is evaluated after each epoch;
RecBole has its defaults and, beside them, settings that learn faster, and trains for up to
MOST_TIMES as long as ours. Its BPR is evaluated after each epoch too, its LightGCN after each
fourth and the last (it may have been there up to three before). Where it got there, it took what is
told at most: `valid_ndcg` has the epochs after which it was evaluated.

Amazon Beauty, SASRec: one epoch, 50 steps, width 64 (also within the feed-forward layers), 2 blocks
of 2 heads, dropout 0.5. Our "full" is RecBole's "CE"; our "bce" stands beside its "BPR", a pairwise
loss with as many negatives. Batches are as they come: 2,048 samples, a padded one for each step, in
RecBole; 128 sequences in ours. Of RecBole's epoch BATCHES batches are measured and scaled: all are
padded to the same size.

CPU seconds are those of the whole process while it trains, with one thread of torch; evaluation is
left out and told apart. For that ours is trained twice: with evaluation, to see after how many
epochs it is there, and for so many again without; what torch imports before its first step is in
the first, as it is before the clock of RecBole, which builds its optimiser there.

    --peer PYTHON   of an environment with RecBole (`pip install recbole==1.2.1 "numpy<2" "pandas<3"
                    "setuptools<81"`); without it ours alone is measured, and nothing is written

Cell by cell: what is in the file is not run again; remove it there to measure it anew.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from models.sasrec import SASRec, SASRecConfig
from tasks.train.feeds import StepFeed
from tasks.train.loop import Holdout, Trained, train
from tests.benchmarks import baselines
from tests.benchmarks.origins import keep
from tests.benchmarks.sasrec_quality import machine
from tests.benchmarks.sasrec_quality import read as read_sequences
from tests.scenarios.real_data import FOLDER

RESULTS = Path(__file__).parent / "results" / "recbole_speed.json"
BABY, BEAUTY = "amazon-baby-mm", "amazon-beauty"
SEED = 1
MOST_TIMES = 4  # as long as ours, that RecBole may train
EVERY = {"BPR": 1, "LightGCN": 4}  # epochs of RecBole from one evaluation to the next
BATCHES = 16  # of RecBole's SASRec that are measured; all are padded to the same size
EPOCHS = 3  # of our SASRec, of which the first warms up
Figures = dict[str, Any]
COMMON: Figures = {
    "seed": SEED,
    "use_gpu": False,
    "state": "ERROR",
    "show_progress": False,
    "epochs": 1000,
    "metric_decimal_place": 6,
    "metrics": ["Recall", "NDCG"],
    "topk": [baselines.K],
    "valid_metric": f"NDCG@{baselines.K}",
    "eval_batch_size": 1 << 22,  # scores: by default it evaluates one user at a time
}
# Our name: RecBole's, and settings beside its defaults.
PAIRS: dict[str, tuple[str, list[Figures]]] = {
    "bpr": ("BPR", [{}, {"learning_rate": 0.005, "weight_decay": 1e-5}]),
    "lightgcn": ("LightGCN", [{}, {"learning_rate": 0.005, "n_layers": 3, "reg_weight": 0.001}]),
}
SASREC = SASRecConfig(length=50, width=64, heads=2, dropout=0.5)
LIKE_OURS: Figures = {"hidden_size": 64, "inner_size": 64, "n_layers": 2, "n_heads": 2}
# Our loss: RecBole's settings. The full softmax draws no negatives.
PEERS_SASREC: dict[str, Figures] = {
    "full": LIKE_OURS | {"loss_type": "CE", "train_neg_sample_args": None},
    "bce": LIKE_OURS | {"loss_type": "BPR"},
}


def to_goal(name: str) -> Figures:
    """CPU seconds of ours until validation NDCG@20 is the published, and what is found then."""
    settings, goal = _settings(name), baselines.PUBLISHED[name][1]
    with TemporaryDirectory() as work:
        split = baselines.read(Path(work))
        holdout = Holdout(split.valid, seen=split.data.csr())
        watched, _ = _clocked(name, settings, split, holdout=holdout)
        there = np.flatnonzero(np.array(watched.ndcgs) >= goal)
        if not len(there):
            return {"settings": settings, "epochs": watched.n_epochs, "cpu_seconds": None}
        epochs = int(there[0]) + 1
        trained, alone = _clocked(name, settings, split, epochs=epochs)
        # in the same process and as warm: what evaluation adds
        _, both = _clocked(name, settings | {"epochs": epochs}, split, holdout=holdout)
        return {
            "settings": settings,
            "epochs": epochs,
            "cpu_seconds": round(alone, 2),
            "evaluation_cpu_seconds": round(both - alone, 2),
            "valid": baselines.quality(split, trained, split.valid),
            "test": baselines.quality(split, trained, split.test),
        }


def _settings(name: str) -> baselines.Settings:
    settings = baselines.chosen(baselines.load(), name)
    assert settings is not None, "results/baselines.json has no search of this model"
    return settings


def _clocked(
    name: str,
    settings: baselines.Settings,
    split: baselines.Split,
    *,
    holdout: Holdout | None = None,
    epochs: int | None = None,
) -> tuple[Trained, float]:
    """Also the CPU seconds of the call."""
    started = time.process_time()
    trained = train(
        name, settings, split.data, seed=SEED, device="cpu", holdout=holdout, epochs=epochs
    )
    return trained, time.process_time() - started


def an_epoch(loss: str) -> Figures:
    """CPU seconds of an epoch of our SASRec."""
    config = SASRecConfig.from_dict(SASREC.to_dict() | {"loss": loss})
    torch.set_num_threads(1)
    with TemporaryDirectory() as work:
        sequences = read_sequences(BEAUTY, Path(work)).data.sequences
        assert sequences is not None
        model = SASRec(config, len(sequences.indptr) - 1, sequences.n_items).train()
        feed = StepFeed(model, config, sequences, torch.device("cpu"))
        adam = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
        spent = [_one_epoch(feed, adam, number) for number in range(EPOCHS)]
    return {
        "settings": config.to_dict(),
        "cpu_seconds": round(float(np.mean(spent[1:])), 2),
        "cpu_seconds_an_epoch": spent,
        "steps": feed.n_samples,
    }


def _one_epoch(feed: StepFeed, adam: torch.optim.Optimizer, number: int) -> float:
    started = time.process_time()
    for batch in feed.batches(seed=SEED, epoch=number):
        adam.zero_grad()
        batch.loss().total.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return round(time.process_time() - started, 2)


def write_baby(folder: Path) -> Figures:
    """The split as RecBole's atomic files, and how to read them."""
    rows = pl.read_parquet(FOLDER / BABY / "interactions.parquet").cast(pl.String)
    splits = ["train", "valid", "test"]
    for split in splits:
        kept = rows.filter(pl.col("split") == split)
        kept.select(
            pl.col("user_id").alias("user_id:token"), pl.col("item_id").alias("item_id:token")
        ).write_csv(folder / f"data.{split}.inter", separator="\t")
    return {"load_col": {"inter": ["user_id", "item_id"]}, "benchmark_filename": splits}


def write_beauty(folder: Path) -> Figures:
    """The sequences as an atomic file whose time is the order, and how to split them."""
    rows = pl.read_parquet(FOLDER / BEAUTY / "interactions.parquet")
    rows.select(
        pl.col("user_id").cast(pl.String).alias("user_id:token"),
        pl.col("item_id").cast(pl.String).alias("item_id:token"),
        pl.col("order").cast(pl.Float64).alias("timestamp:float"),
    ).write_csv(folder / "data.inter", separator="\t")
    return {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "group_by": "user",
            "order": "TO",
            "mode": "full",
        },
        "MAX_ITEM_LIST_LENGTH": SASREC.length,
        "hidden_dropout_prob": SASREC.dropout,
        "attn_dropout_prob": SASREC.dropout,
    }


def recbole(
    python: Path,
    write: Callable[[Path], Figures],
    model: str,
    settings: Figures,
    cap: float,
    goal: tuple[str, float] | None = None,
    batches: int | None = None,
) -> Figures:
    """Train RecBole in its own environment; cpu_seconds is None where it did not reach the goal."""
    with TemporaryDirectory() as work:
        (data := Path(work) / "data").mkdir()
        config = COMMON | {"data_path": work, "checkpoint_dir": work} | write(data) | settings
        asked = {"model": model, "config": config, "cap": cap, "goal": goal}
        asked |= {"every": EVERY.get(model), "batches": batches}
        versions, *epochs = _lines(python, asked, Path(work))
    last = epochs[-1]
    curve = (
        {}
        if goal is None
        else {each["epoch"]: each["valid"][goal[0]] for each in epochs if "valid" in each}
    )
    is_there = goal is None or max(curve.values()) >= goal[1]
    return {
        "settings": settings,
        "epochs": last["epoch"],
        "cpu_seconds": last["cpu_seconds"] if is_there else None,
        "cpu_seconds_trained": last["cpu_seconds"],
        "evaluation_cpu_seconds": last["evaluation_cpu_seconds"],
        "batches": last["batches"],
        "of_batches": last["of_batches"],
        "valid_ndcg": curve,
        **versions,
    }


def _lines(python: Path, asked: Figures, work: Path) -> Iterator[Figures]:
    """What RecBole's process prints, as it does."""
    file = Path(__file__).with_name("recbole_peer.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    with subprocess.Popen(
        [python.absolute(), file, json.dumps(asked)],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                print("  recbole", line.strip(), flush=True)
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(
            f"RecBole ended with {process.returncode}; of this cell nothing is written"
        )


def baby(name: str, peer: Path | None) -> Figures:
    """Both to the published NDCG@20."""
    goal = baselines.PUBLISHED[name][1]
    own = to_goal(name)
    found: Figures = {"goal": goal, "nightrank": own}
    if peer is None or own["cpu_seconds"] is None:
        return found
    their, tried = PAIRS[name]
    cap = round(MOST_TIMES * own["cpu_seconds"], 2)
    asked = f"ndcg@{baselines.K}", goal
    runs = [recbole(peer, write_baby, their, settings, cap, asked) for settings in tried]
    spent = [run["cpu_seconds"] for run in runs if run["cpu_seconds"] is not None]
    times = min(spent, default=cap) / own["cpu_seconds"]
    reached = {"times": round(times, 2), "is_reached": bool(spent)}
    return found | {"recbole": runs, "cap": cap} | reached


def beauty(loss: str, peer: Path | None) -> Figures:
    """An epoch of both."""
    own = an_epoch(loss)
    if peer is None:
        return {"nightrank": own}
    settings = PEERS_SASREC[loss]
    run = recbole(peer, write_beauty, "SASRec", settings, cap=0, batches=BATCHES)
    # scaled to the epoch
    run["cpu_seconds"] = round(run["cpu_seconds"] * run["of_batches"] / run["batches"], 2)
    return {
        "nightrank": own,
        "recbole": [run],
        "times": round(run["cpu_seconds"] / own["cpu_seconds"], 2),
        "is_reached": True,
    }


def cells() -> dict[str, Callable[[Path | None], Figures]]:
    """Names, and how each is measured."""
    return {
        **{f"{BABY}, {name}": partial(baby, name) for name in PAIRS},
        **{f"{BEAUTY}, sasrec, {loss}": partial(beauty, loss) for loss in PEERS_SASREC},
    }


def main() -> None:
    """Measure the cells that are not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--peer", type=Path, help="Python of an environment with RecBole")
    parser.add_argument("--only", help="cells whose name begins so")
    asked = parser.parse_args()
    if missing := [name for name in (BABY, BEAUTY) if not (FOLDER / name).is_dir()]:
        print(f"{missing} are not here: NIGHTRANK_DATA names the folder that holds them")
        return
    if asked.peer is None:
        print("RecBole is left out, for --peer is not given; nothing is written")
    for name, measure in cells().items():
        if not name.startswith(asked.only or "") or (asked.peer and name in _results()):
            continue
        load = round(os.getloadavg()[0], 1)
        found = measure(asked.peer) | {"load": load, "seed": SEED, "on": date.today().isoformat()}
        print(name, json.dumps(found, indent=2), flush=True)
        if asked.peer is not None:
            whole = _results() | {name: found | {"machine": machine()}}
            keep(RESULTS, json.dumps(dict(sorted(whole.items())), indent=2) + "\n")


def _results() -> Figures:
    if not RESULTS.exists():
        return {}
    return cast(Figures, json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
