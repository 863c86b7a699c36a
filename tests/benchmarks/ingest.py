"""Ingest against its floor: one bare DuckDB statement that parses with a schema, drops duplicates
and writes partitioned Parquet, without any check. Writes results/ingest.json: `make bench`.

Every measurement is a process of its own. A run that was stopped goes on where it was; after a
whole one the next starts over.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.lake.connection import connect
from tests.benchmarks import origins

RESULTS = Path(__file__).parent / "results" / "ingest.json"
N_EVENTS = 10_000_000
DAYS = 30
RUNS = 3
DEFAULT = "default"  # the memory limit of the default settings
# Name, what is measured, how many times the events. By turns, for machines are noisy.
PLAN = [
    *(
        (f"{name} {run}", what, 1)
        for run in range(RUNS)
        for name, what in (("floor", "floor"), ("ours", DEFAULT))
    ),
    ("ours, twice the events", DEFAULT, 2),
    ("ours, 500MB", "500MB", 1),
]
BEHAVIOURS = ("click", "view", "favourite", "cart", "purchase")
MAPPING = {
    "name": "bench",
    "behaviours": {"positives": {"click": 1}, "seen": ["purchase"]},
    "events": {
        "files": "*.jsonl",
        "format": "jsonl",
        "columns": {
            "event_id": "event_id",
            "user_id": "user_id",
            "item_id": "item_id",
            "request_id": "request_id",
            "session_id": "session_id",
            "value": "price",
        },
        "time": {"column": "ts", "unit": "ms"},
        "behaviour": {"column": "event", "values": {name: name for name in BEHAVIOURS}},
    },
}
LOG = """
WITH numbers AS (SELECT i, hash(i) AS h, hash(i + 7) AS g FROM range({n}) AS t(i)),
events AS (
    SELECT * FROM numbers
    UNION ALL SELECT i - 1, hash(i - 1), hash(i + 6) FROM numbers WHERE i % 100 = 99
)
SELECT CASE WHEN i % 10000 = 17 THEN '{{"event_id": "e' || i || '", broken' ELSE
    '{{"event_id":"' || lpad(to_hex(h), 16, '0') || '","user_id":"u' || (g % 200000)
    || '","item_id":"i' || ((h >> 20) % 50000) || '","event":"'
    || {behaviours}[(1 + (h >> 8) % 5)::INTEGER]
    || '","ts":' || (1735689600000 + (i::BIGINT * 86400000 * {days}) // {n})
    || ',"request_id":"r' || (g >> 30) || '","session_id":"s' || ((g >> 10) % 10000000)
    || '","price":' || ((h % 10000) / 100.0)::DECIMAL(8, 2) || '}}' END AS line
FROM events ORDER BY i
"""
FLOOR = """COPY (
    SELECT event_id, any_value(user_id) AS user_id, any_value(item_id) AS item_id,
        any_value(event) AS behaviour, any_value(make_timestamptz(ts * 1000)) AS occurred_at,
        any_value(request_id) AS request_id, any_value(session_id) AS session_id,
        any_value(price) AS value, make_timestamptz(ts * 1000)::DATE AS ds
    FROM read_json('{log}', format = 'newline_delimited', ignore_errors = true, columns = {{
        event_id: 'VARCHAR', user_id: 'VARCHAR', item_id: 'VARCHAR', event: 'VARCHAR',
        ts: 'BIGINT', request_id: 'VARCHAR', session_id: 'VARCHAR', price: 'DOUBLE'}})
    GROUP BY event_id, ds
) TO '{target}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (ds))"""


def write_log(path: Path, n: int) -> None:
    """`n` events in order of time, 1 % of them twice, 0.1 per mille of the lines broken."""
    with connect() as con:
        select = LOG.format(n=n, days=DAYS, behaviours=list(BEHAVIOURS))
        con.execute(
            f"COPY ({select}) TO '{path}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', "
            "DELIMITER '\\x01')"
        )


def floor(log: Path, root: Path) -> int:
    """The bare statement; DuckDB as it comes."""
    with connect() as con:
        con.execute(FLOOR.format(log=log, target=root / "floor"))
    return 0


def ours(log: Path, root: Path, memory_limit: str) -> int:
    """Ingest the events as a night does it; the rows in the clean table.

    The night's other work on them (items and users derived, where a shop delivers none) is left
    out: it makes other tables, which the floor does not.
    """
    # Imported here: the floor's process must not pay for them.
    from tasks.ingest.deliveries import new_deliveries
    from tasks.ingest.landing import arrival
    from tasks.ingest.load import ingest_files
    from tasks.lake.session import session
    from tasks.mapping import Mapping
    from tasks.settings import Compute, Paths, Settings, check
    from tasks.shop import Shop

    landing = root / "landing"
    landing.mkdir()
    (landing / "events.jsonl").symlink_to(log)
    settings = Settings(
        paths=Paths(landing=landing, lake=root / "lake"),
        compute=Compute() if memory_limit == DEFAULT else Compute(memory_limit=memory_limit),
    )
    shop = Shop(settings, check(Mapping, MAPPING, where="bench"))
    found = arrival(landing, shop.mapping, None).files
    with session(shop.lake, settings.compute) as s:
        new = new_deliveries(s, landing, shop.mapping, found)
    ingest_files(shop, "events", new, run_id="bench", night=None)
    files = shop.lake.rows(shop.lake.pin("ops.files"), {}).to_pylist()
    assert all(f["n_read"] == f["n_clean"] + f["n_duplicate"] + f["n_quarantined"] for f in files)
    assert all(f["n_duplicate"] * 101 == f["n_read"] for f in files)  # each hundredth, twice
    return int(sum(f["n_clean"] for f in files))


def alone(what: str, log: Path) -> dict[str, Any]:
    """One measurement in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-", dir=log.parent) as folder:
        command = [sys.executable, "-m", "tests.benchmarks.ingest", "--measure", what]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--log", str(log), "--root", folder],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TMPDIR": folder},
        )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def measure(what: str, log: Path, root: Path) -> None:
    """Run in the process that is measured: CPU seconds and the peak of its memory."""
    n_clean = floor(log, root) if what == "floor" else ours(log, root, what)
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss: a child starts with its parent's.
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kb = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    figures = {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(peak_kb / 1024),
        "n_clean": n_clean,
    }
    print(json.dumps(figures))


def main() -> None:
    """Measure what is not measured yet, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--root", type=Path)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.log, arguments.root)
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if {name for name, *_ in PLAN} <= set(found):
        found = {}
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as folder:
        _measure_all(found, Path(folder))
    print(json.dumps(found, indent=2))


def _measure_all(found: dict[str, Any], folder: Path) -> None:
    for name, what, times in PLAN:
        if name in found:
            continue
        log = folder / f"{times}.jsonl"
        if not log.exists():
            write_log(log, times * N_EVENTS)
        found[name] = alone(what, log)
        _summarise(found)
        RESULTS.parent.mkdir(exist_ok=True)
        origins.keep(RESULTS, json.dumps(found, indent=2) + "\n")
        origins.note("ingest")
    shutil.rmtree(folder, ignore_errors=True)


def _summarise(found: dict[str, Any]) -> None:
    cpu = {
        name: [each["cpu_seconds"] for key, each in found.items() if key.startswith(f"{name} ")]
        for name in ("floor", "ours")
    }
    if len(cpu["floor"]) == len(cpu["ours"]) == RUNS:
        ours_, floor_ = statistics.median(cpu["ours"]), statistics.median(cpu["floor"])
        found["ratio"] = {"ours": ours_, "floor": floor_, "times": round(ours_ / floor_, 2)}


if __name__ == "__main__":
    main()
