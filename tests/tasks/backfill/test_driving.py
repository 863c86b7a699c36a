"""A driver in trouble: its lake fails it, or it loses its plan to another. No night is made."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest

from tasks.backfill import ledger
from tasks.backfill.deaths import plan_lease
from tasks.backfill.driving import ASKED, Driving, driving
from tasks.backfill.ledger import Entry
from tasks.backfill.night import Made
from tasks.backfill.plan import Planned
from tasks.backfill.workers import GoneError
from tasks.errors import BackfillError, LeaseError, StorageError, TrainingError
from tasks.lake import leases
from tests.scenarios.daily import day
from tests.tasks.backfill.conftest import History

MADE = Made("release", "bpr", 1, 1, 1, 1, 1.0, 1.0, 1.0)
GONE = GoneError("the other has ended it")
TOLD = {"where": "here", "unchanged": "all", "fix": "do not"}
BROKEN = StorageError("the lake is away for a moment", **TOLD)


@pytest.fixture
def shop(loaded: History) -> History:
    return loaded


class Worker:
    """A worker whose jobs end so, whatever they are; before, its driver may lose the plan."""

    slot = 1

    def __init__(self, run: Driving, ends: object, loses: bool) -> None:
        self.run, self.ends, self.loses = run, ends, loses

    def __call__(self, *_: object) -> object:
        if self.loses:
            lose(self.run)
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


def lose(run: Driving) -> None:
    """Another takes the plan."""
    name = plan_lease(run.plan.plan_id)
    leases.give_back(run.lake, name, run.run_id)
    assert leases.take(run.lake, name, "other", leases.Terms("drives it")) == []


@contextmanager
def driven(shop: History, planned: Planned, ends: object, loses: bool = False) -> Iterator[Driving]:
    """Drive a plan with one such worker."""
    with driving(shop.shop, planned) as run:
        worker: Any = Worker(run, ends, loses)
        run.idle = SimpleQueue()
        run.idle.put(worker)
        try:
            yield run
        finally:
            leases.give_back(run.lake, plan_lease(run.plan.plan_id), "other")


def first_of(shop: History, planned: Planned) -> Entry:
    return ledger.of_plan(shop.shop.lake, planned.plan.plan_id)[0]


def unjudged(run: Driving) -> None:
    """The first night of a plan is done."""
    first, *others = run.entries()
    ledger.write(run.lake, [replace(first, state="done", outcome=None), *others])


def fail(*_: object, **__: object) -> None:
    raise BROKEN


@pytest.mark.parametrize("broken", ["take", "end"])
def test_what_failed_at_no_night_is_raised_and_the_night_is_left_to_be_made(
    shop: History, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    planned = shop.plan(1, 1)

    def drive() -> None:
        with driven(shop, planned, MADE) as run:
            with monkeypatch.context() as patch, suppress(StorageError):
                patch.setattr(ledger, broken, fail)
                run.night(day(1))  # Prefect keeps what it raises to itself
            run.judge()

    with pytest.raises(StorageError, match="away for a moment"):
        drive()
    entry = first_of(shop, planned)
    assert (entry.state, entry.reason) == ("cancelled", "an error stopped the plan")


def test_nothing_is_judged_of_a_plan_whose_cancel_the_watcher_has_not_seen(
    shop: History,
) -> None:
    planned = shop.plan(1, 2)
    with driven(shop, planned, {"outcome": "swapped in"}) as run:
        unjudged(run)
        ledger.ask_to_cancel(run.lake, planned.plan.plan_id, "it was cancelled")
        run.judge()
    first = first_of(shop, planned)
    assert (first.state, first.outcome) == ("done", None)
    assert run.result.stopped == ASKED


def test_no_night_is_judged_before_all_are_made(shop: History) -> None:
    planned = shop.plan(1, 2)

    def drive() -> None:
        with driven(shop, planned, {"outcome": "swapped in"}) as run:
            unjudged(run)
            run.judge()

    with pytest.raises(BackfillError, match=f"were not made.*: {day(2)}"):
        drive()
    assert first_of(shop, planned).outcome is None


def test_a_driver_that_another_has_replaced_begins_no_night(shop: History) -> None:
    planned = shop.plan(1, 1)

    def drive() -> None:
        with driven(shop, planned, MADE) as run:
            lose(run)
            run.night(day(1))

    with pytest.raises(LeaseError, match="was lost"):
        drive()
    entry = first_of(shop, planned)
    assert (entry.state, entry.reason) == ("waiting", None)


@pytest.mark.parametrize("ends", [GONE, TrainingError("why", **TOLD), MADE])
def test_a_driver_that_another_has_replaced_ends_no_night(shop: History, ends: object) -> None:
    planned = shop.plan(1, 1)

    def drive() -> None:
        with driven(shop, planned, ends, loses=True) as run:
            run.night(day(1))

    with pytest.raises(LeaseError, match="was lost"):
        drive()
    entry = first_of(shop, planned)
    assert (entry.state, entry.reason) == ("running", None)


@pytest.mark.parametrize("ends", [GONE, {"outcome": "swapped in"}])
def test_a_driver_that_another_has_replaced_judges_nothing(
    shop: History, monkeypatch: pytest.MonkeyPatch, ends: object
) -> None:
    """Its worker was ended by the other before it looked whether the plan is still its own."""
    monkeypatch.setattr("tasks.backfill.driving.LOOK_SECONDS", 60)
    planned = shop.plan(1, 1)
    raised: list[Exception] = []

    def drive() -> None:
        with driven(shop, planned, ends, loses=True) as run:
            unjudged(run)
            try:
                run.judge()
            except Exception as error:
                raised.append(error)

    with pytest.raises(LeaseError, match="was lost"):
        drive()
    assert raised == []  # what it did not do is no error of its own
    assert first_of(shop, planned).outcome is None


def test_a_lease_that_was_lost_and_renewed_since_is_told_as_lost(
    shop: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine slept: before it said again that it lives, another may have taken the plan."""
    planned = shop.plan(1, 1)

    def slept(*_: object) -> None:
        raise LeaseError("it was not renewed for 200 seconds", **TOLD)

    def drive() -> None:
        with driven(shop, planned, MADE) as run:
            with monkeypatch.context() as patch:
                patch.setattr(leases, "ensure", slept)
                assert not run.is_ours()
            run.night(day(1))

    with pytest.raises(LeaseError, match="200 seconds"):
        drive()
    assert first_of(shop, planned).state == "waiting"
