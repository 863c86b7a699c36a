"""Runs of nights: those that ended, those that did not, those that are missing; backfills."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import sql
from tasks.lake.leases import Lease
from tasks.lake.session import Session
from tasks.running import running
from tasks.shop import Shop
from tasks.status import causes
from tasks.status.causes import Change
from tasks.status.records import NightRun, Plan, StaleNight, Unfinished

LAST = 5  # nights that are listed
LOOKED_AT = 10  # dates of which runs without an end are looked for
OPEN = ("waiting", "running")


def nights(s: Session) -> tuple[NightRun, ...]:
    """The last runs that ended, newest first."""
    s.read("ops.nights")
    rows = s.rows(
        "SELECT run_id, ds, outcome, reason, started_at, ended_at FROM ops.nights "
        f"ORDER BY ended_at DESC, run_id LIMIT {LAST}"
    )
    return tuple(NightRun(*row) for row in rows)


def unfinished(s: Session) -> tuple[Unfinished, ...]:
    """Runs that have begun and not ended; those that have noted no stage yet come last."""
    days = sorted(s.lake.pin("ops.stages").days())
    s.read("ops.nights")
    s.read("ops.stages", since=days[-LOOKED_AT] if len(days) > LOOKED_AT else None)
    rows = s.rows(sql.read("queries/status_unfinished"))
    running_dates = running(s.lake)
    alive = {each.run_id: each for _, each in running_dates}
    noted = {row[0] for row in rows}
    return (
        *(_unfinished(alive.get(run_id), run_id, *facts) for run_id, *facts in rows),
        *(
            _unfinished(each, each.run_id, ds, None, each.taken_at)
            for ds, each in running_dates
            if each.run_id not in noted
        ),
    )


def _unfinished(
    lease: Lease | None, run_id: str, ds: date, stage: str | None, since: datetime
) -> Unfinished:
    if lease is None:
        return Unfinished(run_id, ds, "died", stage, since, None)
    return Unfinished(run_id, ds, "running", stage, since, f"{lease.pid} on {lease.host}")


def stale_nights(s: Session, shop: Shop, found: Sequence[Change]) -> tuple[StaleNight, ...]:
    """Nights whose window changed after they had ended: late, mended or withdrawn rows."""
    for name in ("ops.nights", "ops.files", "ops.row_moves"):
        s.read(name)
    window = timedelta(days=shop.mapping.behaviours.history_days - 1)
    rows = s.rows(sql.read("queries/status_stale_nights"), {"window": window})
    return tuple(
        StaleNight(
            ds,
            n_files,
            causes.told(causes.of_window(found, ds - window, ds, ended_at)),
            f"nightrank run --ds {ds}",
        )
        for ds, n_files, ended_at in rows
    )


def missing_nights(s: Session, newest: date | None) -> tuple[date, ...]:
    """Dates with events, after the first night, for which no night has ended.

    A release that a backfill has made of them will do.
    """
    for name in ("ops.nights", "ops.backfills"):
        s.read(name)
    ended = {
        row[0]
        for row in s.rows(
            "SELECT DISTINCT ds FROM ops.nights WHERE outcome IN ('published', 'kept', 'held')"
        )
    }
    if not ended or newest is None:
        return ()
    made = {
        row[0]
        for row in s.rows(
            "SELECT ds FROM ops.backfills WHERE state = 'done' AND outcome IS NOT NULL"
        )
    }
    days = s.lake.pin("clean.events").days().keys() - ended - made
    return tuple(sorted(day for day in days if min(ended) < day < newest))


def backfills(s: Session) -> tuple[Plan, ...]:
    """Plans with nights that are not done."""
    s.read("ops.backfills")
    rows = s.rows(
        "SELECT plan_id, state, count(*), min(ds), max(ds) FROM ops.backfills "
        "GROUP BY ALL ORDER BY plan_id, state"
    )
    plans = []
    for plan_id in dict.fromkeys(row[0] for row in rows):
        of_plan = [row for row in rows if row[0] == plan_id]
        counts = {state: n for _, state, n, _, _ in of_plan}
        if any(state in OPEN for state in counts):
            first, last = min(row[3] for row in of_plan), max(row[4] for row in of_plan)
            plans.append(Plan(plan_id, counts, first, last))
    return tuple(plans)
