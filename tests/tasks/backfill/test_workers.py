"""What a worker hands back of a night that it was given."""

import multiprocessing
from datetime import date
from typing import Any, cast

import pytest

from tasks.backfill.workers import GoneError, NightJob, Worker
from tasks.stores import Storage, UnreachableError, refusal_of

JOB = NightJob(date(2026, 1, 5), "run")


def worker() -> tuple[Worker, Any]:
    """One whose process lives, and the other end of its line."""
    ours, theirs = multiprocessing.Pipe()
    nothing = cast("Any", None)
    process = multiprocessing.current_process()
    return Worker(nothing, nothing, 1, process, ours), theirs


def test_what_a_store_refused_is_not_taken_for_a_death() -> None:
    asked, other = worker()
    other.send(("failed", refusal_of("Unreachable", Storage(), "s3://shop/lake")))
    with pytest.raises(UnreachableError, match="does not answer"):
        asked(JOB, lambda _: None)


def test_stages_are_handed_on_until_the_night_is_done() -> None:
    asked, other = worker()
    seen: list[str] = []
    for told in (("stage", "ingest"), ("stage", "train"), ("done", 7)):
        other.send(told)
    assert asked(JOB, seen.append) == 7
    assert seen == ["ingest", "train"]


def test_a_line_that_breaks_is_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, other = worker()
    monkeypatch.setattr(asked, "_how_it_ended", lambda: "its process ended with code 1")
    other.close()
    with pytest.raises(GoneError, match="code 1"):
        asked(JOB, lambda _: None)
