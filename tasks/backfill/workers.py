"""Processes that make nights: each lives for many, so that what it imports is paid for once.

A process and not a thread, for a night holds state of DuckDB and torch, and can be killed alone. It
ends with the one that started it, at once and in the middle of a night.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import date
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any, Protocol

from tasks.backfill.deaths import known_name
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Plan
from tasks.errors import NightrankError, UnforeseenError, as_ours
from tasks.processes import be_known_as
from tasks.shop import Shop

_METHODS = multiprocessing.get_all_start_methods()
_HOW = "forkserver" if "forkserver" in _METHODS else "spawn"
_APART: Any = multiprocessing.get_context(_HOW)
PRELOADED = ["tasks.backfill.night", "tasks.backfill.judging", "great_expectations"]
Moved = Callable[[str], None]  # told the stage that has begun


@dataclass(frozen=True)
class NightJob:
    """Make a night."""

    ds: date
    run_id: str


@dataclass(frozen=True)
class JudgeJob:
    """Judge a night that is done."""

    entry: Entry


class GoneError(Exception):
    """The process of a worker ended before its work did; told is how."""


class Works(Protocol):
    """What does a job, wherever it runs."""

    def __call__(self, job: NightJob | JudgeJob, moved: Moved) -> Any:
        """Do it; returns what it made. Raises what stopped it."""


@dataclass
class Worker:
    """One process with a folder of its own."""

    shop: Shop
    plan: Plan
    slot: int
    process: Any = None
    connection: Connection | None = None
    alive: Connection | None = None
    over: Future[None] = field(default_factory=Future)  # done once it was killed
    changing: Lock = field(default_factory=Lock)  # held for moments: nobody waits for a start

    def start(self) -> None:
        """Start the process, if it does not run. Raises GoneError once the worker was killed.

        Also while it starts, which takes a minute where the process that all of them come from
        has its imports still to do.
        """
        if self.process is None or not self.process.is_alive():
            started: Future[None] = Future()
            Thread(target=self._start, args=(started,), daemon=True).start()
            wait((started, self.over), return_when=FIRST_COMPLETED)
            if started.done():
                started.result()
        if self.over.done():
            raise GoneError("it was stopped")

    def _start(self, started: Future[None]) -> None:
        try:
            if _HOW == "forkserver":
                _APART.set_forkserver_preload(PRELOADED)
            connection, theirs = _APART.Pipe()
            ends_with_us, alive = _APART.Pipe(duplex=False)
            process = _APART.Process(
                target=work,
                args=(theirs, ends_with_us, self.shop, self.plan, self.slot),
                name=f"backfill {self.plan.plan_id} slot {self.slot}",
                daemon=True,
            )
            process.start()
        except Exception as error:
            started.set_exception(error)
            return
        theirs.close()
        ends_with_us.close()
        with self.changing:
            self.process, self.connection, self.alive = process, connection, alive
            if self.over.done():
                self.process.kill()
        started.set_result(None)

    def __call__(self, job: NightJob | JudgeJob, moved: Moved) -> Any:
        """Let the process do a job; raises its error, or GoneError where it died."""
        self.start()
        kind, told = self._asked(job, moved)
        if kind == "failed":
            raise told
        return told

    def _asked(self, job: NightJob | JudgeJob, moved: Moved) -> tuple[str, Any]:
        """How a job ended, and with what."""
        assert self.connection is not None
        try:
            self.connection.send(job)
            while True:
                kind, told = self.connection.recv()
                if kind != "stage":
                    return kind, told
                moved(told)
        except (EOFError, OSError) as error:
            raise GoneError(self._how_it_ended()) from error

    def _how_it_ended(self) -> str:
        self.process.join(10)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"its process was ended by signal {-code} ({signal.Signals(-code).name})"
        return f"its process ended with code {code}"

    def kill(self) -> None:
        """End the process now, for good; what it was at can be done again."""
        with self.changing:
            if not self.over.done():
                self.over.set_result(None)
            if self.process is not None:
                self.process.kill()

    def close(self) -> None:
        """Let the process end, and wait for it."""
        if self.connection is not None:
            self.connection.close()
        if self.process is not None:
            self.process.join(10)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        if self.alive is not None:
            self.alive.close()


def died(ds: date, gone: GoneError) -> NightrankError:
    """What is said of a night whose process was killed."""
    return UnforeseenError(
        f"the night of {ds} did not end: {gone}",
        where="a process of the backfill",
        unchanged="its release did not cross over, or is whole; what is served stays served",
        fix="if memory ran out, lower --max-active; then nightrank backfill with --failed",
    )


class _Telling:
    """Watches the stages of a night and hands on which has begun."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def began(self, stage: str) -> None:
        """Hand it on."""
        self.connection.send(("stage", stage))

    def moved(self, done: float, total: float, note: str) -> None:
        """The stage is enough to be told."""

    def ended(self, stage: str, is_done: bool, note: str) -> None:
        """The next one tells."""

    def said(self, text: str) -> None:
        """A line, told as a stage is."""
        self.connection.send(("stage", text))


def work(connection: Connection, alive: Connection, shop: Shop, plan: Plan, slot: int) -> None:
    """What the process of a worker does: one job after the other, until nobody gives it any."""
    from tasks.progress import watched_by

    # Locks that libraries make here are then gone with this process, also if it is killed.
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: whoever started us decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Named first: who looks for what a dead driver left finds this, or this finds the driver dead.
    be_known_as(known_name(shop.lake, plan.plan_id))
    if alive.poll():
        return
    Thread(target=_end_with, args=(alive,), daemon=True).start()
    with watched_by(_Telling(connection)):
        while True:
            try:
                job = connection.recv()
            except (EOFError, OSError):
                return
            try:
                told = ("done", _done(shop, plan, slot, job))
            except Exception as error:
                told = ("failed", as_ours(error))
            connection.send(told)


def _done(shop: Shop, plan: Plan, slot: int, job: NightJob | JudgeJob) -> Any:
    from tasks.backfill.judging import judge
    from tasks.backfill.night import run_night

    if isinstance(job, JudgeJob):
        return judge(shop, plan, job.entry)
    return run_night(shop, plan, job.ds, slot, job.run_id)


def _end_with(alive: Connection) -> None:
    """End this process when the one that started it has: only that holds the other end."""
    try:
        alive.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
