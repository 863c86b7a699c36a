"""Exact top-K lists as a night makes them, against the bare matrix product and implicit's topk.

Two shapes; about 50 seen items a user; vectors drawn from a normal distribution. "product" is
NumPy's matmul alone, a block of users at a time; "implicit" is `implicit.cpu.topk` (0.7.3; left
out where it is not installed), arrays without ids. Both have BLAS held to one thread, for what
threads spend on waiting for each other is no work. "ours" is `iter_lists_bounded` and `rows_of`, as
a night calls them: rows with string ids; bounds help nothing for vectors that nothing has learnt.
A share is the product's CPU seconds by another's of the same turn; "load" is that of the machine at
the start: beside others' work all but the product are slower by more.

Every measurement is a process of its own, by turns. Writes results/topk.json: `make bench`. A run
that was stopped goes on where it was; after a whole one the next starts over.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tasks.measure import measured
from tasks.train.csr import Csr, from_keys
from tasks.train.topk import FloatArray, rows_of
from tasks.train.topk_bounded import iter_lists_bounded
from tests.benchmarks.origins import keep, processor, versions

RESULTS = Path(__file__).parent / "results" / "topk.json"
TURNS = 3
SEEN = 50  # items drawn a user; a few are the same
BLOCK = 1024  # users of a block of the bare product: the fastest of 128 to 2048, in both shapes


@dataclass(frozen=True)
class Shape:
    """What is ranked."""

    users: int
    items: int
    d: int
    k: int


SHAPES = {
    "50k x 50k x 64, K 20": Shape(50_000, 50_000, 64, 20),
    "20k x 100k x 128, K 100": Shape(20_000, 100_000, 128, 100),
}
MORE_USERS = {
    "100k x 50k x 64, K 20": Shape(100_000, 50_000, 64, 20),
    "40k x 100k x 128, K 100": Shape(40_000, 100_000, 128, 100),
}


@dataclass(frozen=True, eq=False)
class Case:
    """The arrays of a shape."""

    k: int
    users: FloatArray  # [U, d]
    items: FloatArray  # [I, d]
    seen: Csr
    user_ids: pa.Array
    item_ids: pa.Array
    transposed: FloatArray  # [d, I], contiguous: 5 to 10 % faster for the product than a view
    scores: FloatArray  # [BLOCK, I], touched before: the product's alone


def drawn(shape: Shape, way: str) -> Case:
    """The same arrays each time; with a block of scores for the product."""
    rng = np.random.default_rng(1)
    users = rng.standard_normal((shape.users, shape.d), dtype=np.float32)
    items = rng.standard_normal((shape.items, shape.d), dtype=np.float32)
    owner = np.repeat(np.arange(shape.users, dtype=np.int64), SEEN)
    keys = np.unique(owner * shape.items + rng.integers(0, shape.items, len(owner)))
    seen = from_keys(keys, shape.users, shape.items)
    n_scores = BLOCK if way == "product" else 0
    scores = np.zeros((n_scores, shape.items), dtype=np.float32)
    scores.fill(1)
    user_ids, item_ids = (
        pa.array([f"{at:07}" for at in range(n)]) for n in (shape.users, shape.items)
    )
    transposed = np.ascontiguousarray(items.T)
    return Case(shape.k, users, items, seen, user_ids, item_ids, transposed, scores)


def product(case: Case) -> int:
    """Every score, and nothing done with it."""
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, len(case.users), BLOCK):
            block = case.users[start : start + BLOCK]
            np.matmul(block, case.transposed, out=case.scores[: len(block)])
    return 0


def ours(case: Case) -> int:
    """The rows of all lists."""
    blocks = iter_lists_bounded(case.users, case.items, case.k, seen=case.seen)
    return sum(batch.num_rows for batch in rows_of(blocks, case.user_ids, case.item_ids))


def implicit(case: Case) -> int:
    """The arrays of all lists, without ids."""
    from implicit.cpu.topk import topk
    from scipy.sparse import csr_matrix

    seen, shape = case.seen, (len(case.users), len(case.items))
    ones = np.ones(len(seen.indices), dtype=np.float32)
    hidden = csr_matrix((ones, seen.indices, seen.indptr.astype(np.int32)), shape=shape)
    with threadpool_limits(1, user_api="blas"):
        items, _ = topk(case.items, case.users, case.k, filter_query_items=hidden)
    return int(items.size)


WAYS: dict[str, Callable[[Case], int]] = {"product": product, "ours": ours, "implicit": implicit}


def plan() -> list[tuple[str, str, Shape]]:
    """Name, way and shape of each measurement."""
    ways = [way for way in WAYS if way != "implicit" or importlib.util.find_spec("implicit")]
    turns = [
        (f"{shape}: {way} {turn}", way, each)
        for turn in range(TURNS)
        for shape, each in SHAPES.items()
        for way in ways
    ]
    return turns + [(f"{name}: ours", "ours", shape) for name, shape in MORE_USERS.items()]


def measure(way: str, shape: Shape) -> None:
    """Run in the process that is measured."""
    case = drawn(shape, way)
    before = _resident_mb()  # the arrays and what is imported
    with measured() as cost:
        n_rows = WAYS[way](case)
    figures = {
        "users_per_cpu_second": round(shape.users / cost.cpu_seconds, 1),
        "cpu_seconds": round(cost.cpu_seconds, 2),
        "seconds": round(cost.seconds, 2),
        "mb_beside_the_arrays": round(cost.peak_mb - before),
        "n_rows": n_rows,
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures))


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def alone(way: str, shape: Shape) -> dict[str, Any]:
    """One measurement in a process of its own."""
    numbers = [str(each) for each in asdict(shape).values()]
    command = [sys.executable, "-m", "tests.benchmarks.topk", "--measure", way, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def summarised(cells: dict[str, Any]) -> dict[str, Any]:
    """What share of the product's rate each way reaches: of each turn, and the median."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        for way in ("ours", "implicit"):
            pairs = [
                (cells.get(f"{shape}: product {n}"), cells.get(f"{shape}: {way} {n}"))
                for n in range(TURNS)
            ]
            shares = [
                round(b["users_per_cpu_second"] / a["users_per_cpu_second"], 3)
                for a, b in pairs
                if a and b
            ]
            if shares:
                median = round(statistics.median(shares), 3)
                found[f"{shape}: {way}"] = {"share_of_product": median, "by_turn": shares}
    return found


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions("numpy", "pyarrow", "threadpoolctl", "implicit"),
    }


def main() -> None:
    """Measure what is not measured yet, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", nargs=5)
    arguments = parser.parse_args()
    if arguments.measure:
        way, *numbers = arguments.measure
        measure(way, Shape(*map(int, numbers)))
        return
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    cells: dict[str, Any] = known.get("cells", {})
    if {name for name, *_ in plan()} <= set(cells):
        cells = {}
    for name, way, shape in plan():
        if name in cells:
            continue
        started = time.perf_counter()
        cells[name] = alone(way, shape)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        whole = {**machine(), "shares": summarised(cells), "cells": cells}
        keep(RESULTS, json.dumps(whole, indent=2) + "\n")
    print(json.dumps(summarised(cells), indent=2))


if __name__ == "__main__":
    main()
