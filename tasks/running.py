"""Which nights run now, one run for a date at a time; and which died, each noted once."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa

from tasks.errors import StorageError
from tasks.lake.leases import Lease, Terms, bury, ensure, give_back, holders, wait, why_lost
from tasks.lake.session import session
from tasks.lake.tables import Lake, Pinned, arrow_schema
from tasks.progress import watcher
from tasks.shop import Shop

_NIGHT = "night "


def hold_date(shop: Shop, ds: date, run_id: str) -> bool:
    """Let nobody else run the night of `ds` until `leave`; whether another run was waited for.

    A run that died is noted and holds nobody up; one that lives is waited for.
    """
    said = watcher().said  # of this thread: a loss is noticed by another

    def warn(why: str) -> None:
        said(f"warning: the lease of the night of {ds} was lost: {why}; this run will stop")

    terms = Terms(
        f"night of {ds}",
        on_wait=_tell,
        on_dead=lambda dead: _note_death(shop, dead),
        on_lost=warn,
    )
    return wait(shop.lake, f"{_NIGHT}{ds}", run_id, terms)


def ensure_date(shop: Shop, ds: date, run_id: str) -> None:
    """Raise LeaseError unless nobody else can have begun the night of `ds`."""
    ensure(shop.lake, f"{_NIGHT}{ds}", run_id)


def why_date_lost(shop: Shop, ds: date, run_id: str) -> str:
    """Why another run may have begun the night of `ds`; empty where this one never held it."""
    return why_lost(shop.lake, f"{_NIGHT}{ds}", run_id)


def leave(shop: Shop, run_id: str, *dates: date) -> None:
    """Let others run the nights of these dates; safe to call again."""
    for ds in dates:
        # How the night ended is what matters. What could not be given back is not renewed either,
        # and counts as dead when this process is gone or after two minutes.
        with suppress(StorageError):
            give_back(shop.lake, f"{_NIGHT}{ds}", run_id)


def running(lake: Lake) -> list[tuple[date, Lease]]:
    """The dates whose nights run now and who runs them, longest first."""
    held = holders(replace(lake, only_read=True))
    found = [each for each in held if each.name.startswith(_NIGHT) and not each.is_dead()]
    return [(_date(each), each) for each in found]


def _date(lease: Lease) -> date:
    return date.fromisoformat(lease.name.removeprefix(_NIGHT))


def note_deaths(shop: Shop) -> list[Lease]:
    """Note the runs that died and let go what they held; the ones that were found now.

    Nothing is written where none did, not even an empty table.
    """
    looked_at = holders(replace(shop.lake, only_read=True))
    if not any(each.is_dead() for each in looked_at):
        return []
    return bury(shop.lake, _NIGHT, lambda dead: _note_death(shop, dead))


def note_end(shop: Shop, row: Mapping[str, object], ds: date) -> None:
    """Note how a run ended; one that was taken for dead and came back takes its row's place."""

    def with_row(pinned: Pinned) -> pa.Table:
        others = [each for each in _noted(shop, pinned, ds) if each["run_id"] != row["run_id"]]
        return pa.Table.from_pylist([*others, row], schema=arrow_schema("ops.nights"))

    shop.lake.rewrite("ops.nights", {"ds": ds}, with_row)


def _noted(shop: Shop, pinned: Pinned, ds: date) -> list[dict[str, object]]:
    return list(shop.lake.rows(pinned, {"ds": ds}).to_pylist())


def _tell(living: list[Lease]) -> None:
    watcher().said(f"waiting for the {'; '.join(map(str, living))}")


def _note_death(shop: Shop, dead: Lease) -> None:
    """Note a run that died, unless it ended well and died only before it let its date go."""
    if _is_noted(shop, dead.run_id):
        return
    ds = _date(dead)
    reason = (
        f"process {dead.pid} on {dead.host} is gone; last heard of at "
        f"{dead.renewed_at:%Y-%m-%d %H:%M:%S} UTC, found so at {datetime.now(UTC):%H:%M:%S}"
    )
    row = {
        "run_id": dead.run_id,
        "outcome": "died",
        "reason": reason,
        "release_id": None,
        "started_at": dead.taken_at,
        "ended_at": max(dead.renewed_at, dead.taken_at),
        "ds": ds,
    }

    def with_row(pinned: Pinned) -> pa.Table:
        old = _noted(shop, pinned, ds)
        is_new = all(each["run_id"] != dead.run_id for each in old)  # nobody noted it meanwhile
        return pa.Table.from_pylist([*old, *[row] * is_new], schema=arrow_schema("ops.nights"))

    shop.lake.rewrite("ops.nights", {"ds": ds}, with_row)


def _is_noted(shop: Shop, run_id: str) -> bool:
    with session(shop.lake, shop.settings.compute) as s:
        s.read("ops.nights")
        found = s.rows("SELECT count(*) FROM ops.nights WHERE run_id = $run_id", {"run_id": run_id})
    return bool(found[0][0])
