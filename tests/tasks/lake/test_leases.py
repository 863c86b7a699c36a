"""Leases, taken by real processes that wait, die, fall silent and are killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import LeaseError, StorageError
from tasks.lake import leases
from tasks.lake.leases import (
    LEASE_SECONDS,
    Lease,
    Terms,
    bury,
    ensure,
    give_back,
    holders,
    leased,
    take,
    why_lost,
)
from tasks.lake.tables import Lake
from tasks.processes import this_process
from tests.scenarios.nights import in_process, semaphore, start

NAME = "night 2026-01-25"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    yield Lake(tmp_path)
    for *_, name, run_id in list(leases._renewals):
        give_back(Lake(tmp_path), name, run_id)


def put(lake: Lake, run_id: str, renewed: float = 0, name: str = NAME, **changes: Any) -> Lease:
    """A place held on another machine, last renewed so many seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=renewed)
    over = at + timedelta(seconds=LEASE_SECONDS)
    made = replace(Lease(name, run_id, "a test", "elsewhere", 7, "", at, at, over), **changes)
    lake.append("ops.leases", {"name": name}, [asdict(made)])
    return made


def runs(lake: Lake, name: str | None = None) -> list[str]:
    return [each.run_id for each in holders(lake, name)]


def test_a_place_is_held_until_it_is_given_back(lake: Lake) -> None:
    with leased(lake, NAME, "a", Terms("night of 2026-01-25")):
        (holder,) = holders(lake, NAME)
        assert (holder.run_id, holder.pid) == ("a", os.getpid())
        assert str(holder).startswith(f"night of 2026-01-25, run a, process {os.getpid()} on ")
        assert not holder.is_dead()
        ensure(lake, NAME, "a")
    assert holders(lake) == []
    with pytest.raises(LeaseError, match="not held"):
        ensure(lake, NAME, "a")
    give_back(lake, NAME, "a")


def test_an_error_gives_it_back_too(lake: Lake) -> None:
    with pytest.raises(KeyboardInterrupt), leased(lake, NAME, "a", Terms("a test")):
        raise KeyboardInterrupt
    assert holders(lake) == []


def test_other_names_are_other_places(lake: Lake) -> None:
    assert take(lake, NAME, "a", Terms("a test")) == []
    assert take(lake, "night 2026-01-26", "b", Terms("a test")) == []
    assert runs(lake) == ["a", "b"]


def test_so_many_hold_a_name_as_there_are_places(lake: Lake) -> None:
    for run_id in ("a", "b"):
        assert take(lake, NAME, run_id, Terms("a test", places=2)) == []
    assert [each.run_id for each in take(lake, NAME, "c", Terms("a test", places=2))] == ["a", "b"]
    assert take(lake, NAME, "b", Terms("a test", places=2)) == []  # it holds one already
    give_back(lake, NAME, "a")
    assert take(lake, NAME, "c", Terms("a test", places=2)) == []
    assert runs(lake) == ["b", "c"]


def test_who_waits_in_vain_is_told_for_whom(lake: Lake) -> None:
    put(lake, "a")
    told: list[list[Lease]] = []
    with (
        pytest.raises(LeaseError, match="held by a test, run a, process 7 on elsewhere"),
        leased(lake, NAME, "b", Terms("a test", wait_seconds=0.8, on_wait=told.append)),
    ):
        pytest.fail("it was held by another")
    assert [[each.run_id for each in living] for living in told] == [["a"]]
    assert runs(lake) == ["a"]


def test_who_waits_is_next(lake: Lake) -> None:
    put(lake, "a")
    threading.Timer(0.3, give_back, (lake, NAME, "a")).start()
    with leased(lake, NAME, "b", Terms("a test")):
        assert runs(lake) == ["b"]


@pytest.mark.parametrize(("silent", "is_dead"), [(0, False), (110, False), (120, True)])
def test_one_elsewhere_is_dead_after_two_minutes_of_silence(
    lake: Lake, silent: float, is_dead: bool
) -> None:
    put(lake, "a", silent)
    dead: list[str] = []
    living = take(lake, NAME, "b", Terms("a test", on_dead=lambda each: dead.append(each.run_id)))
    assert (not living, dead, runs(lake)) == (
        (True, ["a"], ["b"]) if is_dead else (False, [], ["a"])
    )


def test_one_here_whose_process_is_gone_is_dead_at_once(lake: Lake) -> None:
    ours = this_process()
    here = leases._with_clock(ours.mark)
    put(lake, "a", host=ours.host, pid=2**22 + 1, process=here)
    put(lake, "b", host=ours.host, pid=ours.pid, process=here, name="another")
    dead: list[str] = []
    assert [each.run_id for each in bury(lake, "", lambda each: dead.append(each.run_id))] == ["a"]
    assert (dead, runs(lake)) == (["a"], ["b"])
    assert bury(lake, "", lambda each: dead.append(each.run_id)) == []


class SetAhead(datetime):
    """A clock that somebody has set five hours ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(hours=5)


def test_a_clock_that_is_set_ahead_takes_no_place_on_its_machine(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert take(lake, NAME, "a", Terms("a test")) == []
    leases._renewals[leases._key(lake, NAME, "a")].stop()
    put(lake, "b", name="another")  # elsewhere, whose clock is not known
    monkeypatch.setattr(leases, "datetime", SetAhead)
    assert [each.run_id for each in take(lake, NAME, "c", Terms("a test"))] == ["a"]
    assert [each.run_id for each in bury(lake, "", lambda _: None)] == ["b"]
    now = leases._clock()
    for silent, is_dead in ((110, False), (120, True)):
        monkeypatch.setattr(leases, "_clock", lambda at=now + silent: at)
        assert holders(lake)[0].is_dead() is is_dead


def test_a_clock_that_is_set_back_keeps_none_that_is_silent(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert take(lake, NAME, "a", Terms("a test")) == []
    leases._renewals[leases._key(lake, NAME, "a")].stop()
    now = leases._clock()
    monkeypatch.setattr(leases, "_clock", lambda: now + 120)
    assert holders(lake)[0].is_dead()  # its expires_at is still to come


def test_what_is_done_about_the_dead_is_done_before_they_go(lake: Lake) -> None:
    put(lake, "a", 1000)

    def fail(_lease: Lease) -> None:
        raise StorageError("no", where="here", unchanged="all", fix="none")

    with pytest.raises(StorageError):
        bury(lake, "night", fail)
    with pytest.raises(StorageError):
        take(lake, NAME, "b", Terms("a test", on_dead=fail))
    assert runs(lake) == ["a"]
    assert bury(lake, "day", fail) == []


def test_a_lease_is_renewed_in_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    with leased(lake, NAME, "a", Terms("a test")):
        (before,) = holders(lake)
        until = time.monotonic() + 30
        while (now := holders(lake)[0]).expires_at == before.expires_at:
            assert time.monotonic() < until
        assert now.taken_at == before.taken_at
        assert now.process != before.process
        assert now.expires_at - now.renewed_at == timedelta(seconds=LEASE_SECONDS)


def test_who_lost_its_lease_is_told(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    assert take(lake, NAME, "a", Terms("a test")) == []
    leases._without(lake, NAME, lambda _: True)
    put(lake, "b")
    leases._renewals[leases._key(lake, NAME, "a")].thread.join(30)
    with pytest.raises(LeaseError, match="was lost: another run took it"):
        ensure(lake, NAME, "a")
    give_back(lake, NAME, "a")
    assert runs(lake) == ["b"]


def test_one_whose_place_a_clock_set_ahead_gave_away_is_not_trusted(lake: Lake) -> None:
    """Long before it would renew: the other may be deciding already."""
    assert take(lake, NAME, "a", Terms("a test")) == []
    ensure(lake, NAME, "a")
    leases._without(lake, NAME, lambda each: each.run_id == "a")
    put(lake, "b")
    with pytest.raises(LeaseError, match="was lost: another run took it"):
        ensure(lake, NAME, "a")
    give_back(lake, NAME, "a")
    assert runs(lake) == ["b"]


def test_who_lost_its_lease_hears_of_it_at_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    told: list[str] = []
    assert take(lake, NAME, "a", Terms("a test", on_lost=told.append)) == []
    renewal = leases._renewals[leases._key(lake, NAME, "a")]
    assert why_lost(lake, NAME, "a") == ""
    leases._without(lake, NAME, lambda _: True)
    renewal.thread.join(30)
    assert why_lost(lake, NAME, "a").startswith("another run took it")
    assert told == [why_lost(lake, NAME, "a")]
    give_back(lake, NAME, "a")
    assert why_lost(lake, NAME, "a") == ""


def test_who_cannot_renew_hears_once_that_time_is_over(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StorageError("no", where="here", unchanged="all", fix="none")

    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(leases, "_renew", fail)
    told: list[str] = []
    assert take(lake, NAME, "a", Terms("a test", on_lost=told.append)) == []
    time.sleep(0.3)
    assert told == []
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.2)
    until = time.monotonic() + 30
    while not told and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    assert [why.split(" for ")[0] for why in told] == ["it was not renewed"]


def test_one_that_could_not_be_renewed_in_time_is_not_trusted(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert take(lake, NAME, "a", Terms("a test")) == []
    now = leases._clock()
    monkeypatch.setattr(leases, "_clock", lambda: now + LEASE_SECONDS + 1)
    with pytest.raises(LeaseError, match="not renewed for 101 seconds"):
        ensure(lake, NAME, "a")


def test_trouble_of_the_storage_is_tried_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    real, fails = leases._renew, iter([True, True])

    def renew(where: Lake, lease: Lease) -> None:
        if next(fails, False):
            raise StorageError("no", where="here", unchanged="all", fix="none")
        real(where, lease)

    monkeypatch.setattr(leases, "_renew", renew)
    with leased(lake, NAME, "a", Terms("a test")):
        (before,) = holders(lake)
        until = time.monotonic() + 30
        while holders(lake)[0].expires_at == before.expires_at:
            assert time.monotonic() < until


def hold_in_turn(root: Path, run_id: str, busy: Any) -> None:
    """Hold the place three times; two at once would find it busy."""
    for number in range(3):
        with leased(Lake(root), NAME, f"{run_id}{number}", Terms("a test")):
            assert busy.acquire(block=False)
            time.sleep(0.02)
            busy.release()


def test_processes_that_want_one_place_hold_it_in_turn(lake: Lake) -> None:
    busy = semaphore(1)
    workers = [start(hold_in_turn, lake.root, n, busy) for n in "abc"]
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert holders(lake) == []


def hold_and_die(root: Path) -> None:
    with leased(Lake(root), NAME, "a", Terms("a test")):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_holder_blocks_nobody(lake: Lake) -> None:
    assert in_process(hold_and_die, lake.root) == -signal.SIGKILL
    assert runs(lake) == ["a"]
    dead: list[str] = []
    with leased(
        lake,
        NAME,
        "b",
        Terms("a test", wait_seconds=0, on_dead=lambda each: dead.append(each.run_id)),
    ):
        assert (runs(lake), dead) == (["b"], ["a"])
