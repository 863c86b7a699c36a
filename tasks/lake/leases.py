"""Leases: one of so many places under a name, held by a run until it gives it back or is dead.

A lease is a row of `ops.leases`, taken, renewed and given back through the version that was read,
so it works wherever tables do. A run that lives says so four times in the time after which it
counts as dead; one whose process is gone from this machine counts as dead at once.

Clocks: a holder writes its own time, others read theirs. Clocks of two machines may differ by
CLOCKS_APART. A holder measures by a clock that nobody sets, and stops trusting its lease
(`ensure`) before another may take it. So do others on its machine, as long as its process lives:
a clock that is set ahead there takes nobody's place. Where that of another machine is set further
ahead than CLOCKS_APART, it takes the place of one that lives: `ensure` looks whether it is there.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import duckdb
import pyarrow as pa

from tasks.errors import LeaseError, StorageError
from tasks.lake.tables import Lake, Pinned, arrow_schema
from tasks.processes import Process, this_process

TABLE = "ops.leases"
LEASE_SECONDS = 100.0  # without a sign of life; with CLOCKS_APART, less than two minutes
CLOCKS_APART = 15.0  # seconds by which the clocks of two machines may differ
RENEW_SECONDS = LEASE_SECONDS / 4
POLL_SECONDS = 0.5  # between two looks of a run that waits


@dataclass(frozen=True)
class Lease:
    """One row of ops.leases: `run_id` holds a place under `name`, and does `what`.

    `process` is the mark of its process and, after it, when it last said that it lives, in seconds
    since its machine's boot; empty where its machine does not tell.
    """

    name: str
    run_id: str
    what: str
    host: str
    pid: int
    process: str
    taken_at: datetime
    renewed_at: datetime
    expires_at: datetime

    def is_dead(self, now: datetime | None = None) -> bool:
        """Whether its holder is gone: its process surely, or its time is over."""
        *mark, renewed = self.process.rsplit(" ", 1)
        holder = Process(self.host, self.pid, "".join(mark))
        if holder.is_surely_gone():
            return True
        if holder.is_surely_here():
            return _clock() - float(renewed) > LEASE_SECONDS + CLOCKS_APART
        return (now or datetime.now(UTC)) > self.expires_at + timedelta(seconds=CLOCKS_APART)

    def __str__(self) -> str:
        return (
            f"{self.what}, run {self.run_id}, process {self.pid} on {self.host} "
            f"since {self.taken_at:%Y-%m-%d %H:%M:%S} UTC"
        )


Buried = Callable[[Lease], None]


def _forgotten(_lease: Lease) -> None:
    """What is done about a dead holder where nobody says more: nothing."""


def holders(lake: Lake, name: str | None = None) -> list[Lease]:
    """All who hold a place under a name (None: any), the dead too, longest first."""
    pinned = lake.pin(TABLE)
    rows = lake.rows(pinned, {} if name is None else {"name": name}).to_pylist()
    return sorted((Lease(**row) for row in rows), key=lambda each: (each.taken_at, each.run_id))


@dataclass(frozen=True)
class Terms:
    """For what and how a place is asked for: one of `places` under its name.

    A run waits at most `wait_seconds` (None: as long as the holders live) and tells `on_wait` once
    whom it waits for. `on_dead` is told of each dead holder before it loses its place, and again
    where this process is killed in between. `on_lost` is told why, from another thread, as soon as
    a place that was taken may be another's.
    """

    what: str
    places: int = 1
    wait_seconds: float | None = None
    on_wait: Callable[[list[Lease]], None] | None = None
    on_dead: Buried = _forgotten
    on_lost: Callable[[str], None] | None = None


def take(lake: Lake, name: str, run_id: str, terms: Terms) -> list[Lease]:
    """Take a place and keep it alive until `give_back`; returns the living that hold all places.

    Empty: it is taken. Does not wait. Safe to call again for a place that is held.
    """
    living: list[Lease] = []
    asked_at, mine = _clock(), _new(name, run_id, terms.what)

    def with_mine(pinned: Pinned) -> pa.Table:
        nonlocal living
        others = [each for each in _rows(lake, pinned, name) if each.run_id != run_id]
        dead = [each for each in others if each.is_dead()]
        living = [each for each in others if each not in dead]
        if len(living) >= terms.places:
            raise _FullError
        for each in dead:
            terms.on_dead(each)
        return _table([*living, mine])

    try:
        lake.rewrite(TABLE, {"name": name}, with_mine)
    except _FullError:
        return living
    _keep_alive(lake, mine, asked_at, terms)
    return []


def give_back(lake: Lake, name: str, run_id: str) -> None:
    """Give a place back; nothing happens where it is not held."""
    renewal = _renewals.pop(_key(lake, name, run_id), None)
    if renewal is not None:
        renewal.stop()
    _without(lake, name, lambda each: each.run_id == run_id)


def ensure(lake: Lake, name: str, run_id: str) -> None:
    """Raise LeaseError unless this process holds the place, and renewed it in time."""
    renewal = _renewals.get(_key(lake, name, run_id))
    lost = "it is not held" if renewal is None else renewal.lost() or renewal.missed()
    if lost:
        raise LeaseError(
            f"the lease {name!r} of run {run_id} was lost: {lost}",
            where=str(lake.path(TABLE)),
            unchanged="what was written stands; another run may do the same work now",
            fix="run the command again; it waits for the other or finds nothing to do",
        )


def why_lost(lake: Lake, name: str, run_id: str) -> str:
    """Why a place that this process took may be another's now; empty while it is ours.

    Empty too for a place that was not taken, or was given back. Reads nothing.
    """
    renewal = _renewals.get(_key(lake, name, run_id))
    return "" if renewal is None else renewal.lost()


def bury(lake: Lake, prefix: str, on_dead: Buried) -> list[Lease]:
    """Take the places of all dead holders whose names begin so; `on_dead` is told of each before.

    Killed in between, it is told again: what it does must be the same twice.
    """
    dead = [each for each in holders(lake) if each.name.startswith(prefix) and each.is_dead()]
    for each in dead:
        on_dead(each)
        _without(lake, each.name, partial(_is_same, each))
    return dead


@contextmanager
def leased(lake: Lake, name: str, run_id: str, terms: Terms) -> Iterator[None]:
    """Hold a place under a name in this block.

    Raises LeaseError where it was waited for in vain, and at the end where it was lost meanwhile.
    """
    wait(lake, name, run_id, terms)
    try:
        yield
        ensure(lake, name, run_id)
    finally:
        give_back(lake, name, run_id)


def wait(lake: Lake, name: str, run_id: str, terms: Terms) -> bool:
    """Take a place as soon as there is one; whether it had to wait. Raises as `leased` does."""
    until = None if terms.wait_seconds is None else time.monotonic() + terms.wait_seconds
    has_waited = False
    while living := take(lake, name, run_id, terms):
        if until is not None and time.monotonic() >= until:
            raise _busy(lake, name, living)
        if terms.on_wait is not None and not has_waited:
            terms.on_wait(living)
        has_waited = True
        time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))
    return has_waited


class _FullError(Exception):
    """All places are taken; nothing is to be written."""


class _GoneError(Exception):
    """The row to renew or to remove is not there; nothing is to be written."""


_TAKEN = "another run took it, for this one had not been heard of in time"


class _Renewal:
    """Says from a thread of its own that a lease lives."""

    def __init__(self, lake: Lake, lease: Lease, renewed_at: float, terms: Terms) -> None:
        self.lake, self.lease, self.renewed_at, self.terms = lake, lease, renewed_at, terms
        self.taken_by_another = False
        self.seen: pa.Table | None = None  # the table's files as the lease was last seen to be ours
        self.is_told = False
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"lease {lease.name}", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Say it no more; a renewal that has begun is waited for."""
        self.is_over.set()
        self.thread.join()

    def lost(self) -> str:
        """Why the lease may be another's now; empty while it is ours."""
        silent = _clock() - self.renewed_at
        if self.taken_by_another:
            return _TAKEN
        return f"it was not renewed for {silent:.0f} seconds" if silent > LEASE_SECONDS else ""

    def missed(self) -> str:
        """The same where the next renewal would find it; this looks now."""
        pinned = self.lake.pin(TABLE)
        if pinned.actions is self.seen:  # the same object while the log is the same
            return ""
        rows = _rows(self.lake, pinned, self.lease.name)
        if not any(_is_same(each, self.lease) for each in rows):
            return _TAKEN
        self.seen = pinned.actions
        return ""

    def _run(self) -> None:
        pause = RENEW_SECONDS
        while not self.is_over.wait(pause):
            asked_at = _clock()
            try:
                _renew(self.lake, self.lease)
            except _GoneError:
                self.taken_by_another = True
                self._tell()
                return
            except (StorageError, duckdb.Error, OSError):
                # It can pass, as want of memory does; until it has, the lease runs out.
                pause = RENEW_SECONDS / 5
                self._tell()
            else:
                self.renewed_at, pause = asked_at, RENEW_SECONDS

    def _tell(self) -> None:
        """Say once that it is lost, if it is."""
        lost = self.lost()
        if lost and not self.is_told and self.terms.on_lost is not None:
            self.is_told = True
            self.terms.on_lost(lost)


_renewals: dict[tuple[str, str, str], _Renewal] = {}


def _key(lake: Lake, name: str, run_id: str) -> tuple[str, str, str]:
    return str(lake.root.absolute()), name, run_id


def _keep_alive(lake: Lake, lease: Lease, asked_at: float, terms: Terms) -> None:
    before = _renewals.pop(_key(lake, lease.name, lease.run_id), None)
    if before is not None:
        before.stop()
    _renewals[_key(lake, lease.name, lease.run_id)] = _Renewal(lake, lease, asked_at, terms)


def _renew(lake: Lake, lease: Lease) -> None:
    def renewed(pinned: Pinned) -> pa.Table:
        rows = _rows(lake, pinned, lease.name)
        if not any(_is_same(each, lease) for each in rows):
            raise _GoneError
        return _table([_alive_again(each) if _is_same(each, lease) else each for each in rows])

    lake.rewrite(TABLE, {"name": lease.name}, renewed)


def _without(lake: Lake, name: str, is_out: Callable[[Lease], bool]) -> None:
    def kept(pinned: Pinned) -> pa.Table:
        rows = _rows(lake, pinned, name)
        left = [each for each in rows if not is_out(each)]
        if len(left) == len(rows):
            raise _GoneError
        return _table(left)

    try:
        lake.rewrite(TABLE, {"name": name}, kept)
    except _GoneError:
        return


def _is_same(one: Lease, other: Lease) -> bool:
    """Whether it is one taking of one place, however often it was renewed."""
    return (one.name, one.run_id, one.taken_at) == (other.name, other.run_id, other.taken_at)


def _new(name: str, run_id: str, what: str) -> Lease:
    now, process = datetime.now(UTC), this_process()
    over = now + timedelta(seconds=LEASE_SECONDS)
    mark = _with_clock(process.mark)
    return Lease(name, run_id, what, process.host, process.pid, mark, now, now, over)


def _with_clock(mark: str) -> str:
    return f"{mark} {_clock():.1f}" if mark else ""


def _alive_again(lease: Lease) -> Lease:
    now = datetime.now(UTC)
    return replace(
        lease,
        process=_with_clock(this_process().mark),
        renewed_at=now,
        expires_at=now + timedelta(seconds=LEASE_SECONDS),
    )


def _rows(lake: Lake, pinned: Pinned, name: str) -> list[Lease]:
    return [Lease(**row) for row in lake.rows(pinned, {"name": name}).to_pylist()]


def _table(leases: list[Lease]) -> pa.Table:
    return pa.Table.from_pylist([asdict(each) for each in leases], schema=arrow_schema(TABLE))


def _clock() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _busy(lake: Lake, name: str, living: list[Lease]) -> LeaseError:
    return LeaseError(
        f"{name} is held by {'; '.join(map(str, living))}",
        where=str(lake.path(TABLE)),
        unchanged="nothing was written",
        fix="wait until it is done, or stop that process; then run the command again",
    )
