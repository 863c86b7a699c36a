"""Whole nights of a small sample shop, run as plain functions or in processes that get killed."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from expectations.catalogue import stored
from flows.nightly import nightly
from tasks import checks, night, places
from tasks.lake.connection import connect
from tasks.lake.tables import Lake, scan
from tasks.night import Outcome, refresh
from tasks.progress import watched_by
from tasks.records import CheckResult
from tasks.shop import open_shop
from tasks.validate import validate

START = date(2026, 1, 5)
QUICK = """
[train.configs.bpr]
epochs = 4
n_factors = 8
[gate]
max_segment_loss = 1.0
max_coverage_loss = 1.0
max_top_item_rise = 1.0
margin = 0.99
"""
SAMPLE_SHOP = Path(__file__).parents[2] / "deployments" / "sources" / "sample_shop.toml"
CLOCKS = {
    "ingested_at",
    "first_seen_at",
    "moved_at",
    "built_at",
    "checked_at",
    "started_at",
    "ended_at",
    "decided_at",
    "kept_at",
    "taken_at",
    "renewed_at",
    "expires_at",
}
RUNS = {"run_id", "table_version", "seconds", "cpu_seconds", "peak_mb", "pins", "modified_at"}
RUN_LOGS = ("ops.stages", "ops.nights", "ops.checks")
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["flows.nightly", "tests.scenarios.nights"])  # few run suites


def day(number: int) -> date:
    """The date of the sample shop's day, the first is 0."""
    return START + timedelta(days=number)


@dataclass(frozen=True)
class Place:
    """A shop's folders and its settings file."""

    root: Path

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"

    def run(self, ds: date | None = None) -> Outcome:
        """Run a night as plain functions."""
        return nightly.fn(ds, settings=self.settings, landing=self.landing, lake=self.lake)

    def refresh(self) -> None:
        """Make the file of views, as `nightrank report` does."""
        refresh(open_shop(self.settings, None, self.landing, self.lake))

    def ask(self, question: str) -> list[Any]:
        """Ask the file of views, as a plain client does."""
        with connect(self.lake / "warehouse.duckdb", read_only=True) as con:
            return con.sql(question).fetchall()

    def copy(self, root: Path) -> "Place":
        """The same shop elsewhere, its landing shared; the views of the copy are made anew."""
        root.mkdir(parents=True)
        other = Place(root)
        other.landing.symlink_to(self.landing.resolve())
        shutil.copy(self.settings, other.settings)
        if self.lake.exists():
            shutil.copytree(self.lake, other.lake)
        return other


def found(place: Place, number: int, n_days: int, sample: Path, extra: str = "") -> Place:
    """Lay out the sample's first days, `number` to `n_days`, in the shop's landing folder."""
    for dataset in ("events", "impressions", "items", "users"):
        for each in range(number, n_days):
            name = f"{dataset}/dt={day(each)}"
            shutil.copytree(sample / "landing" / name, place.landing / name)
    place.root.mkdir(parents=True, exist_ok=True)
    mapping = place.root / "mapping.toml"
    mapping.write_text(SAMPLE_SHOP.read_text().replace("holdout_days = 7", "holdout_days = 3"))
    place.settings.write_text(f'mapping = "{mapping}"\n{QUICK}{extra}')
    return place


def with_seventh_day(before: Place, sample: Path, root: Path) -> Place:
    """A copy of a shop of the sample's first six days, with a landing of its own and one more."""
    place = before.copy(root)
    place.landing.unlink()
    return found(place, 0, 7, sample)


def contents(lake: places.Place) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows, in order, without clocks; logs of runs left out: a rerun adds to them."""
    return {name: rows(lake, name) for name in stored() if name not in RUN_LOGS}


def rows(lake: places.Place, name: str) -> list[tuple[Any, ...]]:
    """One table's rows, in order, without clocks and run ids."""
    pinned = Lake(lake).pin(name)
    kept = [c for c in pinned.table.column_names if c not in CLOCKS | RUNS]
    if name == "ops.builds":
        kept.remove("inputs")  # hashes of file names, which differ between equal writes
    with connect() as con:
        query = f"SELECT {', '.join(kept)} FROM ({scan(pinned.table, pinned.files())}) ORDER BY ALL"
        return con.sql(query).fetchall()


class Runs(Protocol):
    """A shop whose nights can be run."""

    def run(self, ds: date | None = None) -> Outcome:
        """Run a night as plain functions."""


@dataclass(frozen=True)
class Moment:
    """When a night is killed: at a write of a stage, or when the stage says it has moved."""

    stage: str
    write: int = 1
    when: str = "after"

    def __str__(self) -> str:
        return f"{self.stage}, {self.when} write {self.write}"


def _is_of_the_night() -> bool:
    """Whether it is the night that writes: a long one renews its lease from another thread."""
    return threading.current_thread() is threading.main_thread()


class _Killer:
    """Watches a night and kills the process at its moment."""

    def __init__(self, moment: Moment) -> None:
        self.moment, self.stage, self.n_writes = moment, "begin", 0

    def began(self, stage: str) -> None:
        self.stage, self.n_writes = stage, 0

    def moved(self, done: float, total: float, note: str) -> None:
        if self.moment.when == "moved" and self.stage == self.moment.stage:
            os.kill(os.getpid(), signal.SIGKILL)

    def ended(self, stage: str, is_done: bool, note: str) -> None:
        self.stage, self.n_writes = f"after {stage}", 0

    def said(self, text: str) -> None:
        pass

    def watch(self, replace: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            if not _is_of_the_night():
                return replace(*args)
            self.n_writes += 1
            self._kill("before")
            written = replace(*args)
            self._kill("after")
            return written

        return watched

    def _kill(self, when: str) -> None:
        if (self.stage, self.n_writes, when) == (
            self.moment.stage,
            self.moment.write,
            self.moment.when,
        ):
            os.kill(os.getpid(), signal.SIGKILL)


def _run_and_die(place: Runs, ds: date | None, moment: Moment, is_checked: bool) -> None:
    _check(is_checked)
    killer = _Killer(moment)
    Lake.replace = killer.watch(Lake.replace)  # type: ignore[method-assign]
    with watched_by(killer):
        place.run(ds)


def _run(place: Runs, ds: date | None, is_checked: bool) -> None:
    _check(is_checked)
    place.run(ds)


def _check(is_checked: bool) -> None:
    if not is_checked:
        leave_out_what_only_reads(pytest.MonkeyPatch())


def leave_out_what_only_reads(patch: pytest.MonkeyPatch, *but: str) -> None:
    """For nights that ask for something else: suites and pages are half of a small one.

    The suites of the tables named in `but` stay.
    """

    def validate_some(database: Path, tables: Sequence[str], **more: Any) -> list[CheckResult]:
        kept = [table for table in tables if table in but]
        return validate(database, kept, **more) if kept else []

    patch.setattr(checks, "validate", validate_some)
    if not but:
        patch.setattr(checks, "write_views", lambda *_: None)
    patch.setattr(night, "write_page", lambda shop, ds: Path(f"{ds}.html"))


class _Counter(_Killer):
    """Counts the writes of every stage instead of killing."""

    def __init__(self) -> None:
        super().__init__(Moment("never"))
        self.counts: Counter[str] = Counter()

    def watch(self, replace: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            self.counts[self.stage] += _is_of_the_night()
            return replace(*args)

        return watched


def count_writes(place: Place) -> dict[str, int]:
    """Run a night and count the writes to the lake in each of its stages."""
    counter, replace = _Counter(), Lake.replace
    with pytest.MonkeyPatch.context() as patch, watched_by(counter):
        patch.setattr(Lake, "replace", counter.watch(replace))
        place.run()
    return dict(counter.counts)


def run_and_die(place: Runs, ds: date | None, moment: Moment, *, is_checked: bool = True) -> int:
    """Run a night in a process of its own that is killed at a moment; returns its exit code."""
    return in_process(_run_and_die, place, ds, moment, is_checked)


def run_apart(place: Runs, ds: date | None = None, *, is_checked: bool = True) -> int:
    """Run a night in a process of its own; returns its exit code."""
    return in_process(_run, place, ds, is_checked)


def in_process(work: Callable[..., None], *args: Any) -> int:
    """Do some work in a process that starts clean but has its imports done."""
    process = start(work, *args)
    process.join()
    assert process.exitcode is not None
    return int(process.exitcode)


def start(work: Callable[..., None], *args: Any) -> Any:
    """The same, without waiting for it."""
    process = _PROCESSES.Process(target=_as_here, args=(dict(os.environ), work, *args))
    process.start()
    return process


def _as_here(environment: dict[str, str], work: Callable[..., None], *args: Any) -> None:
    """The process it comes of may be older than what stands in the environment here."""
    os.environ.clear()
    os.environ.update(environment)
    work(*args)


def barrier(n_processes: int) -> Any:
    """Where so many processes that are started wait for each other."""
    return _PROCESSES.Barrier(n_processes)


def semaphore(n_places: int) -> Any:
    """What so many processes that are started may hold at once."""
    return _PROCESSES.Semaphore(n_places)


def event() -> Any:
    """What processes that are started wait for or look at."""
    return _PROCESSES.Event()
