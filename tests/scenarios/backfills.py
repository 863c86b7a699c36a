"""Backfills of a small shop, driven in a process of their own, and a poller who looks all the time.

Workers of these tests leave out suites (`leave_out_what_only_reads`), mark when a night really
runs, and fail the nights that they are told to.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tasks.backfill import ledger, workers
from tasks.backfill.driving import Result, drive
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Plan, Request, plan, plans_folder, resume
from tasks.errors import NightrankError, TrainingError
from tasks.lake.connection import connect
from tasks.lake.tables import Lake, scan
from tasks.shop import Shop, open_shop
from tests.disk import on_disk
from tests.scenarios.nights import Place, leave_out_what_only_reads

LISTS = ("serve.recommendations", "serve.shortfalls", "serve.trials")
UNCHECKED = ["tests.scenarios.backfills", "tasks.backfill.judging"]  # what workers import
_work = workers.work


def shop_of(place: Place) -> Shop:
    return open_shop(place.settings, None, place.landing, place.lake)


def running_folder(lake: Path) -> Path:
    """Where a worker keeps a file for each night while it really runs: its process id."""
    return lake.parent / "running"


def unchecked_work(connection: Any, alive: Any, shop: Shop, made: Plan, slot: int) -> None:
    """What a worker does, without suites; nights named in the file `fail` fail."""
    from tasks.backfill import night as module

    patch = pytest.MonkeyPatch()
    leave_out_what_only_reads(patch)
    run_night, folder = module.run_night, running_folder(on_disk(shop.settings.paths.lake))
    folder.mkdir(exist_ok=True)

    def marked(shop: Shop, made: Plan, ds: date, slot: int, run_id: str) -> Any:
        mark = folder / str(ds)
        mark.write_text(str(os.getpid()))
        try:
            if str(ds) in (folder.parent / "fail").read_text().split():
                raise TrainingError("on purpose", where="here", unchanged="all", fix="do not")
            return run_night(shop, made, ds, slot, run_id)
        finally:
            mark.unlink()

    patch.setattr(module, "run_night", marked)
    _work(connection, alive, shop, made, slot)


def drive_unchecked(place: Place, request: Request | str) -> None:
    """Drive a plan in this process, by its request or its name; its workers run no suite."""
    with _unchecked():
        result = _drive(place, request)
    os._exit(0 if result.stopped is None else 130)


@contextmanager
def driven(place: Place, request: Request | str) -> Iterator[Future[Result]]:
    """The same in a thread while the block runs, and until it has ended.

    Its workers come from the process that all of a test's come from, which has its imports done.
    """
    with _unchecked(), ThreadPoolExecutor(1) as pool:
        yield pool.submit(_drive, place, request)


@contextmanager
def _unchecked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "work", unchecked_work)
        patch.setattr(workers, "PRELOADED", UNCHECKED)
        yield


def _drive(place: Place, request: Request | str) -> Result:
    shop = shop_of(place)
    planned = resume(shop, request) if isinstance(request, str) else plan(shop, request)
    return drive(shop, planned)


def fail_on_purpose(place: Place, *days: date) -> None:
    """From now on these nights fail, and no others."""
    (place.root / "fail").write_text(" ".join(map(str, days)))


def newest_plan(lake: Path) -> list[Entry]:
    """The nights of the newest plan."""
    entries = ledger.every(Lake(lake))
    last = max(each.planned_at for each in entries)
    return sorted((e for e in entries if e.planned_at == last), key=lambda each: each.ds)


@dataclass
class Poller:
    """Looks at the plans' table again and again, and notes every lie."""

    lake: Path
    most_active: int
    lies: list[str] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)
    n_looks: int = 0

    def look(self) -> None:
        """One look: what really runs stands between two readings of the table."""
        before, really, after = self._table(), self._really(), self._table()
        for ds in really:
            told = [each[ds].state for each in (before, after) if ds in each]
            n_begun = [each[ds].attempts if ds in each else 0 for each in (before, after)]
            # the readings are no one moment: it may begin between them, and end or be stopped too
            if "running" not in told and n_begun[0] == n_begun[1]:
                self.lies.append(f"{ds} runs and the table says {told}")
        active = sum(each.state == "running" for each in after.values())
        if max(active, len(really)) > self.most_active:
            self.lies.append(f"{active} are said to run, {len(really)} do")
        self.seen |= {(ds, each.state) for ds, each in after.items()}
        self.n_looks += 1

    def _table(self) -> dict[str, Entry]:
        entries = ledger.every(Lake(self.lake))
        last = max((each.planned_at for each in entries), default=None)
        whole = _whole_releases(self.lake)
        for each in entries:
            if each.state == "done" and each.release_id not in whole:
                self.lies.append(f"{each.ds} is done and its release is not there")
        return {str(each.ds): each for each in entries if each.planned_at == last}

    def _really(self) -> list[str]:
        found = []
        folder = running_folder(self.lake)
        for mark in folder.iterdir() if folder.exists() else []:
            try:
                stat = Path(f"/proc/{int(mark.read_text())}/stat").read_text()
            except (OSError, ValueError):
                continue  # killed in the middle, or ended now
            if mark.exists() and stat.rpartition(")")[2].split()[0] not in "ZX":
                found.append(mark.name)
        return found


def _whole_releases(lake: Path) -> set[str]:
    pinned = Lake(lake).pin("serve.recommendations")
    return {pinned.partition(path)["release_id"] for path in pinned.files()}


@contextmanager
def polled(place: Place, most_active: int, every: float = 0.05) -> Iterator[Poller]:
    """Poll in a thread while the block runs, with so many seconds between two looks."""
    poller, is_over = Poller(place.lake, most_active), threading.Event()

    def poll() -> None:
        while not is_over.wait(every):
            poller.look()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield poller
    finally:
        is_over.set()
        thread.join()


def wait_for(place: Place, *states: str, seconds: float = 300) -> list[Entry]:
    """Wait until a night of the newest plan is in one of the states."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            entries = newest_plan(place.lake)
        except (ValueError, NightrankError):
            entries = []
        if any(each.state in states for each in entries):
            return entries
        time.sleep(0.1)
    raise AssertionError(f"no night was {states} in {seconds} seconds")


def end_softly(process: Any) -> int:
    """SIGTERM, and the exit code."""
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    code: int = process.exitcode
    return code


def lists(lake: Path, ds: date, release: str) -> dict[str, list[Any]]:
    """Rows of a release, in order, its name left out."""
    found = {}
    for name in LISTS:
        pinned = Lake(lake).pin(name)
        files = pinned.files(lambda each: (each["ds"], each["release_id"]) == (str(ds), release))
        columns = ", ".join(c for c in pinned.table.column_names if c != "release_id")
        with connect() as con:
            query = f"SELECT {columns} FROM ({scan(pinned.table, files)}) ORDER BY ALL"
            found[name] = con.sql(query).fetchall()
    return found


def left_behind(lake: Path) -> list[str]:
    """Folders of plans."""
    folder = plans_folder(Lake(lake))
    return [each.name for each in folder.iterdir()] if folder.exists() else []
