"""A whole night of a large shop beside cicerone: 1 million events, 193,000 users, 100,000 items.

The same events as files for both: for us what a shop has, JSON lines in one file a day, four weeks
of them; for cicerone the one Parquet file that it reads. No catalogue of items or users. Ours is
`nightrank run` as it comes, the first night of a new lake: ingest of all four weeks, every check,
features, both default models trained and measured and their lists made, the gate, the release and
its page, through Prefect and a server that it starts. Cicerone's is `cicerone job` with its default
models, which makes and writes its lists. Both leave out what a user has had; K is 20. CPU seconds
and memory are those of all processes that a command starts.

Writes results/whole_night.json: `make bench`. `--peer` names the command `cicerone` of an
environment of its own (`pip install cicerone-recommender`, for Python 3.11); without it ours alone
is measured, and nothing is written. `--folder` keeps the log, and what was made of it, for another
run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tasks.lake.connection import connect
from tests.benchmarks.origins import keep, processor, versions
from tests.benchmarks.process_tree import Used, run

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "whole_night.json"
PACKAGES = ("deltalake", "duckdb", "great-expectations", "numpy", "polars", "prefect", "torch")
EVENTS, USERS, ITEMS = 1_000_000, 193_000, 100_600  # of which a few do not occur
TASTES = 200  # a user has one of so many, an item belongs to one
FIRST, DAYS = date(2026, 1, 5), 28
K = 20
# Everyone has one event, a few have many; seven of ten are of the user's own taste. In each taste,
# and over all, item n of N is drawn with ((n + 1)^0.4 - n^0.4) / N^0.4.
LOG = """
WITH numbers AS (
    SELECT
        i,
        hash(5 * i + 0) / 18446744073709551616.0 AS a,
        hash(5 * i + 1) / 18446744073709551616.0 AS b,
        hash(5 * i + 2) / 18446744073709551616.0 AS c,
        hash(5 * i + 3) / 18446744073709551616.0 AS d,
        hash(5 * i + 4) / 18446744073709551616.0 AS e
    FROM range({events}) AS t(i)
),
drawn AS (
    SELECT
        i,
        if(i < {users}, i, floor({users} * a ^ 2))::BIGINT AS u,
        floor({items} * b ^ 2.5)::BIGINT AS anything,
        floor({items} / {tastes} * b ^ 2.5)::BIGINT AS nth,
        c,
        d,
        floor(e * {days} * 86400)::BIGINT AS second
    FROM numbers
)
SELECT
    'e' || lpad(i::VARCHAR, 7, '0') AS event_id,
    'u' || lpad((u * 7919 % {users})::VARCHAR, 6, '0') AS user_id,
    'i' || lpad((
        if(c < 0.7, nth * {tastes} + hash(-1 - u) % {tastes}, anything) * 7919 % {items}
    )::VARCHAR, 6, '0') AS item_id,
    CASE WHEN d < 0.8 THEN 'view' WHEN d < 0.92 THEN 'cart' ELSE 'purchase' END AS event_type,
    TIMESTAMPTZ '{first} 00:00:00+00' + to_seconds(second) AS occurred_at
FROM drawn
ORDER BY second, i
"""
MAPPING = """
name = "whole_night"
[behaviours]
positives = { view = 1, cart = 3, purchase = 5 }
seen = ["view", "cart", "purchase"]
active_days = 28
history_days = 28
holdout_days = 3
[events]
files = "events/dt=*/*.jsonl"
format = "jsonl"
arrived = { path = 'dt=(.{10})' }
columns = { event_id = "event_id", user_id = "user_id", item_id = "item_id" }
time = { column = "occurred_at", unit = "iso" }
[events.behaviour]
column = "event_type"
values = { view = "view", cart = "cart", purchase = "purchase" }
"""
PEER = """
[input]
kind = "dataset"
options = {{ storage_backend = "local", path = "{folder}/input" }}
[output]
kind = "dataset"
options = {{ storage_backend = "local", path = "{folder}/output" }}
[job]
top_k = {k}
feature_config_path = "{folder}/features.toml"
"""
PEER_FEATURES = "event_weights = { view = 1.0, cart = 3.0, purchase = 5.0 }\n"


def write_log(folder: Path) -> None:
    """The same events for both: landing/events/dt=<day>/events.jsonl, and input/events.parquet."""
    whole = folder / "input" / "events.parquet"
    if whole.exists():
        return
    whole.parent.mkdir(parents=True, exist_ok=True)
    beside = whole.with_name("beside.parquet")
    select = LOG.format(
        events=EVENTS, users=USERS, items=ITEMS, tastes=TASTES, days=DAYS, first=FIRST
    )
    with connect() as con:
        con.execute(f"COPY ({select}) TO '{beside}' (FORMAT parquet)")
        for day in (FIRST + timedelta(days=each) for each in range(DAYS)):
            target = folder / "landing" / "events" / f"dt={day}" / "events.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            con.execute(
                "COPY (SELECT * REPLACE (strftime(occurred_at, '%Y-%m-%dT%H:%M:%SZ') AS "
                f"occurred_at) FROM '{beside}' WHERE occurred_at::DATE = DATE '{day}') "
                f"TO '{target}' (FORMAT json)"
            )
    beside.rename(whole)


def facts(folder: Path) -> dict[str, Any]:
    """What the log holds."""
    files = list((folder / "landing").rglob("*.jsonl"))
    with connect() as con:
        counted = con.sql(
            "SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) "
            f"FROM '{folder / 'input' / 'events.parquet'}'"
        ).fetchall()[0]
    names = ("n_events", "n_users", "n_items")
    n_mb = round(sum(path.stat().st_size for path in files) / 2**20)
    return {**dict(zip(names, counted, strict=True)), "files": len(files), "jsonl_mb": n_mb}


def ours(folder: Path) -> dict[str, Any]:
    """The night of a new lake, by the command."""
    lake, scratch = folder / "lake", folder / "tmp"
    for old in (lake, scratch, folder / "prefect"):
        shutil.rmtree(old, ignore_errors=True)
    scratch.mkdir()
    mapping = folder / "whole_night.toml"
    mapping.write_text(MAPPING)
    command = [sys.executable, "-m", "flows.cli", "run", "--mapping", str(mapping)]
    command += ["--landing", str(folder / "landing"), "--lake", str(lake)]
    # A server of its own: one that runs already would do its work uncounted.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PREFECT_HOME": str(folder / "prefect"), "TMPDIR": str(scratch)}
    found = _told(run(command, cwd=ROOT, env=env, log=folder / "nightrank.log"))
    with connect(lake / "warehouse.duckdb", read_only=True) as con:
        users, rows = con.sql(
            "SELECT count(DISTINCT user_id), count(*) FROM serve.current"
        ).fetchall()[0]
        stages = con.sql(
            "SELECT stage, n_rows, seconds, cpu_seconds, peak_mb FROM ops.stages "
            "ORDER BY started_at"
        )
        told = [dict(zip(stages.columns, row, strict=True)) for row in stages.fetchall()]
        quality = con.sql(
            "SELECT model, metric, round(value, 4) FROM train.metrics WHERE k = 20 AND "
            "metric IN ('recall', 'ndcg') AND evaluation = 'time split' AND average = 'users' "
            "AND segment_kind = 'all' ORDER BY ALL"
        ).fetchall()
    return found | {
        "n_users": users,
        "n_rows": rows,
        "quality": {f"{model} {metric}": value for model, metric, value in quality},
        "stages": told,
    }


def cicerone(folder: Path, command: Path) -> dict[str, Any]:
    """One job with the default models."""
    shutil.rmtree(folder / "output", ignore_errors=True)
    (folder / "output").mkdir()
    (folder / "features.toml").write_text(PEER_FEATURES)
    config = folder / "cicerone.toml"
    config.write_text(PEER.format(folder=folder, k=K))
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    job = [str(command), "--config", str(config), "job"]
    env = dict(os.environ) | {"TMPDIR": str(folder)}
    found = _told(run(job, cwd=folder, env=env, log=folder / "cicerone.log"))
    with connect() as con:
        users, rows = con.sql(
            "SELECT count(DISTINCT user_id), count(*) "
            f"FROM '{folder / 'output' / 'recommendations.parquet'}'"
        ).fetchall()[0]
    return {"version": told.stdout.strip().split()[-1], **found, "n_users": users, "n_rows": rows}


def _told(used: Used) -> dict[str, Any]:
    if used.exit_code:
        raise RuntimeError(f"the command ended with {used.exit_code}:\n{used.output}")
    return {
        name: value for name, value in asdict(used).items() if name not in ("exit_code", "output")
    }


def measure(folder: Path, peer: Path | None) -> dict[str, Any]:
    """Both, one after the other, and ours as a share of the other."""
    write_log(folder)
    found: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "processor": processor(),
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": versions(*PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "log": facts(folder),
        "nightrank": ours(folder),
    }
    if peer is None:
        return found | {"cicerone": "left out: no --peer was given"}
    other = cicerone(folder, peer)
    shares = {
        name: round(found["nightrank"][name] / other[name], 2)
        for name in ("seconds", "cpu_seconds", "peak_mb")
    }
    return found | {"cicerone": other, "share": shares}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", type=Path, help="the command cicerone of its own environment")
    parser.add_argument("--folder", type=Path, help="where the log lies, or is to lie")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightrank-bench-") as new:
        folder = arguments.folder or Path(new)
        figures = measure(folder.absolute(), arguments.peer and arguments.peer.absolute())
    print(json.dumps(figures, indent=2))
    if arguments.peer is None:
        print("cicerone is left out, for --peer is not given; nothing is written")
        return
    RESULTS.parent.mkdir(exist_ok=True)
    keep(RESULTS, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
