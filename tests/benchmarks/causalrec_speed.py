"""An epoch of CausalRec beside one of SASRec on MovieLens-1M. Writes results/causalrec_speed.json.

Length 50 and 200, width 64, the same loss and batches; after a batch of the one comes the same of
the other, so that what else the machine does meets both. CPU seconds of one core: forward,
backward and the step; the scores of direction, made once a training, are told apart.
"""

import argparse
import json
import time
from datetime import date
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from models.causalrec import CausalRec, CausalRecConfig
from models.sasrec import SASRec, SASRecConfig
from tasks.train.arrays import Sequences
from tasks.train.descent import Descent
from tasks.train.feeds import StepFeed
from tests.benchmarks.origins import keep
from tests.benchmarks.sasrec_quality import machine, read
from tests.scenarios.real_data import FOLDER

RESULTS = Path(__file__).parent / "results" / "causalrec_speed.json"
LENGTHS = (50, 200)
BATCH, BATCHES = 64, 60  # sequences a batch; batches that are measured, after two that are not
SHAPE = {"width": 64, "loss": "sampled", "batch_size": BATCH}


def measure(sequences: Sequences, length: int) -> dict[str, Any]:
    """CPU seconds of the same batches by both."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    shape = (len(sequences.indptr) - 1, sequences.n_items)
    plain = SASRecConfig.from_dict({**SHAPE, "length": length})
    base = SASRec(plain, *shape).train()
    config = CausalRecConfig.from_dict({**SHAPE, "length": length})
    model = CausalRec(config, *shape).train()
    started = time.process_time()
    model.prepare(sequences)
    prepared = time.process_time() - started
    cpu = torch.device("cpu")
    descents = {
        "sasrec": Descent("sasrec", base, plain, cpu),
        "causalrec": Descent("causalrec", model, config, cpu),
    }
    feeds = [StepFeed(each, config, sequences, cpu) for each in (base, model)]
    spent: dict[str, list[float]] = {name: [] for name in descents}
    batches = [feed.batches(seed=1, epoch=1) for feed in feeds]
    for pair in islice(zip(*batches, strict=True), BATCHES + 2):
        for name, batch in zip(descents, pair, strict=True):
            started = time.process_time()
            descents[name].step([batch])
            spent[name].append(time.process_time() - started)
    sums = {name: float(np.sum(each[2:])) for name, each in spent.items()}
    return {
        "sasrec_cpu_seconds": round(sums["sasrec"], 2),
        "causalrec_cpu_seconds": round(sums["causalrec"], 2),
        "times": round(sums["causalrec"] / sums["sasrec"], 3),
        "directions_cpu_seconds": round(prepared, 2),
        "batches": BATCHES,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="not written")
    asked = parser.parse_args()
    if not (FOLDER / "ml-1m").is_dir():
        print("ml-1m is not here: NIGHTRANK_DATA names the folder that holds it")
        return
    with TemporaryDirectory() as work:
        sequences = read("ml-1m", Path(work)).data.sequences
        assert sequences is not None
        found: dict[str, Any] = {str(n): measure(sequences, n) for n in LENGTHS}
    found |= {"machine": machine(), "on": date.today().isoformat()}
    print(json.dumps(found, indent=2))
    if not asked.quick:
        keep(RESULTS, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
