"""Whether a night costs the same once the window of history is full: ninety nights in a row.

The same rows a night, a window of 14 days. Writes results/nights.json: `make bench`.
"""

import json
import resource
import statistics
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from flows.nightly import nightly
from tasks.lake.tables import Lake
from tests.benchmarks import origins
from tests.scenarios.daily import MAPPING, day, events, land

RESULTS = Path(__file__).parent / "results" / "nights.json"
N_NIGHTS = 91
COMPARED = (30, 90)
EVENTS, USERS, ITEMS = 2_000, 300, 120
SETTINGS = """
[train.configs.bpr]
epochs = 3
n_factors = 16
"""


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(root: Path) -> dict[str, Any]:
    """CPU seconds of every night, and of its stages."""
    (root / "mapping.toml").write_text(MAPPING)
    (root / "settings.toml").write_text(SETTINGS)
    seconds: list[float] = []
    days: list[date] = []
    for night in range(N_NIGHTS + 1):
        rows = events(night, n_events=EVENTS, n_users=USERS, n_items=ITEMS)
        land(root / "landing", night, rows)
        days.append(day(night))
        started = _cpu()
        nightly.fn(
            settings=root / "settings.toml",
            mapping=str(root / "mapping.toml"),
            landing=root / "landing",
            lake=root / "lake",
        )
        seconds.append(round(_cpu() - started, 2))
        print(night, seconds[-1], flush=True)
    lake = Lake(root / "lake")
    figures: dict[str, Any] = {"night_cpu_seconds": seconds}
    for night in COMPARED:
        around = range(night - 1, night + 2)
        figures[f"night {night}"] = {
            "cpu_seconds": statistics.median(seconds[each] for each in around),
            "stages": _stages(lake, [days[each] for each in around]),
        }
    first, last = (figures[f"night {night}"]["cpu_seconds"] for night in COMPARED)
    return figures | {"ratio": round(last / first, 3)}


def _stages(lake: Lake, days: list[date]) -> dict[str, float]:
    pinned = lake.pin("ops.stages")
    rows = [row for day in days for row in lake.rows(pinned, {"ds": day}).to_pylist()]
    names = dict.fromkeys(row["stage"] for row in rows)
    return {
        name: statistics.median(row["cpu_seconds"] for row in rows if row["stage"] == name)
        for name in names
    }


def main() -> None:
    """Measure and write the figures."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        figures = measure(Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    origins.keep(RESULTS, json.dumps(figures, indent=2) + "\n")
    origins.note("nights")
    print(json.dumps({key: value for key, value in figures.items() if "cpu" not in key}, indent=2))


if __name__ == "__main__":
    main()
