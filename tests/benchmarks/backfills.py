"""What orchestrating a backfill costs: `nightrank backfill` beside plain function calls.

Fourteen nights of a small sample shop, two at once, each in a process that lives for all of its
nights: once as bare calls of `run_night` and `judge`, once by the command, with a Prefect server
that runs already. The shop is small, so that what is added to a night weighs most. Writes
results/backfills.json: `make bench`.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tasks.backfill import ledger
from tasks.backfill.plan import Request, plan, with_models
from tasks.backfill.workers import JudgeJob, NightJob, Worker
from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.night import new_run_id
from tasks.sample import ShopSettings, write_sample
from tasks.shop import Shop, open_shop
from tests.benchmarks import origins, process_tree
from tests.scenarios.nights import Place, day, found

RESULTS = Path(__file__).parent / "results" / "backfills.json"
ROOT = Path(__file__).parents[2]
FIRST, LAST, AT_ONCE = 6, 19, 2
ROUNDS = 2
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def lay_out(root: Path) -> Place:
    """A shop whose days have been ingested in one go, and no night was run."""
    write_sample(ShopSettings(n_days=LAST + 1, n_users=120, n_items=60), root / "sample")
    place = found(Place(root / "shop"), 0, LAST + 1, root / "sample")
    shop = shop_of(place)
    ingest(shop, arrival(shop.landing, shop.mapping, None), new_run_id())
    return place


def shop_of(place: Place) -> Shop:
    """The shop of a place."""
    return open_shop(place.settings, None, place.landing, place.lake)


def plain(place: Place) -> None:
    """The nights as plain function calls, so many at once, and the last pass."""
    shop = shop_of(place)
    planned = plan(shop, Request(day(FIRST), day(LAST), choice="all", as_of="then"))
    shop = with_models(shop, ())
    workers = [Worker(shop, planned.plan, n + 1) for n in range(AT_ONCE)]
    todo, done = list(planned.entries), []

    def work(worker: Worker) -> None:
        while todo:
            entry = todo.pop(0)
            made = vars(worker(NightJob(entry.ds, new_run_id()), lambda _: None)).copy()
            made.pop("untrained")
            facts = vars(entry) | made | {"state": "done", "slot": worker.slot, "run_id": "plain"}
            done.append(ledger.Entry(**facts))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, workers))
    for entry in sorted(done, key=lambda each: each.ds):
        workers[0](JudgeJob(entry), lambda _: None)
    for worker in workers:
        worker.close()


def command(place: Place) -> list[str]:
    """The same by the command."""
    paths = ["--settings", place.settings, "--landing", place.landing, "--lake", place.lake]
    asked = [str(day(FIRST)), str(day(LAST)), "--all", "--as-of", "then"]
    more = ["--max-active", str(AT_ONCE), *map(str, paths)]
    return [sys.executable, "-m", "flows.cli", "backfill", *asked, *more]


@contextmanager
def server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server, and the environment of those who talk to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, **QUIET, "PREFECT_HOME": str(home)}
    program = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    process = subprocess.Popen(
        program, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait_for(url)
        yield {**env, "PREFECT_API_URL": url}
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    for _ in range(240):
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise TimeoutError(url)


def measure(root: Path) -> dict[str, Any]:
    """Both ways, in turns."""
    laid_out = lay_out(root / "laid-out")
    figures: dict[str, Any] = {"nights": LAST - FIRST + 1, "at_once": AT_ONCE, "rounds": []}
    for n in range(ROUNDS):
        places = [laid_out.copy(root / f"{name}-{n}") for name in ("plain", "command")]
        program = [sys.executable, "-m", "tests.benchmarks.backfills", "plain"]
        bare = _used([*program, str(places[0].root)], dict(os.environ), root / f"plain-{n}.log")
        # What the server costs by itself is not of a backfill: a machine has one for all its runs.
        with server(root / f"prefect-{n}") as env:
            ours = _used(command(places[1]), env, root / f"command-{n}.log")
        figures["rounds"].append({"plain": bare, "command": ours})
        for place in places:
            shutil.rmtree(place.root)
    for what in ("cpu_seconds", "seconds"):
        sums = {
            name: sum(each[name][what] for each in figures["rounds"])
            for name in ("plain", "command")
        }
        figures[f"{what}_ratio"] = round(sums["command"] / sums["plain"], 3)
    return figures


def _used(program: list[str], env: dict[str, str], log: Path) -> dict[str, float]:
    """What a program costs, found by a process that has started nothing else: not the server."""
    apart = [sys.executable, "-m", "tests.benchmarks.backfills", "measure", str(log), *program]
    told = subprocess.run(apart, env=env, cwd=ROOT, check=True, capture_output=True, text=True)
    used: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return used


def tell(log: Path, program: list[str]) -> None:
    """Run a program and print what it cost."""
    used = process_tree.run(program, cwd=ROOT, env=os.environ, log=log)
    if used.exit_code:
        raise SystemExit(used.output)
    costs = {"seconds": used.seconds, "cpu_seconds": used.cpu_seconds, "peak_mb": used.peak_mb}
    print(json.dumps(costs))


def main() -> None:
    """Measure and write the figures; with arguments, do one part of it."""
    match sys.argv[1:]:
        case ["plain", root]:
            plain(Place(Path(root)))
        case ["measure", log, *program]:
            tell(Path(log), program)
        case _:
            measure_and_write()


def measure_and_write() -> None:
    """The whole of it."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        figures = measure(Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    origins.keep(RESULTS, json.dumps(figures, indent=2) + "\n")
    origins.note("backfills")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
