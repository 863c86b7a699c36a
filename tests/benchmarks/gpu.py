"""Steps and lists on a GPU against their floors; where there is none, nothing is measured.

A floor is what the device cannot beat, from two figures taken on it in the same run: the bytes a
second of a plain copy, and the float32 operations a second of a large matrix product.

    LightGCN   bytes: each product reads a row for each edge and writes each node's, K forward and
               K backward; Adam reads and writes weights and both moments, and reads gradients
    SASRec     operations: 6 d^2 a step and block for its layers, 2 T d for its attention, m d for
               its loss; twice that for multiply and add, three times for forward and backward
    lists      operations: 2 d for each score

Medians of several turns. Writes results/gpu.json, with the device's name: `make gpu`.
"""

import json
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from models.contract import Batch, GradientModel, Past, SequenceModel, Steps
from models.lightgcn import LightGCN, LightGCNConfig
from models.sasrec import SASRec, SASRecConfig
from tasks.train.topk import FloatArray, iter_top_k
from tasks.train.topk_cuda import iter_lists_on
from tests.benchmarks.origins import keep

RESULTS = Path(__file__).parent / "results" / "gpu.json"
TURNS = 7
BYTES = 4  # of a float32
Figures = dict[str, Any]


def seconds(work: Callable[[], object], device: torch.device, turns: int = TURNS) -> float:
    """The median time of a piece of work, after one turn that does not count."""
    times = []
    for _ in range(turns + 1):
        _wait(device)
        started = perf_counter()
        work()
        _wait(device)
        times.append(perf_counter() - started)
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bandwidth(device: torch.device, n: int = 1 << 28) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.ones(n, device=device)
    target = torch.empty_like(source)
    return 2 * BYTES * n / seconds(lambda: target.copy_(source), device)


def operations(device: torch.device, n: int = 8192) -> float:
    """Float32 operations a second of a matrix product, without TF32."""
    torch.set_float32_matmul_precision("highest")
    one = torch.randn(n, n, device=device)
    return 2 * n**3 / seconds(lambda: one @ one, device)


class Drawn:
    """Positives at random places, as `models.contract.Positives`."""

    propensity = None

    def __init__(self, n_users: int, n_items: int, per_user: int) -> None:
        self.n_users, self.n_items = n_users, n_items
        drawn = np.random.default_rng(0).integers(0, n_items, (n_users, per_user))
        rows = [np.unique(row) for row in drawn]
        self.indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        self.indices = np.concatenate(rows).astype(np.int32)
        self.weights = np.ones(len(self.indices), dtype=np.float32)


def step_of(model: GradientModel | SequenceModel, batch: Batch | Steps) -> Callable[[], None]:
    """One step of the optimiser, as the loop makes it."""
    adam = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        adam.zero_grad()
        model.loss(batch).total.backward()  # type: ignore[arg-type, no-untyped-call]
        adam.step()

    return step


def lightgcn(device: torch.device, rate: float, n_users: int, n_items: int) -> Figures:
    """50 positives a user, 3 layers of 64, batches of 8,192."""
    config, data = LightGCNConfig(n_layers=3), Drawn(n_users, n_items, 50)
    model = LightGCN(config, n_users, n_items)
    model.prepare(data)
    users, items = (torch.randint(n, (3, 8192), device=device) for n in (n_users, n_items))
    batch = Batch(users[0], items[0], items[1], torch.ones(8192, device=device), None)
    took = seconds(step_of(model.to(device), batch), device)
    row, nodes = config.n_factors * BYTES, n_users + n_items
    product = (2 * len(data.indices) + nodes) * row
    floor = (2 * config.n_layers * product + 7 * nodes * row) / rate
    return _told(took, floor, edges=len(data.indices))


def sasrec(device: torch.device, rate: float, n_items: int, precision: str) -> Figures:
    """512 sequences of 200 steps, 2 blocks of 256, 512 sampled negatives."""
    b, t, d = 512, 200, 256
    config = SASRecConfig(width=d, length=t)
    model = SASRec(config, 1, n_items).to(device).train()
    items = torch.randint(n_items, (2, b, t), device=device)
    sizes, places = torch.full((b,), t, device=device), torch.arange(b * t, device=device)
    past = Past(items[0], sizes, torch.ones(b, t, device=device))
    step = step_of(model, Steps(past, places, items[1].flatten(), None))
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        took = seconds(step, device)
    a_step = config.blocks * (6 * d * d + 2 * t * d) + config.n_negatives * d
    return _told(took, 3 * 2 * b * t * a_step / rate, precision=precision)


def lists(device: torch.device, rate: float, n_users: int, n_items: int, d: int) -> Figures:
    """The 20 best of all items for each user."""
    users, items = vectors(n_users, d), vectors(n_items, d)
    took = seconds(lambda: [*iter_lists_on(device, users, items, 20)], device, turns=3)
    return _told(took, 2 * n_users * n_items * d / rate)


def agreement(device: torch.device, n_users: int = 512, n_items: int = 20_000) -> Figures:
    """How far lists and scores of the device are from those of the CPU."""
    users, items = vectors(n_users, 128), vectors(n_items, 128)
    here = [*iter_top_k(users, items, 20)]
    there = [*iter_lists_on(device, users, items, 20)]
    same = [np.concatenate([part.items for part in parts]) for parts in (here, there)]
    scores = [np.concatenate([part.scores for part in parts]) for parts in (here, there)]
    return {
        "share_of_ranks_with_the_same_item": float((same[0] == same[1]).mean()),
        "largest_difference_of_scores": float(np.abs(scores[0] - scores[1]).max()),
    }


def vectors(n: int, d: int) -> FloatArray:
    """Drawn from a normal distribution."""
    return np.random.default_rng(n).standard_normal((n, d), dtype=np.float32)


def _told(took: float, floor: float, **about: object) -> Figures:
    return {"seconds": took, "floor_seconds": floor, "times_the_floor": took / floor, **about}


def main() -> None:
    """Measure everything on the first GPU."""
    if not torch.cuda.is_available():
        print("skipped: no GPU")
        return
    device = torch.device("cuda")
    copied, multiplied = bandwidth(device), operations(device)
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(device),
        "torch": str(torch.__version__),
        "bytes_a_second": copied,
        "operations_a_second": multiplied,
        "agreement": agreement(device),
        "lightgcn_200k_x_100k": lightgcn(device, copied, 200_000, 100_000),
        "sasrec_float32": sasrec(device, multiplied, 100_000, "float32"),
        "sasrec_bfloat16": sasrec(device, multiplied, 100_000, "bfloat16"),
        "lists_1m_x_100k_x_128": lists(device, multiplied, 1_000_000, 100_000, 128),
    }
    keep(RESULTS, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
