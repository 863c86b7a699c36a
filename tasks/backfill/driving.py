"""Drive a plan: nights side by side, each begun as soon as one before it has ended.

Whoever drives holds a lease on the plan; each night that runs holds one of the places that all
plans of the lake share. Waiting nights, running ones and those that ended stand in ops.backfills as
they are. Told to stop, by a signal or through that table, it ends the processes of its nights: what
they were at can be done again.
"""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from queue import SimpleQueue
from types import FrameType
from typing import Any

import duckdb

from tasks.backfill import ledger
from tasks.backfill.board import Board, board
from tasks.backfill.deaths import bury, drivers, end_orphans, look, plan_lease
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Plan, Planned, plans_folder, read, unknown, with_models
from tasks.backfill.workers import GoneError, JudgeJob, NightJob, Worker, died
from tasks.errors import BackfillError, LeaseError, NightrankError, as_ours
from tasks.lake import leases
from tasks.lake.tables import Lake
from tasks.night import new_run_id, refresh
from tasks.places import remove
from tasks.processes import Process
from tasks.shop import Shop

PLACES = "backfill"  # the lease that nights of all plans share
LOOK_SECONDS = 0.5  # between two looks for somebody who asks to stop
SWEPT_SECONDS = 5.0  # in which somebody who removes the folder of a plan is done with it
ASKED = "somebody asked to cancel the plan"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Result:
    """How a plan stands when it is left; `stopped`: why, before its end."""

    plan: Plan
    entries: tuple[Entry, ...]
    stopped: str | None = None

    def count(self, state: ledger.State) -> int:
        """Nights in a state."""
        return sum(each.state == state for each in self.entries)

    def problem(self) -> BackfillError | None:
        """What went wrong, where a night failed."""
        failed = [each for each in self.entries if each.state == "failed"]
        if not failed:
            return None
        one = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        asked = self.plan.request
        anew = f"nightrank backfill {asked.first} {asked.last} --failed"
        return BackfillError(
            f"{len(failed)} of {len(self.entries)} nights failed: {one.ds}: {one.reason}{more}",
            where=f"plan {self.plan.plan_id} in ops.backfills",
            unchanged="the other nights stand, and what is served stays served",
            fix=f"mend what is said above; {anew} (and options as they were) plans them anew",
        )


class Driving:
    """A plan while it is driven; `night` may be called by as many threads as nights are active."""

    def __init__(self, shop: Shop, plan: Plan, watched: Board) -> None:
        self.shop, self.lake, self.plan, self.board = shop, shop.lake, plan, watched
        self.run_id = new_run_id()
        self.stopped: str | None = None
        self.result = Result(plan, ())  # how the plan was left, as soon as it is
        self.lost: LeaseError | None = None  # another process may drive the plan now
        self.error: Exception | None = None  # the first that kept a night from being made
        self.is_over = threading.Event()
        self.telling = threading.Lock()
        self.workers = [Worker(shop, plan, n + 1) for n in range(plan.max_active)]
        self.idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)

    def is_stopped(self) -> bool:
        """Whether nothing is to be begun any more."""
        return self.stopped is not None

    def entries(self) -> list[Entry]:
        """How the plan stands."""
        return ledger.of_plan(self.lake, self.plan.plan_id)

    def waiting(self) -> list[date]:
        """The nights that wait, in their order."""
        return [each.ds for each in self.entries() if each.state == "waiting"]

    def night(self, ds: date, moved: Callable[[str], None] | None = None) -> Entry:
        """Make one night as soon as a process and a place are free; returns how it stands then.

        Raises what no night failed at, as a lake that cannot be read: `judge` raises it again.
        """
        worker = self.idle.get()
        try:
            return self._night(worker, ds, moved)
        except Exception as error:
            self.error = self.error or error
            raise
        finally:
            self.idle.put(worker)

    def _night(self, worker: Worker, ds: date, moved: Callable[[str], None] | None) -> Entry:
        run_id = new_run_id()
        with self._place(run_id, f"makes {ds} of backfill {self.plan.plan_id}"):
            entry = self._begin(ds, run_id, worker.slot)
            return self._stands(ds) if entry is None else self._make(worker, entry, moved)

    @contextmanager
    def _place(self, run_id: str, what: str) -> Iterator[None]:
        """One of the places of all plans; without it where the plan is stopped."""
        terms = leases.Terms(what, places=self.shop.settings.backfill.max_active)
        try:
            while not self.is_stopped() and leases.take(self.lake, PLACES, run_id, terms):
                time.sleep(leases.POLL_SECONDS)
            yield
        finally:
            leases.give_back(self.lake, PLACES, run_id)

    def _begin(self, ds: date, run_id: str, slot: int) -> Entry | None:
        if not self.may_begin():
            return None
        entry = ledger.take(self.lake, self.plan.plan_id, ds, run_id, slot)
        if entry is not None:
            self._tell(self.board.began, entry)
        return entry

    def _make(self, worker: Worker, entry: Entry, also: Callable[[str], None] | None) -> Entry:
        def moved(stage: str) -> None:
            self._tell(self.board.moved, entry, stage)
            if also is not None:
                also(stage)

        state, known = self._made(worker, entry, moved)
        if not self.is_ours():  # whoever drives the plan now says how it stands
            return self._stands(entry.ds)
        ended = ledger.end(self.lake, entry, state, **known)
        self._tell(self.board.ended, ended, self.entries())
        return ended

    def _made(
        self, worker: Worker, entry: Entry, moved: Callable[[str], None]
    ) -> tuple[ledger.State, dict[str, Any]]:
        """How a night ended, and what is known of it then."""
        try:
            made = worker(NightJob(entry.ds, entry.run_id or ""), moved)
        except GoneError as gone:
            if self.stopped is not None:
                return "cancelled", {"reason": self.stopped}
            return "failed", {"reason": died(entry.ds, gone).what}
        except Exception as error:
            return "failed", {"reason": as_ours(error).what}
        known = dict(vars(made))
        return "done", {"reason": "; ".join(known.pop("untrained")) or None, **known}

    def _stands(self, ds: date) -> Entry:
        return next(each for each in self.entries() if each.ds == ds)

    def judge(self) -> None:
        """The last pass, in date order, over the nights that are done and not judged yet.

        Judges none, and raises why, where a night is still to be made though nothing stopped it.
        """
        if self.is_stopped():
            return
        entries = self.entries()
        if ledger.cancels(entries):  # the watcher has not seen it yet
            self.stop(ASKED)
            return
        if unmade := [each.ds for each in entries if each.state in ("waiting", "running")]:
            raise self.error or _not_made(self.plan, unmade)
        todo = [each for each in entries if each.state == "done" and each.outcome is None]
        if todo:
            self._judge(sorted(todo, key=lambda each: each.ds))

    def _judge(self, todo: Sequence[Entry]) -> None:
        worker = self.idle.get()
        try:
            with self._place(self.run_id, f"judges backfill {self.plan.plan_id}"):
                for entry in todo:
                    if not self.may_begin():
                        return
                    self._tell(self.board.moved, entry, "judge")
                    known = worker(JudgeJob(entry), lambda _: None)
                    if self.is_ours():
                        ledger.facts(self.lake, entry, **known)
        except GoneError as gone:
            if self.may_begin():
                raise BackfillError(
                    f"releases could not be judged: {gone}",
                    where=f"plan {self.plan.plan_id}",
                    unchanged="the nights stand; none is swapped in that was not judged",
                    fix="run the same command again: it goes on from here",
                ) from gone
        finally:
            self.idle.put(worker)

    def may_begin(self) -> bool:
        """Whether something may be begun; looks whether the plan is still this process's."""
        return not self.is_stopped() and self.is_ours()

    def is_ours(self) -> bool:
        """Whether this process still drives the plan; else it begins and ends no night."""
        return self.why_lost() is None

    def why_lost(self) -> LeaseError | None:
        """Why another process may drive the plan now, which may have begun it anew; looks now.

        It stays lost though its lease may have been renewed since.
        """
        if self.lost is None:
            try:
                leases.ensure(self.lake, plan_lease(self.plan.plan_id), self.run_id)
            except LeaseError as error:
                self.lost = error
                self.stop(error.what)
        return self.lost

    def stop(self, reason: str) -> None:
        """Begin no night any more, and end those that run."""
        if self.stopped is None:
            self.stopped = reason
        for worker in self.workers:
            worker.kill()

    def watch(self) -> None:
        """Look until the end whether somebody asks to stop, or another took the plan."""
        seen = -1
        while not self.is_over.wait(LOOK_SECONDS):
            try:
                if not self.is_ours():
                    return
                version = self.lake.pin(ledger.TABLE).version
                asked = version != seen and bool(ledger.cancels(self.entries()))
                seen = version
            except (NightrankError, duckdb.Error, OSError):
                continue  # a look that failed is made again
            if asked:
                self.stop(ASKED)
                return

    def _tell(self, what: Callable[..., None], *told: Any) -> None:
        with self.telling:
            what(*told)


@contextmanager
def driving(
    shop: Shop, planned: Planned, answered: Collection[datetime] | None = None
) -> Iterator[Driving]:
    """Have the plan to oneself, its processes and its folder; left, it stands as its `result` says.

    An old plan goes on though it was cancelled at the times `answered` (None: those that `planned`
    knows); a cancel that came since stops it. Raises LeaseError where another process drives it, or
    may have begun to meanwhile, BackfillError where what a dead one left works on and cannot be
    ended.
    """
    plan = planned.plan
    seen = ledger.cancels(planned.entries) if answered is None else answered
    shop = with_models(shop, plan.request.models)
    sweep(shop.lake)
    run = Driving(shop, plan, board())
    terms = leases.Terms(f"drives backfill {plan.plan_id}", wait_seconds=SWEPT_SECONDS)
    with leases.leased(shop.lake, plan_lease(plan.plan_id), run.run_id, terms):
        if left := end_orphans(shop.lake, plan.plan_id):
            raise _still_works(plan, left)
        if planned.is_old:
            if ledger.cancels(ledger.ready(shop.lake, plan.plan_id, seen)):
                run.stop(ASKED)
        else:
            ledger.write(shop.lake, planned.entries)
        run.board.planned(plan, run.entries(), planned.is_old)
        watcher = threading.Thread(target=run.watch, daemon=True)
        watcher.start()
        try:
            with _stopped_by_signals(run):
                yield run
        except BaseException:
            run.stop("an error stopped the plan")
            raise
        finally:
            run.is_over.set()
            watcher.join()
            run.result = _leave(run)


def _still_works(plan: Plan, left: Sequence[Process]) -> BackfillError:
    return BackfillError(
        f"plan {plan.plan_id} is still worked at by processes of a driver that died",
        where="; ".join(f"process {each.pid} on {each.host}" for each in left),
        unchanged="the plan stands as it was",
        fix="end them, as the account that started them, and run the same command again",
    )


def _not_made(plan: Plan, nights: Sequence[date]) -> BackfillError:
    return BackfillError(
        f"nights were not made though nothing stopped the plan: {', '.join(map(str, nights))}",
        where=f"plan {plan.plan_id} in ops.backfills",
        unchanged="the other nights stand; none is judged before all are made",
        fix="run the same command again: it goes on from here",
    )


def _leave(run: Driving) -> Result:
    """Nothing runs any more: say so, and tidy up. Raises LeaseError where the plan was lost."""
    for worker in run.workers:
        worker.close()
    reason = run.stopped
    if (lost := run.why_lost()) is not None:
        raise lost

    def left(each: Entry) -> Entry:
        if reason is None or each.state not in ("waiting", "running"):
            return each
        return replace(each, state="cancelled", reason=reason)

    entries = ledger.change(run.lake, run.plan.plan_id, left)
    if _is_over(entries):
        remove(plans_folder(run.lake) / run.plan.plan_id)
    refresh(run.shop)
    return Result(run.plan, tuple(entries), _why_stopped(entries, reason))


def _why_stopped(entries: Sequence[Entry], reason: str | None) -> str | None:
    """Why a plan was left before its end; None where every night has ended, whoever asked since."""
    if all(each.has_ended for each in entries):
        return None
    if reason is None and ledger.cancels(entries):
        return ASKED  # and what ran had ended before the next look for that
    return reason


def _is_over(entries: Sequence[Entry]) -> bool:
    """Whether nobody needs the folder of a plan that nobody drives."""
    return all(each.has_ended for each in entries) or bool(ledger.cancels(entries))


def drive(shop: Shop, planned: Planned) -> Result:
    """Drive a plan to its end in threads of this process, without Prefect."""
    with driving(shop, planned) as run:
        with ThreadPoolExecutor(run.plan.max_active) as pool:
            list(pool.map(run.night, run.waiting()))
        run.judge()
    return run.result


@contextmanager
def _stopped_by_signals(run: Driving) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the plan in order; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number: int, _frame: FrameType | None) -> None:
        # Apart: what it takes may be held by the very thread that the signal has interrupted.
        why = f"stopped by {signal.Signals(number).name}"
        threading.Thread(target=run.stop, args=(why,), daemon=True).start()

    before = {number: signal.signal(number, told) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sweep(lake: Lake) -> list[str]:
    """Put right what dead runs left: their running nights wait, folders nobody needs are gone.

    Returns a line for each thing that was found.
    """
    folders = _folders(lake)  # first: one that is made meanwhile is of a plan that is not read yet
    by_plan = look(lake)
    said = bury(lake, by_plan)
    leases.bury(lake, plan_lease(""), lambda _: None)
    for folder in folders:
        if _is_over(by_plan.get(folder, [])):
            terms = leases.Terms(f"removes the folder of backfill {folder}", wait_seconds=0)
            hold = leases.leased(lake, plan_lease(folder), new_run_id(), terms)
            with suppress(LeaseError), hold:  # one that goes on with it needs the folder again
                # again: somebody may have gone on with it before the lease was ours
                if _is_over(ledger.of_plan(lake, folder)) and not end_orphans(lake, folder):
                    remove(plans_folder(lake) / folder)
                    said.append(f"the folder of plan {folder}, which nobody needs, was removed")
    return said


def _folders(lake: Lake) -> list[str]:
    there = plans_folder(lake)
    return sorted(each.name for each in there.iterdir()) if there.is_dir() else []


def cancel(shop: Shop, plan_id: str, patience: float = 60.0) -> Result:
    """Cancel a plan from anywhere: what waits is not begun, and what runs is stopped.

    Waits until nothing of it runs; a plan that has ended stays as it is. Raises UsageError where
    there is no such plan, BackfillError where whoever drives it does not stop in time.
    """
    lake = shop.lake
    entries = ledger.of_plan(lake, plan_id)
    if not entries:
        raise unknown(plan_id)
    if all(each.has_ended for each in entries):
        return Result(read(entries), tuple(entries))
    ledger.ask_to_cancel(lake, plan_id, "it was cancelled")
    until = time.monotonic() + patience
    while not _has_stopped(lake, plan_id):
        if time.monotonic() > until:
            raise _goes_on(lake, plan_id, patience)
        time.sleep(LOOK_SECONDS)
    entries = ledger.of_plan(lake, plan_id)
    return Result(read(entries), tuple(entries), _why_stopped(entries, "it was cancelled"))


def _has_stopped(lake: Lake, plan_id: str) -> bool:
    """Whether nothing of a plan runs, once what a dead driver left is put right."""
    if drivers(lake, plan_id):
        return False
    sweep(lake)
    return all(each.state != "running" for each in ledger.of_plan(lake, plan_id))


def _goes_on(lake: Lake, plan_id: str, patience: float) -> BackfillError:
    running = [str(each.ds) for each in ledger.of_plan(lake, plan_id) if each.state == "running"]
    return BackfillError(
        f"plan {plan_id} was asked to stop and has not after {patience:.0f} seconds; "
        f"running: {', '.join(running) or 'no night'}",
        where="; ".join(map(str, drivers(lake, plan_id))) or "processes of a driver that died",
        unchanged="what waited is cancelled; what runs stops as soon as it hears of it",
        fix=f"look again with nightrank backfill --show {plan_id}, or end that process",
    )


def plans(lake: Lake) -> list[Result]:
    """Every plan as it stands, newest first."""
    by_plan = ledger.by_plan(lake).values()
    found = [Result(read(entries), tuple(entries)) for entries in by_plan]
    return sorted(found, key=lambda each: each.plan.planned_at, reverse=True)
