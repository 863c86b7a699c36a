"""Where, with what and when a benchmark was measured, beside its results: results/origins/."""

import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.benchmarks.chapter import Origin

FOLDER = Path(__file__).parent / "results" / "origins"
PACKAGES = ("duckdb", "deltalake", "polars", "numpy", "scikit-learn", "torch")


def note(name: str) -> None:
    """Keep the origin of a benchmark's results as here and now."""
    known = {"python": platform.python_version(), **versions(*PACKAGES)}
    found = {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": ", ".join(f"{key} {value}" for key, value in known.items()),
        "dates": datetime.now(UTC).date().isoformat(),
    }
    FOLDER.mkdir(exist_ok=True)
    keep(FOLDER / f"{name}.json", json.dumps(found, indent=2) + "\n")


def keep(file: Path, results: str) -> None:
    """Put results in the place of those of before; a kill leaves the one or the other."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(results)
    beside.replace(file)


def noted(name: str, results: Path) -> Origin:
    """What is kept; nothing of results of before."""
    file = results / "origins" / f"{name}.json"
    return Origin(**json.loads(file.read_text())) if file.exists() else Origin()


def processor() -> str:
    """The processor's name; its architecture where the machine names none."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    named = [line for line in lines if line.startswith("model name")]
    return named[0].partition(":")[2].strip() if named else platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """The versions of these packages, of those that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
