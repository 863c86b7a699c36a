"""Each kind of dirt is found in the files as often as the truth says."""

from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tasks.sample import DirtRates
from tests.tasks.sample.conftest import Sample, Write, as_record

ROWS = ("malformed", "wrong_type", "missing_field", "unknown_item", "future")
RATES = DirtRates(
    malformed=0.01,
    wrong_type=0.01,
    missing_field=0.01,
    duplicate=0.02,
    resent=0.02,
    late=0.05,
    unknown_item=0.01,
    future=0.01,
)
REQUIRED = {
    "events": {"user_id", "item_id", "event", "ts"},
    "impressions": {"user_id", "item_id", "request_id", "ts"},
}
Counts = Counter[tuple[str, str, str]]  # kind, dataset, dt


@pytest.fixture(scope="module")
def dirty(write: Write) -> Sample:
    """A shop with much dirt of every kind in both datasets."""
    return write(n_days=6, n_users=600, n_items=200, event_dirt=RATES, impression_dirt=RATES)


def found(sample: Sample, dataset: str) -> Counts:
    """Kinds as a reader of the files sees them."""
    counts: Counts = Counter()
    first_dt: dict[str, str] = {}
    known = set(sample.truth.item_ids)
    for dt, line in sample.lines(dataset):
        if line in first_dt:
            kind = "duplicate" if first_dt[line] == dt else "resent"
        else:
            first_dt[line] = dt
            kind = kind_of(as_record(line), REQUIRED[dataset], known, dt)
        counts[kind, dataset, dt] += 1
    return counts


def day_of_ms(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def kind_of(record: dict[str, Any] | None, required: set[str], known: set[str], dt: str) -> str:
    if record is None:
        return "malformed"
    if not required <= set(record):
        return "missing_field"
    if not all(type(record[f]) is str for f in ("user_id", "item_id")):
        return "wrong_type"
    if type(record["ts"]) is not int:
        return "wrong_type"
    if record["item_id"] not in known:
        return "unknown_item"
    occurred = day_of_ms(record["ts"])
    if occurred > dt:
        return "future"
    return "late" if occurred < dt else "clean"


def told(sample: Sample, dataset: str) -> Counts:
    dirt = sample.truth.table("dirt").filter(dataset=pl.lit(dataset))
    dirt = dirt.filter(~pl.col("kind").str.contains("undelivered|file_again"))
    return Counter({(k, d, dt.isoformat()): n for k, d, dt, n in dirt.iter_rows()})


@pytest.mark.parametrize("dataset", ["events", "impressions"])
def test_truth_counts_what_is_in_the_files(dirty: Sample, dataset: str) -> None:
    assert told(dirty, dataset) == found(dirty, dataset)
    assert {kind for kind, _, _ in told(dirty, dataset)} == {"clean", *RATES.__annotations__}


@pytest.mark.parametrize("dataset", ["events", "impressions"])
def test_default_rates_are_counted_too(default: Sample, dataset: str) -> None:
    assert told(default, dataset) == found(default, dataset)


def test_rates_are_those_asked_for(dirty: Sample) -> None:
    dirt = dirty.truth.table("dirt").filter(dataset="impressions")
    total = dict(dirt.group_by("kind").agg(pl.col("n").sum()).iter_rows())
    n = 13 * dirty.counts.n_requests
    for kind in ROWS:
        assert total[kind] / n == pytest.approx(getattr(RATES, kind), rel=0.2)
    assert total["duplicate"] / n == pytest.approx(RATES.duplicate, rel=0.2)
    assert (total["late"] + total["late_undelivered"]) / n == pytest.approx(RATES.late, rel=0.1)


@pytest.mark.parametrize("dataset", ["events", "impressions"])
def test_days_can_be_reconciled(dirty: Sample, dataset: str) -> None:
    """Happened on a day = distinct lines of that day + those never delivered."""
    known = set(dirty.truth.item_ids)
    day_of: dict[str, str] = {}
    for dt, line in dirty.lines(dataset):
        record = as_record(line)
        is_late = record and kind_of(record, REQUIRED[dataset], known, dt) == "late"
        day_of.setdefault(line, day_of_ms(record["ts"]) if record and is_late else dt)
    lines = Counter(day_of.values())
    dirt = dirty.truth.table("dirt").filter(
        dataset=pl.lit(dataset), kind=pl.lit("late_undelivered")
    )
    lines.update({dt.isoformat(): n for dt, n in dirt.select("dt", "n").iter_rows()})
    assert lines == daily_rows(dirty, dataset)


def daily_rows(sample: Sample, dataset: str) -> dict[str, int]:
    names = {
        "events": ["n_click", "n_view", "n_favourite", "n_cart", "n_purchase"],
        "impressions": ["n_impressions", "n_not_shown"],
    }[dataset]
    daily = sample.truth.table("daily")
    return dict(daily.select(pl.col("dt").cast(pl.String), pl.sum_horizontal(names)).iter_rows())


def test_late_rows_come_one_to_three_days_after(dirty: Sample) -> None:
    delays: Counter[int] = Counter()
    for dt, line in dirty.lines("events"):
        record = as_record(line)
        if record and kind_of(record, REQUIRED["events"], set(dirty.truth.item_ids), dt) == "late":
            occurred = date.fromisoformat(day_of_ms(record["ts"]))
            delays[(date.fromisoformat(dt) - occurred).days] += 1
    assert set(delays) == {1, 2, 3}


def test_a_shop_without_dirt_is_clean(write: Write) -> None:
    clean = write(
        n_days=3,
        n_users=150,
        n_items=80,
        event_dirt=DirtRates(),
        impression_dirt=DirtRates(),
        repeat_a_file=False,
    )
    kinds = set(clean.truth.table("dirt")["kind"])
    assert kinds == {"clean"}
    assert len(clean.lines("events")) == clean.counts.n_events
    assert clean.events.height == clean.counts.n_events
