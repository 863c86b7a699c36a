"""What exposure and estimates cost as the log grows: 1.25, 5 and 20 million impressions in 20 days.

Impressions (ten shown and three not shown in a request, items by a power law, the probabilities
with which they were drawn) and the clicks that followed lie in the clean tables; measured are the
features that read them and both stages of estimates, as a night runs them, with its default
settings. A size is a process of its own. Writes results/growth.json: `make bench`. A run that was
stopped goes on where it was; after a whole one the next starts over.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tasks.estimate.diagnostics import diagnose
from tasks.estimate.examination import examine
from tasks.estimate.log import Log, opened_log
from tasks.estimate.policies import estimate
from tasks.estimate.propensities import steps
from tasks.lake.session import Session, session
from tasks.mapping import Mapping
from tasks.measure import measured
from tasks.settings import Compute, Paths, Settings, check
from tasks.shop import Shop, name_positives, parameters
from tasks.transform import build_increments, build_snapshot
from tests.benchmarks import origins

RESULTS = Path(__file__).parent / "results" / "growth.json"
SIZES = (1_250_000, 5_000_000, 20_000_000)  # impressions
DAYS = [date(2026, 1, 5) + timedelta(days=each) for each in range(20)]
SHOWN, PER_REQUEST = 10, 13
ITEMS = 20_000
DAILY = (
    "features.traffic_daily",
    "features.popularity_daily",
    "features.feedback_daily",
    "features.exposure_daily",
    "features.impression_propensities",
)
MAPPING = {
    "name": "bench",
    "behaviours": {"positives": {"click": 1}, "seen": ["click"]},
    "events": {
        "files": "*.jsonl",
        "columns": {"user_id": "u", "item_id": "i"},
        "time": {"column": "t"},
        "behaviour": {"always": "click"},
    },
}
# Item n of N is drawn with 0.9 ((n + 1)^0.4 - n^0.4) / N^0.4 + 0.1 / N.
IMPRESSIONS = """
WITH slots AS (
    SELECT
        {first} + i // {per_request} AS request,
        1 + i % {per_request} AS place,
        hash({first} * {per_request} + i, 1) / 18446744073709551616.0 AS u,
        hash({first} * {per_request} + i, 2) / 18446744073709551616.0 AS v,
        hash({first} + i // {per_request}, 3) % {users} AS who
    FROM range({requests} * {per_request}) AS t(i)
),
drawn AS (
    SELECT *, floor({items} * if(v < 0.1, u, u ^ 2.5))::BIGINT AS item FROM slots
)
SELECT
    format('m{{}}-{{}}', request, place) AS impression_id,
    format('r{{}}', request) AS request_id,
    format('u{{}}', who) AS user_id,
    format('i{{}}', item) AS item_id,
    place <= {shown} AS is_shown,
    if(place <= {shown}, place, NULL)::INTEGER AS position,
    'main' AS policy,
    '1' AS policy_version,
    ln(1 + {items} - item) + 0.1 * (who % 7) AS policy_score,
    if(
        place <= {shown},
        0.9 * ((item + 1) ^ 0.4 - item ^ 0.4) / {items} ^ 0.4 + 0.1 / {items},
        NULL
    ) AS p_logged,
    TIMESTAMPTZ '{ds} 00:00:00+00' + to_seconds(request - {first}) / {requests} * 86000
        AS occurred_at,
    TIMESTAMPTZ '{ds} 23:59:59+00' AS arrived_at,
    NULL::TIMESTAMPTZ AS superseded_at,
    NULL::VARCHAR AS extra,
    'bench' AS file_id,
    DATE '{ds}' AS ds
FROM drawn
"""
EVENTS = """
SELECT
    'e' || impression_id AS event_id,
    user_id,
    item_id,
    'click' AS behaviour,
    occurred_at,
    arrived_at,
    superseded_at,
    request_id,
    'all' AS session_id,
    NULL::DOUBLE AS value,
    extra,
    file_id,
    ds
FROM ({impressions})
WHERE is_shown AND hash(impression_id) % 100 < 20 / position
"""
CATALOGUE = """
SELECT
    format('i{{}}', i) AS item_id,
    NULL::VARCHAR AS category,
    NULL::VARCHAR AS product_type,
    NULL::VARCHAR AS brand,
    NULL::VARCHAR AS title,
    NULL::DOUBLE AS price,
    true AS is_in_stock,
    NULL::DATE AS available_from,
    TIMESTAMPTZ '{ds} 00:00:00+00' AS arrived_at,
    NULL::VARCHAR AS extra,
    'bench' AS file_id,
    DATE '{ds}' AS ds
FROM range({items}) AS t(i)
"""


def bench_shop(root: Path) -> Shop:
    """A shop below `root`, with the default settings."""
    (root / "landing").mkdir(exist_ok=True)
    paths = Paths(landing=root / "landing", lake=root / "lake")
    return Shop(Settings(paths=paths), check(Mapping, MAPPING, where="bench"))


def write_log(shop: Shop, n_impressions: int) -> None:
    """The clean tables: a catalogue, and every day's impressions and clicks."""
    n_requests = n_impressions // PER_REQUEST // len(DAYS)
    with session(shop.lake, Compute()) as s:
        _put(s, "clean.items", DAYS[0], CATALOGUE.format(ds=DAYS[0], items=ITEMS))
        for nth, ds in enumerate(DAYS):
            impressions = IMPRESSIONS.format(
                ds=ds,
                first=nth * n_requests,
                requests=n_requests,
                per_request=PER_REQUEST,
                shown=SHOWN,
                items=ITEMS,
                users=n_impressions // 100,
            )
            _put(s, "clean.impressions", ds, impressions)
            _put(s, "clean.events", ds, EVENTS.format(impressions=impressions))


def _put(s: Session, name: str, ds: date, select: str) -> None:
    s.lake.rewrite(name, {"ds": ds}, lambda _: s.stream(select))


def stages(shop: Shop) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a night does with impressions, step by step."""
    ds = DAYS[-1]
    params = parameters(shop, ds)
    made_by = steps(shop)
    with session(shop.lake, shop.settings.compute) as s:
        name_positives(s, shop)
        for name in DAILY:
            step = made_by.get(name)
            yield (
                name,
                lambda name=name, step=step: build_increments(s, name, params, step),  # type: ignore[misc]
            )
        yield "features.examination", lambda: examine(s, params)
        yield (
            "features.item_propensities",
            lambda: build_snapshot(s, "features.item_propensities", params),
        )
    with ExitStack() as stack:
        logs: list[Log] = []
        yield "open the log", lambda: logs.append(stack.enter_context(opened_log(shop, ds)))
        yield "diagnose", lambda: diagnose(logs[0])
        yield "estimate", lambda: estimate(logs[0])


def measure(root: Path) -> dict[str, Any]:
    """CPU and wall seconds, peak memory and peak temporary disk of every step."""
    figures: dict[str, Any] = {}
    for name, work in stages(bench_shop(root)):
        with temporary_disk() as disk, measured() as cost:
            work()
        figures[name] = {
            "cpu_seconds": round(cost.cpu_seconds, 1),
            "seconds": round(cost.seconds, 1),
            "peak_mb": round(cost.peak_mb),
            "temporary_mb": disk[0],
        }
        print(name, figures[name], file=sys.stderr, flush=True)
    each_of = list(figures.values())
    return {
        "cpu_seconds": round(sum(each["cpu_seconds"] for each in each_of), 1),
        "seconds": round(sum(each["seconds"] for each in each_of), 1),
        "peak_mb": max(each["peak_mb"] for each in each_of),
        "temporary_mb": max(each["temporary_mb"] for each in each_of),
        "steps": figures,
    }


@contextmanager
def temporary_disk() -> Iterator[list[int]]:
    """The most that lay in the folder for temporary files, in MB, seen five times a second."""
    most, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            most[0] = max(most[0], _size_mb(Path(tempfile.gettempdir())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        is_over.set()
        watcher.join()


def _size_mb(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # gone meanwhile
            continue
    return round(total / 2**20)


def alone(n_impressions: int) -> dict[str, Any]:
    """One size, its log written here, measured in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        root = Path(folder)
        (root / "tmp").mkdir()
        write_log(bench_shop(root), n_impressions)
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.growth", "--measure", folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "TMPDIR": str(root / "tmp")},
        )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Measure what is not measured yet, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", type=Path)
    root = parser.parse_args().measure
    if root:
        print(json.dumps(measure(root)))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if {str(each) for each in SIZES} <= set(found):
        found = {}
    for size in SIZES:
        if str(size) in found:
            continue
        print(f"{size:,} impressions", file=sys.stderr, flush=True)
        found[str(size)] = alone(size)
        origins.keep(RESULTS, json.dumps(found, indent=2) + "\n")
        origins.note("growth")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
