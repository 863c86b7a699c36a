"""What a plan will cost, by what nights have cost before; nothing is run or written for it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from expectations.catalogue import catalogue
from tasks.backfill import ledger
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Planned
from tasks.lake.session import session
from tasks.lake.tables import Lake, Pinned
from tasks.shop import Shop

RECENT = 14  # nights whose timings count
_APART = ("ingest", "compare", "publish")  # stages that a night of a backfill does not have
_NIGHTS = """
SELECT sum(seconds) FROM ops.stages
WHERE state = 'done' AND NOT list_contains($apart, stage)
GROUP BY run_id HAVING bool_or(stage = 'make_release')
ORDER BY max(started_at) DESC LIMIT $recent
"""


@dataclass(frozen=True)
class Expected:
    """One night: events of its date, rows it will list, what it takes; None: never seen yet."""

    ds: date
    state: str
    reason: str | None
    n_events: int
    n_rows: int | None
    minutes: float | None
    mib: float | None


@dataclass(frozen=True)
class Forecast:
    """All nights of a plan, what they take together, and from what that is known."""

    nights: tuple[Expected, ...]
    minutes: float | None  # of the clock, so many nights at once
    mib: float | None  # that stay
    mib_meanwhile: float  # in the plan's folder, until it is done
    known_from: str


def forecast(shop: Shop, planned: Planned) -> Forecast:
    """What the nights of a plan that are still to be made will take."""
    seconds, known_from = _seconds(shop, planned)
    n_rows, n_bytes = _sizes(shop.lake)
    by_day = _rows_by_day(shop.lake.pin("clean.events"))
    nights = tuple(
        _expected(each, by_day.get(each.ds, 0), seconds, n_rows, n_bytes)
        for each in planned.entries
    )
    todo = [each for each in nights if each.minutes is not None or each.n_rows is not None]
    at_once = min(planned.plan.max_active, shop.settings.backfill.max_active)
    return Forecast(
        nights=nights,
        minutes=None if seconds is None else len(todo) * seconds / 60 / at_once,
        mib=None if n_bytes is None else len(todo) * n_bytes / 2**20,
        mib_meanwhile=at_once * _features(shop.lake) / 2**20,
        known_from=known_from,
    )


def _expected(
    entry: Entry,
    n_events: int,
    seconds: float | None,
    n_rows: int | None,
    n_bytes: float | None,
) -> Expected:
    if entry.has_ended or entry.state == "done":  # it may have to be judged
        return Expected(entry.ds, entry.state, entry.reason, n_events, None, None, None)
    return Expected(
        ds=entry.ds,
        state="waiting",
        reason=None,
        n_events=n_events,
        n_rows=n_rows,
        minutes=None if seconds is None else seconds / 60,
        mib=None if n_bytes is None else n_bytes / 2**20,
    )


def _seconds(shop: Shop, planned: Planned) -> tuple[float | None, str]:
    """Seconds of one night, by nights of backfills with the same models, or else by any."""
    done = [each for each in ledger.every(shop.lake) if each.seconds is not None]
    models = planned.entries[0].models if planned.entries else []
    alike = [each for each in done if each.models == models]
    newest = sorted(alike, key=lambda each: str(each.ended_at), reverse=True)[:RECENT]
    if newest:
        told = statistics.median(float(each.seconds or 0) for each in newest)
        return told, f"{len(newest)} nights of backfills with the same models"
    with session(shop.lake, shop.settings.compute) as s:
        s.read("ops.stages")
        rows = s.rows(_NIGHTS, {"apart": list(_APART), "recent": RECENT})
    if not rows:
        return None, "no night has been timed yet"
    return statistics.median(row[0] for row in rows), f"the stages of {len(rows)} nights"


def _sizes(lake: Lake) -> tuple[int | None, float | None]:
    """Rows and bytes of a release, by the newest ones; the lists alone, which are most of it."""
    pinned = lake.pin("serve.recommendations")
    files: list[dict[str, Any]] = pinned.actions.select(
        ["partition.ds", "num_records", "size_bytes"]
    ).to_pylist()
    newest = sorted(files, key=lambda each: str(each["partition.ds"]), reverse=True)[:RECENT]
    if not newest:
        return None, None
    return (
        round(statistics.median(each["num_records"] for each in newest)),
        statistics.median(each["size_bytes"] for each in newest),
    )


def _rows_by_day(pinned: Pinned) -> dict[date, int]:
    days: Sequence[date] = pinned.actions.column("partition.ds").to_pylist()
    found: dict[date, int] = {}
    for day, n in zip(days, pinned.actions.column("num_records").to_pylist(), strict=True):
        found[day] = found.get(day, 0) + int(n or 0)
    return found


def _features(lake: Lake) -> float:
    """Bytes of the daily tables that each process makes for itself, as the lake has them."""
    tables = catalogue().values()
    daily = [t.name for t in tables if t.layer == "features" and t.kind == "increment"]
    sizes = (lake.pin(name).actions.column("size_bytes").to_pylist() for name in daily)
    return float(sum(map(sum, sizes)))
