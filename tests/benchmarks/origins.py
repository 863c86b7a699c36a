"""Where, with what and when a benchmark was measured, beside its results: results/origins/."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.chapters import Origin

FOLDER = Path(__file__).parent / "results" / "origins"
PACKAGES = ("duckdb", "deltalake", "polars", "numpy", "scikit-learn", "torch")


def note(name: str) -> None:
    """Keep the origin of a benchmark's results as here and now."""
    versions = {"python": platform.python_version(), **{each: version(each) for each in PACKAGES}}
    found = {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
        "dates": datetime.now(UTC).date().isoformat(),
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")


def noted(name: str, results: Path) -> Origin:
    """What is kept; nothing of results of before."""
    file = results / "origins" / f"{name}.json"
    return Origin(**json.loads(file.read_text())) if file.exists() else Origin()


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    named = [line for line in lines.read_text().splitlines() if "model name" in line]
    return named[0].partition(":")[2].strip() if named else platform.machine()
