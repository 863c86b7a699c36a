from datetime import date

import pytest

from tasks.errors import (
    ContractError,
    HeldError,
    NightrankError,
    QualityError,
    SourceError,
    StorageError,
)
from tasks.night import Ending, Outcome
from tasks.notices import LENGTH, of_failure, of_other, of_outcome, of_staleness, reason_of

DS = date(2026, 1, 25)
FIELDS = {"where": "there", "unchanged": "all", "fix": "so"}


def outcome(ending: Ending, *, is_old: bool = False) -> Outcome:
    return Outcome(ending, "why", DS, "run", "release", "/lake/reports/x.html", is_old=is_old)


@pytest.mark.parametrize("ending", ["published", "kept", "held", "failed"])
def test_every_ending_is_told_once(ending: Ending) -> None:
    told = of_outcome(outcome(ending))
    assert told is not None
    assert told.event == f"nightrank.night.{ending}"
    assert told.payload == {
        "ds": "2026-01-25",
        "outcome": ending,
        "reason": "why",
        "page": "/lake/reports/x.html",
    }
    assert of_outcome(outcome(ending, is_old=True)) is None


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (QualityError, "failed-contract"),
        (ContractError, "failed-contract"),
        (SourceError, "failed"),
        (HeldError, "held"),
    ],
)
def test_a_failed_contract_is_told_as_one(kind: type[NightrankError], name: str) -> None:
    told = of_failure(kind("it broke", **FIELDS), DS, "page")
    assert (told.event, told.payload["outcome"]) == (f"nightrank.night.{name}", name)
    assert told.payload["reason"] == "it broke"


def test_what_others_say_of_the_data_is_not_told() -> None:
    foreign = ValueError("could not convert 'u000123'")
    duckdb = StorageError("DuckDB: Conversion Error: 'u000123' is no number", **FIELDS)
    for error in (foreign, duckdb):
        assert "u000123" not in reason_of(error)
    assert reason_of(foreign).startswith("ValueError at ")
    assert reason_of(duckdb).startswith("DuckDB at there")


def test_a_reason_is_no_book() -> None:
    told = of_failure(SourceError("x" * 5_000, **FIELDS))
    assert len(told.payload["reason"]) == LENGTH


def test_other_runs_have_events_of_their_own() -> None:
    error = SourceError("nothing", **FIELDS)
    assert of_other("ingest-hourly", error).event == "nightrank.ingest.failed"
    assert of_other("housekeeping-weekly", error).event == "nightrank.housekeeping.failed"


@pytest.mark.parametrize(("served", "is_stale"), [(22, True), (23, False), (25, False)])
def test_stale_is_by_the_date_of_the_schedule(served: int, is_stale: bool) -> None:
    told = of_staleness(date(2026, 1, served), DS, 2)
    assert (told is not None) == is_stale
    if told is not None:
        assert told.payload["ds"] == "2026-01-22"
        assert "3 days before" in told.payload["reason"]


def test_a_shop_that_serves_nothing_is_not_stale() -> None:
    assert of_staleness(None, DS, 2) is None
