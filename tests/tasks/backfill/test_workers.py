"""The process of a worker: how it is started and ended. No night is made."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.backfill import workers
from tasks.backfill.workers import GoneError, NightJob, Worker
from tasks.lake.tables import Lake
from tasks.stores import Storage, UnreachableError, refusal_of
from tests.scenarios.daily import day


class Shop:
    """What a worker asks of its shop before it has a job."""

    lake = Lake(Path("lake"))


class SlowToHandOver:
    """What a process is given, and waits for until the gate opens: its start takes as long."""

    def __init__(self) -> None:
        self.asked, self.gate = threading.Event(), threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        self.asked.set()
        self.gate.wait(60)
        return Shop, ()


def test_a_worker_is_killed_at_once_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_HOW", "spawn")
    monkeypatch.setattr(workers, "_APART", multiprocessing.get_context("spawn"))
    slow: Any = SlowToHandOver()
    plan: Any = Plan()
    worker = Worker(slow, plan, 1)
    before = set(multiprocessing.active_children())
    with ThreadPoolExecutor(2) as pool:
        job = pool.submit(worker, NightJob(day(1), "run"), lambda _: None)
        assert slow.asked.wait(30)
        try:
            pool.submit(worker.kill).result(10)
            with pytest.raises(GoneError, match="stopped"):
                job.result(10)
        finally:
            slow.gate.set()
    worker.close()
    # what was started too late is ended: nobody waits for it
    until = time.monotonic() + 60
    while worker.process is None or worker.process.is_alive():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert set(multiprocessing.active_children()) <= before


class Plan:
    """What a worker asks of its plan."""

    plan_id = "plan"


def test_what_stopped_a_start_is_told() -> None:
    nothing: Any = threading.Lock()  # cannot be handed over
    plan: Any = Plan()
    with pytest.raises(TypeError, match="pickle"):
        Worker(nothing, plan, 1)(NightJob(day(1), "run"), lambda _: None)


def test_what_a_store_refused_is_not_taken_for_a_death() -> None:
    ours, theirs = multiprocessing.Pipe()
    nothing: Any = None
    worker = Worker(nothing, nothing, 1, multiprocessing.current_process(), ours)
    for told in (("stage", "ingest"), ("failed", refusal_of("Unreachable", Storage(), "s3://a"))):
        theirs.send(told)
    seen: list[str] = []
    with pytest.raises(UnreachableError, match="does not answer"):
        worker(NightJob(day(1), "run"), seen.append)
    assert seen == ["ingest"]


class NeverStarted:
    """A thread whose turn does not come."""

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        pass


def test_a_worker_whose_driver_died_as_it_named_itself_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever looked before found no worker, and lets its night wait."""
    ours, theirs = multiprocessing.Pipe()
    alive, drivers = multiprocessing.Pipe(duplex=False)
    begun: list[object] = []
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda *_, **__: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(workers, "Thread", NeverStarted)
    monkeypatch.setattr(workers, "be_known_as", lambda _: drivers.close())
    monkeypatch.setattr(workers, "_done", lambda *told: begun.append(told))
    ours.send(NightJob(day(1), "run"))
    ours.close()
    shop: Any = Shop()
    plan: Any = Plan()
    workers.work(theirs, alive, shop, plan, 1)
    assert begun == []
