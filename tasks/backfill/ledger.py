"""ops.backfills: how every night of every plan stands. One row is changed at a time, in one write.

A night is written as running before its work begins and as ended after that has, through the
version of the table that was read: of two that would take one night, one does.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Literal

import pyarrow as pa

from tasks.lake.borrowed import AsOf
from tasks.lake.tables import Lake, Pinned, arrow_schema

TABLE = "ops.backfills"
State = Literal["waiting", "running", "done", "failed", "cancelled", "empty"]
Change = Callable[["Entry"], "Entry"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of ops.backfills; expectations/tables/ops.py says what each column means."""

    ds: date
    place: int
    state: State
    first_ds: date
    last_ds: date
    choice: Literal["missing", "failed", "all"]
    as_of: AsOf
    models: list[str]
    is_newest_first: bool
    keeps_aside: bool
    max_active: int
    recipe: str
    pins: list[str]
    planned_at: datetime
    plan_id: str
    reason: str | None = None
    attempts: int = 0
    run_id: str | None = None
    slot: int | None = None
    release_id: str | None = None
    model: str | None = None
    n_users: int | None = None
    n_rows: int | None = None
    n_items: int | None = None
    n_bytes: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Literal["swapped in", "kept aside"] | None = None
    verdict: str | None = None
    compared_with: str | None = None
    overlap: float | None = None
    n_users_before: int | None = None
    n_items_before: int | None = None
    change: float | None = None
    lower: float | None = None
    upper: float | None = None
    cancel_asked_at: datetime | None = None

    @property
    def is_judged(self) -> bool:
        """It is done, and swapped in or kept aside; a plan may be left before that."""
        return self.state == "done" and self.outcome is not None

    @property
    def has_ended(self) -> bool:
        """Nothing more will become of it in this plan."""
        return self.is_judged or self.state in ("failed", "empty")


def every(lake: Lake) -> list[Entry]:
    """All nights of all plans, in no order of plans."""
    pinned = lake.pin(TABLE)
    plans = {pinned.partition(path)["plan_id"] for path in pinned.files()}
    return [entry for plan_id in sorted(plans) for entry in _read(lake, pinned, plan_id)]


def by_plan(lake: Lake) -> dict[str, list[Entry]]:
    """The same by plan, each in its order."""
    found: dict[str, list[Entry]] = {}
    for entry in every(lake):
        found.setdefault(entry.plan_id, []).append(entry)
    return found


def of_plan(lake: Lake, plan_id: str) -> list[Entry]:
    """The nights of one plan, in their order."""
    return _read(lake, lake.pin(TABLE), plan_id)


def _read(lake: Lake, pinned: Pinned, plan_id: str) -> list[Entry]:
    rows = lake.rows(pinned, {"plan_id": plan_id}).to_pylist()
    return sorted((Entry(**row) for row in rows), key=lambda each: each.place)


def write(lake: Lake, entries: Sequence[Entry]) -> None:
    """Lay down a new plan."""
    rows = [asdict(each) for each in entries]
    lake.put(TABLE, {"plan_id": entries[0].plan_id}, rows)


def change(lake: Lake, plan_id: str, how: Change) -> list[Entry]:
    """Change the nights of a plan in one write; returns them as they stand then.

    Where nothing changes nothing is written.
    """
    stands: list[Entry] = []

    def changed(pinned: Pinned) -> pa.Table:
        nonlocal stands
        stands = [how(each) for each in _read(lake, pinned, plan_id)]
        return pa.Table.from_pylist([asdict(each) for each in stands], schema=arrow_schema(TABLE))

    before = of_plan(lake, plan_id)
    if [how(each) for each in before] == before:
        return before
    lake.rewrite(TABLE, {"plan_id": plan_id}, changed)
    return stands


def take(lake: Lake, plan_id: str, ds: date, run_id: str, slot: int) -> Entry | None:
    """Begin a night that waits; None where it does not wait any more."""

    def begun(each: Entry) -> Entry:
        if each.ds != ds or each.state != "waiting" or each.cancel_asked_at is not None:
            return each
        return replace(
            each,
            state="running",
            reason=None,
            attempts=each.attempts + 1,
            run_id=run_id,
            slot=slot,
            started_at=datetime.now(UTC),
            ended_at=None,
        )

    stands = change(lake, plan_id, begun)
    return next((each for each in stands if each.ds == ds and each.run_id == run_id), None)


def end(lake: Lake, entry: Entry, state: State, **facts: Any) -> Entry:
    """End a night that was begun; nothing, if another run has begun it meanwhile."""

    def ended(each: Entry) -> Entry:
        if (each.ds, each.run_id, each.state) != (entry.ds, entry.run_id, "running"):
            return each
        return replace(each, state=state, ended_at=datetime.now(UTC), **facts)

    return next(each for each in change(lake, entry.plan_id, ended) if each.ds == entry.ds)


def facts(lake: Lake, entry: Entry, **known: Any) -> None:
    """Add to what is known of a night that is done."""
    change(
        lake,
        entry.plan_id,
        lambda each: replace(each, **known) if each.ds == entry.ds else each,
    )


def cancels(entries: Sequence[Entry]) -> list[datetime]:
    """When somebody asked to cancel the plan, and nobody has gone on with it since."""
    return sorted({each.cancel_asked_at for each in entries if each.cancel_asked_at is not None})


def ready(lake: Lake, plan_id: str, answered: Collection[datetime]) -> list[Entry]:
    """Before a plan is driven: what a dead run had begun, and what was cancelled, waits again.

    `answered` are the cancels that whoever goes on with it knew of: asked at another time, it stays
    cancelled. Only who drives the plan may call it.
    """

    def waiting(each: Entry) -> Entry:
        if each.cancel_asked_at is not None and each.cancel_asked_at not in answered:
            return each
        if each.state not in ("running", "cancelled"):
            return replace(each, cancel_asked_at=None)
        return replace(each, state="waiting", reason=None, cancel_asked_at=None)

    return change(lake, plan_id, waiting)


def bury(lake: Lake, plan_id: str, run_ids: Collection[str | None]) -> list[Entry]:
    """Of a plan that nobody drove: the nights that these runs had begun wait again; returns them.

    Those that have ended, or that another run has begun since, stay as they are.
    """
    died = "the process that made it died"

    def dead(each: Entry) -> Entry:
        if each.state != "running" or each.run_id not in run_ids:
            return each
        return replace(
            each,
            state="waiting" if each.cancel_asked_at is None else "cancelled",
            reason=died,
            ended_at=datetime.now(UTC),
        )

    stands = change(lake, plan_id, dead)
    return [each for each in stands if each.run_id in run_ids and each.reason == died]


def ask_to_cancel(lake: Lake, plan_id: str, reason: str) -> list[Entry]:
    """Cancel what waits, and ask whoever drives the plan to stop what runs."""
    now = datetime.now(UTC)

    def asked(each: Entry) -> Entry:
        told = replace(each, cancel_asked_at=now)  # each time anew: `ready` has answered the last
        if each.state != "waiting":
            return told
        return replace(told, state="cancelled", reason=reason)

    return change(lake, plan_id, asked)
