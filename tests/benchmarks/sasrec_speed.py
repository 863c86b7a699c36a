"""SASRec on Amazon Beauty: CPU seconds of an epoch of training. Writes results/sasrec_speed.json.

The paper's loss, 50 steps, width 50, 2 blocks, one head, dropout 0.2, 128 sequences a step, one
thread. `--peer FILE` takes model.py of pmixer's SASRec.pytorch and trains it beside ours, epochs in
turn, as its main.py does; its batches are made beforehand and do not count. It drops attention
weights too, which ours does not. The file's SHA-256 is kept. Without it ours alone is measured, and
nothing is written.
"""

import argparse
import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.sasrec import SASRec, SASRecConfig
from tasks.train.arrays import Sequences
from tasks.train.feeds import StepFeed
from tasks.train.sampling import draw_negatives
from tasks.train.sequences import make_step_sampler
from tests.benchmarks.origins import keep
from tests.benchmarks.sasrec_quality import machine, read
from tests.scenarios.real_data import FOLDER

RESULTS = Path(__file__).parent / "results" / "sasrec_speed.json"
EPOCHS = 3
CONFIG = SASRecConfig(loss="bce", width=50, length=50, batch_size=128, dropout=0.2)
Epoch = Callable[[int], None]
Seqs = npt.NDArray[np.int64]


def ours(sequences: Sequences) -> Epoch:
    """Our model, sampler and loop."""
    model = SASRec(CONFIG, len(sequences.indptr) - 1, sequences.n_items).train()
    feed = StepFeed(model, CONFIG, sequences, torch.device("cpu"))
    adam = torch.optim.Adam(model.parameters(), lr=CONFIG.learning_rate, fused=True)

    def epoch(number: int) -> None:
        for samples in feed.batches(seed=0, epoch=number):
            adam.zero_grad()
            samples.loss().total.backward()  # type: ignore[no-untyped-call]
            adam.step()

    return epoch


def peer(file: Path, sequences: Sequences) -> Epoch:
    """Pmixer's model, trained as in its main.py."""
    spec = importlib.util.spec_from_file_location("peer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = SimpleNamespace(
        device="cpu",
        norm_first=True,
        maxlen=CONFIG.length,
        hidden_units=CONFIG.width,
        num_blocks=CONFIG.blocks,
        num_heads=CONFIG.heads,
        dropout_rate=CONFIG.dropout,
    )
    model = module.SASRec(len(sequences.indptr) - 1, sequences.n_items, asked).train()
    adam = torch.optim.Adam(model.parameters(), lr=CONFIG.learning_rate, betas=(0.9, 0.98))
    bce = torch.nn.BCEWithLogitsLoss()
    batches = list(_peers_batches(sequences))

    def epoch(_: int) -> None:
        for seq, pos, neg in batches:
            s_pos, s_neg = model(None, seq, pos, neg)
            labels = torch.ones(s_pos.shape), torch.zeros(s_neg.shape)
            adam.zero_grad()
            real = np.where(pos != 0)
            loss = bce(s_pos[real], labels[0][real]) + bce(s_neg[real], labels[1][real])
            loss.backward()
            adam.step()
            loss.item()

    return epoch


def _peers_batches(sequences: Sequences) -> Iterator[tuple[Seqs, Seqs, Seqs]]:
    """Padded at the front to the full length; item 0 is the pad."""
    sampler = make_step_sampler(sequences, CONFIG.length, with_negatives=True)
    assert sampler.free is not None
    rng = np.random.default_rng(0)
    order = rng.permutation(len(sampler.rows))
    for start in range(0, len(order), CONFIG.batch_size):
        chosen = order[start : start + CONFIG.batch_size]
        seq, pos, neg = np.zeros((3, len(chosen), CONFIG.length), dtype=np.int64)
        for at, (row, size) in enumerate(
            zip(sampler.rows[chosen], sampler.sizes[chosen], strict=True)
        ):
            items = sequences.items[: sequences.indptr[row + 1]][-size - 1 :] + 1
            seq[at, -size:], pos[at, -size:] = items[:-1], items[1:]
            users = np.full(size, row, dtype=np.int32)
            neg[at, -size:] = draw_negatives(sampler.free, users, rng) + 1
        yield seq, pos, neg


def measure(file: Path | None) -> dict[str, Any]:
    """CPU seconds of each epoch; the first of each, which warms up, is left out."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as work:
        sequences = read("amazon-beauty", Path(work)).data.sequences
        assert sequences is not None
        runs = {"nightrank": ours(sequences)}
        if file is not None:
            runs["pmixer"] = peer(file, sequences)
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(EPOCHS + 1):
            for name, epoch in runs.items():
                started = time.process_time()
                epoch(number)
                spent[name].append(round(time.process_time() - started, 2))
                print(name, spent[name], flush=True)
    return {
        "settings": CONFIG.to_dict(),
        "cpu_seconds_an_epoch": {name: each[1:] for name, each in spent.items()},
        "least": {name: min(each[1:]) for name, each in spent.items()},
        **({} if file is None else {"peer_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}),
        "machine": machine(),
        "on": date.today().isoformat(),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--peer", type=Path, help="model.py of pmixer's SASRec.pytorch")
    asked = parser.parse_args()
    if not (FOLDER / "amazon-beauty").is_dir():
        print("amazon-beauty is not here: NIGHTRANK_DATA names the folder that holds it")
        return
    figures = measure(asked.peer)
    if asked.peer is None:
        print("pmixer's is left out, for --peer is not given; nothing is written")
        return
    keep(RESULTS, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
