"""What a night of the sample shop costs, and how fast one user's list is read.

Writes results/night.json beside this file: `make bench`.
"""

import json
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.nightly import nightly
from tasks.lake.connection import connect
from tasks.sample import ShopSettings, write_sample
from tests.benchmarks.origins import keep, processor, versions

RESULTS = Path(__file__).parent / "results" / "night.json"
PACKAGES = ("deltalake", "duckdb", "great-expectations", "numpy", "polars", "torch")
N_LOOKUPS = 50


def measure() -> dict[str, Any]:
    """One sample, one night, fifty look-ups."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        root = Path(folder)
        started = time.perf_counter()
        counts = write_sample(ShopSettings(), root)
        sample_seconds = time.perf_counter() - started
        lake = root / "lake"
        started = time.perf_counter()
        nightly.fn(landing=root / "landing", lake=lake)
        night_seconds = time.perf_counter() - started
        with connect(lake / "warehouse.duckdb", read_only=True) as con:
            stages = con.sql(
                "SELECT stage, n_rows, seconds, cpu_seconds, peak_mb FROM ops.stages "
                "ORDER BY started_at"
            )
            names = stages.columns
            rows = [dict(zip(names, row, strict=True)) for row in stages.fetchall()]
            lookup = _lookup_ms(con)
    return {
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": versions(*PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "sample": {"seconds": round(sample_seconds, 1), **vars(counts)},
        "night_seconds": round(night_seconds, 1),
        "stages": rows,
        "lookup_ms": {"median": lookup, "n": N_LOOKUPS},
    }


def _lookup_ms(con: Any) -> float:
    users = con.sql(
        f"SELECT DISTINCT user_id FROM serve.current ORDER BY hash(user_id) LIMIT {N_LOOKUPS + 1}"
    ).fetchall()
    taken = []
    for user in users:
        started = time.perf_counter()
        con.execute("SELECT * FROM serve.current WHERE user_id = ?", list(user)).fetchall()
        taken.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(taken[1:]), 2)  # the first one warms the connection


def main() -> None:
    """Measure and write the figures."""
    figures = measure()
    RESULTS.parent.mkdir(exist_ok=True)
    keep(RESULTS, json.dumps(figures, indent=2, default=str) + "\n")
    print(json.dumps(figures, indent=2, default=str))


if __name__ == "__main__":
    main()
