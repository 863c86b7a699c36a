"""Batches: accounting, duplicates, later deliveries, late rows, killed runs, derived catalogues."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from tasks.errors import SourceError
from tasks.ingest import accounts, load, merge, quarantine
from tasks.ingest.readers import numbered_sql
from tasks.lake.connection import reading
from tests.tasks.ingest.conftest import (
    DATED,
    LANDED_AT,
    MONDAY,
    NOON,
    TUESDAY,
    NewShop,
    Row,
    TinyShop,
    csv_events,
    event,
    jsonl_events,
    lines,
)

DAY = 86_400
DATED_EVENTS = jsonl_events(arrived=DATED)
ITEMS: Row = {
    "files": "items/**/*.csv",
    "format": "csv",
    "columns": {"item_id": "i", "price": "p"},
    "optional": True,
}
USERS: Row = {
    "files": "users/*.csv",
    "format": "csv",
    "columns": {"user_id": "u", "country": "c"},
    "optional": True,
}


def with_goods(**items: Any) -> dict[str, Row]:
    return {"events": jsonl_events(), "items": ITEMS | items, "users": USERS}


def land_a_day(tiny: TinyShop, day: int, *rows: Row | str) -> None:
    tiny.land(f"events/dt=2026-01-0{day}/a.jsonl", lines(*rows))


def mixed_bag(tiny: TinyShop) -> TinyShop:
    """Files with duplicates within and across them, misfits, a repetition and a refused one."""
    tiny.land("events/a.jsonl", lines(event(1), event(1), event(2), "{", "", event(3, u=None)))
    tiny.land("events/b.jsonl", lines(event(2), event(4, t=NOON - DAY)))
    tiny.land("events/c.jsonl", lines(event(2), event(4, t=NOON - DAY)))
    tiny.land("events/d.jsonl.gz", b"no gzip", as_is=True)
    tiny.land("items/items.csv", "i,p\ntea,1\ntea,2\noil,x\n")
    tiny.land("users/users.csv", "u,c\nanna,fi\n")
    return tiny


def test_every_record_of_every_file_is_accounted_for(new_shop: NewShop) -> None:
    tiny = mixed_bag(new_shop(sources=with_goods()))
    tiny.ingest()
    assert tiny.counts() == {
        "events/a.jsonl": ("ingested", 5, 1, 2, 2),
        "events/b.jsonl": ("ingested", 2, 2, 0, 0),
        "events/c.jsonl": ("repeated", 2, 0, 2, 0),
        "events/d.jsonl.gz": ("refused", 0, 0, 0, 0),
        "items/items.csv": ("ingested", 3, 1, 1, 1),
        "users/users.csv": ("ingested", 1, 1, 0, 0),
    }
    assert [row[0] for row in tiny.events()] == ["e1", "e2", "e4"]


def test_dates_and_reasons_of_files(new_shop: NewShop) -> None:
    tiny = mixed_bag(new_shop(sources=with_goods()))
    tiny.ingest(run_id="tonight")
    rows = tiny.query(
        "SELECT path, first_ds, last_ds, reason, arrived_at, ds, run_id FROM ops.files "
        "WHERE dataset = 'events' ORDER BY path LIMIT 3"
    )
    rest = (LANDED_AT, LANDED_AT.date(), "tonight")
    assert rows == [
        ("events/a.jsonl", MONDAY, MONDAY, None, *rest),
        ("events/b.jsonl", MONDAY - timedelta(1), MONDAY, None, *rest),
        ("events/c.jsonl", None, None, "same content as events/b.jsonl", *rest),
    ]


def test_ingesting_twice_changes_nothing(new_shop: NewShop) -> None:
    tiny = mixed_bag(new_shop(sources=with_goods()))
    night = tiny.ingest()
    before, pinned = tiny.tables(), tiny.shop.lake.pin("clean.events").version
    assert tiny.ingest() == night
    assert tiny.tables() == before
    assert tiny.shop.lake.pin("clean.events").version == pinned


def test_batches_of_any_size_give_the_same_events(new_shop: NewShop) -> None:
    whole, parts = new_shop(), new_shop(batch_mb=1)
    for tiny in (whole, parts):
        for age, name in enumerate("abc"):  # a, which is read first by name, arrives last
            rows = [event(age * 3 + n, v=name) for n in range(4)]
            at = LANDED_AT - timedelta(hours=age)
            tiny.land(f"events/{name}.jsonl", lines("{", *rows, "x" * 700_000), at=at)
        tiny.ingest()
    assert parts.tables() == whole.tables()


def test_dates_merged_a_few_at_a_time_give_the_same_events(
    new_shop: NewShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, groups = new_shop(), new_shop()
    for tiny, n_rows in ((whole, 10**6), (groups, 3)):
        monkeypatch.setattr(merge, "GROUP_ROWS", n_rows)
        for night in range(2):
            rows = [event(n, t=NOON - DAY * (n % 6), v=night) for n in range(night, 20)]
            at = LANDED_AT + timedelta(hours=night)
            tiny.land(f"events/{night}.jsonl", lines(*rows, "{"), at=at)
            tiny.ingest()
    assert groups.tables() == whole.tables()
    assert groups.query("SELECT count(*) FROM clean.events") == [(20,)]


def test_of_many_equal_records_one_is_kept(tiny: TinyShop) -> None:
    # Equal in everything by which they could be put in order: windows must agree on one order.
    once = lines(*(event(n, u=f"u{n % 7}") for n in range(30_000)))
    tiny.land("events/a.jsonl", once * 3)
    tiny.ingest()
    assert tiny.counts()["events/a.jsonl"] == ("ingested", 90_000, 30_000, 60_000, 0)


def kill(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def ingest_killed(
    tiny: TinyShop, monkeypatch: pytest.MonkeyPatch, at: str, kill: Any, module: Any = load
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, at, kill)
        with pytest.raises(KeyboardInterrupt):
            tiny.ingest()


@pytest.mark.parametrize("at", ["write_clean", "write_quarantine", "write_columns", "account"])
def test_a_batch_killed_half_way_is_made_whole(
    new_shop: NewShop, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    whole, killed = (mixed_bag(new_shop(sources=with_goods())) for _ in range(2))
    whole.ingest()
    ingest_killed(killed, monkeypatch, at, kill)
    killed.ingest()
    assert killed.tables() == whole.tables()


def test_a_kill_before_the_accounting_is_written_leaves_no_row_twice(
    new_shop: NewShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (new_shop(sources={"events": DATED_EVENTS}) for _ in range(2))
    for tiny in (whole, killed):
        land_a_day(tiny, 5, event(1), "{", event(2))
        tiny.ingest()
        land_a_day(tiny, 6, event(2, i="oil"), event(3, t=NOON + DAY), "}")
    whole.ingest()
    replace = accounts.replace_rows_of_files

    def kill_at_accounting(s: Any, name: str, *rest: Any) -> Any:
        return kill() if name == "ops.files" else replace(s, name, *rest)

    ingest_killed(killed, monkeypatch, "replace_rows_of_files", kill_at_accounting, accounts)
    assert (len(killed.events()), len(killed.misfits()), len(killed.counts())) == (4, 2, 1)
    killed.ingest()
    assert killed.tables() == whole.tables()


def test_repeated_content_under_another_name_is_told_and_counted(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1), "{", event(2)))
    tiny.ingest()
    tiny.land("events/b.jsonl", lines(event(1), "{", event(2)))
    tiny.ingest()
    assert tiny.counts()["events/b.jsonl"] == ("repeated", 3, 0, 3, 0)
    assert len(tiny.misfits()) == 1


def test_a_repetition_of_what_its_namesake_held_before(tiny: TinyShop) -> None:
    old, new = lines(event(1), event(2), event(3)), lines(event(1, i="oil"))
    tiny.land("events/a.jsonl", old)
    tiny.ingest()
    tiny.land("events/a.jsonl", new, at=LANDED_AT + timedelta(hours=1))
    tiny.land("events/b.jsonl", old)
    tiny.ingest()
    assert tiny.counts()["events/b.jsonl"] == ("repeated", 3, 0, 3, 0)


def test_a_file_that_goes_while_it_is_read_leaves_the_planner_as_it_was(
    tiny: TinyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.land("events/a.jsonl", lines(event(1), event(2, t="noon")))

    def too_late(*args: Any) -> str:
        path.unlink()
        return numbered_sql(*args)

    monkeypatch.setattr(quarantine, "numbered_sql", too_late)
    with pytest.raises(duckdb.IOException):
        tiny.ingest()
    with reading() as con:
        assert con.sql("SELECT current_setting('disabled_optimizers')").fetchall() == [("",)]


def test_a_touched_file_is_no_news(tiny: TinyShop) -> None:
    path = tiny.land("events/a.jsonl", lines(event(1)))
    tiny.ingest()
    before = tiny.tables()
    os.utime(path)
    tiny.ingest()
    assert tiny.tables() == before


def test_a_file_that_changed_is_a_later_delivery(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1), event(2)))
    tiny.ingest()
    tiny.land("events/a.jsonl", lines(event(1), event(2, i="oil")), at=LANDED_AT + timedelta(1))
    tiny.ingest()
    later = LANDED_AT + timedelta(1)
    assert tiny.events("event_id, item_id, superseded_at") == [
        ("e1", "tea", None), ("e2", "oil", None), ("e2", "tea", later),
    ]  # fmt: skip
    rows = tiny.query("SELECT n_read, n_clean, n_duplicate FROM ops.files ORDER BY arrived_at")
    assert rows == [(2, 2, 0), (2, 1, 1)]


def test_a_file_that_changed_within_its_date_supersedes_too(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": DATED_EVENTS})
    land_a_day(tiny, 5, event(1))
    tiny.ingest()
    land_a_day(tiny, 5, event(1, i="oil", more="bytes"))
    tiny.ingest()
    assert tiny.query("SELECT item_id FROM clean.events WHERE superseded_at IS NULL") == [("oil",)]


def test_one_file_may_hold_two_datasets(new_shop: NewShop) -> None:
    both = csv_events(files="log.csv"), ITEMS | {"files": "log.csv"}
    tiny = new_shop(sources={"events": both[0], "items": both[1]})
    tiny.land("log.csv", f"u,i,t,p\nanna,tea,{NOON},2.5\n")
    tiny.ingest()
    tiny.ingest()
    assert tiny.query("SELECT dataset, n_clean FROM ops.files ORDER BY ALL") == [
        ("events", 1), ("items", 1),
    ]  # fmt: skip


def test_a_dataset_that_was_mapped_later_reads_files_known_to_another(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": csv_events(files="log.csv")})
    tiny.land("log.csv", f"u,i,t,p\nanna,tea,{NOON},2.5\n")
    tiny.ingest()
    tiny.sources["items"] = ITEMS | {"files": "log.csv"}
    tiny.ingest()
    assert tiny.query("SELECT price FROM clean.items") == [(2.5,)]


def test_late_rows_land_on_the_date_they_occurred_on(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": DATED_EVENTS})
    land_a_day(tiny, 5, event(1))
    land_a_day(tiny, 6, event(2, t=NOON + DAY), event(3))
    assert tiny.ingest() == TUESDAY
    midnight = datetime(2026, 1, 6, tzinfo=UTC)
    assert tiny.events("event_id, ds, arrived_at") == [
        ("e1", MONDAY, midnight),
        ("e2", TUESDAY, midnight + timedelta(1)),
        ("e3", MONDAY, midnight + timedelta(1)),
    ]


def test_dates_are_utc_and_arrival_is_the_end_of_the_day_in_the_zone(new_shop: NewShop) -> None:
    time = {"column": "t", "zone": "America/New_York"}
    tiny = new_shop(sources={"events": jsonl_events(arrived=DATED, time=time)})
    land_a_day(tiny, 5, event(1, t="2026-01-05 18:59:59"), event(2, t="2026-01-05 19:00:00"))
    land_a_day(tiny, 6, event(3, t="2026-01-07 14:30:00"))
    tiny.ingest()
    assert tiny.events("event_id, ds") == [("e1", MONDAY), ("e2", TUESDAY)]
    assert [row[2] for row in tiny.misfits()] == ["in the future: t is after the arrival"]
    arrived = tiny.query("SELECT min(arrived_at) FROM clean.events")
    assert arrived == [(datetime(2026, 1, 6, 5, tzinfo=UTC),)]


def test_arrival_may_stand_in_a_column(new_shop: NewShop) -> None:
    source = jsonl_events(arrived={"column": {"column": "seen", "unit": "s"}})
    tiny = new_shop(sources={"events": source})
    tiny.land(
        "events/a.jsonl",
        lines(
            event(1, seen=NOON + 60), event(1, seen=NOON + 99), event(2), event(3, seen=NOON - DAY)
        ),
    )
    tiny.ingest()
    at = datetime(2026, 1, 5, 12, 1, tzinfo=UTC)
    assert tiny.events("event_id, arrived_at") == [("e1", at), ("e2", LANDED_AT)]
    assert [row[1:] for row in tiny.misfits()] == [(4, "in the future: t is after the arrival")]


def test_items_and_users_are_derived_where_no_file_is(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1), event(2, u="bob", i="oil", t=NOON - DAY)))
    tiny.land("events/b.jsonl", lines(event(1, i="ink")), at=LANDED_AT + timedelta(1))
    assert tiny.ingest() == MONDAY
    items = tiny.query("SELECT item_id, available_from, file_id, ds FROM clean.items ORDER BY ALL")
    assert items == [
        ("ink", MONDAY, "derived", MONDAY), ("oil", MONDAY - timedelta(1), "derived", MONDAY),
    ]  # fmt: skip
    assert [row[0] for row in tiny.query("SELECT user_id FROM clean.users ORDER BY ALL")] == [
        "anna",
        "bob",
    ]


def test_a_file_of_items_takes_the_place_of_derived_ones(new_shop: NewShop) -> None:
    tiny = new_shop(sources=with_goods())
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.ingest()
    tiny.land("items/items.csv", "i,p\noil,1\n")
    tiny.ingest()
    assert tiny.query("SELECT item_id, ds FROM clean.items") == [("oil", MONDAY)]


def test_a_source_that_delivered_later_has_not_vanished_from_an_old_night(
    new_shop: NewShop,
) -> None:
    tiny = new_shop(sources={"events": DATED_EVENTS, "items": ITEMS | {"arrived": DATED}})
    land_a_day(tiny, 5, event(1))
    land_a_day(tiny, 6, event(2, i="oil", t=NOON + DAY))
    tiny.land("items/dt=2026-01-06/items.csv", "i,p\noil,1\n")
    assert tiny.ingest(TUESDAY) == TUESDAY
    assert tiny.ingest(MONDAY) == MONDAY
    known = [("tea", "derived", MONDAY), ("oil", "landed", TUESDAY)]
    kind = "CASE file_id WHEN 'derived' THEN 'derived' ELSE 'landed' END"
    assert tiny.query(f"SELECT item_id, {kind}, ds FROM clean.items ORDER BY ds") == known
    (tiny.root / "landing/items/dt=2026-01-06/items.csv").unlink()
    assert tiny.ingest(MONDAY) == MONDAY
    with pytest.raises(SourceError, match="items has vanished"):
        tiny.ingest(TUESDAY)


def test_an_undated_source_has_vanished_however_late_it_came(new_shop: NewShop) -> None:
    tiny = new_shop(sources=with_goods())
    tiny.land("events/a.jsonl", lines(event(1)))
    items = tiny.land("items/items.csv", "i,p\noil,1\n", at=LANDED_AT + timedelta(30))
    assert tiny.ingest() == MONDAY
    items.unlink()
    with pytest.raises(SourceError, match="items has vanished"):
        tiny.ingest()


def test_an_undated_snapshot_counts_at_the_latest_for_the_night_that_reads_it(
    new_shop: NewShop,
) -> None:
    tiny = new_shop(sources=with_goods())
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.land("items/items.csv", "i,p\ntea,1\n")
    tiny.ingest()
    assert tiny.query("SELECT item_id, ds, arrived_at FROM clean.items") == [
        ("tea", MONDAY, LANDED_AT)
    ]


def test_a_corrected_snapshot_of_a_date_counts(new_shop: NewShop) -> None:
    tiny = new_shop(sources=with_goods(arrived=DATED))
    tiny.land("events/a.jsonl", lines(event(1)))
    prices = []
    for price in range(3):
        tiny.land("items/dt=2026-01-05/items.csv", f"i,p\ntea,{10**price}\n")
        tiny.ingest()
        prices += tiny.query("SELECT price FROM clean.items")
    assert prices == [(1.0,), (10.0,), (100.0,)]


def test_two_snapshots_stay_apart(new_shop: NewShop) -> None:
    tiny = new_shop(sources=with_goods(arrived=DATED))
    tiny.land("events/a.jsonl", lines(event(1), event(2, t=NOON + DAY)))
    tiny.land("items/dt=2026-01-05/items.csv", "i,p\ntea,1\n")
    tiny.land("items/dt=2026-01-06/items.csv", "i,p\ntea,2\n")
    tiny.ingest()
    assert tiny.query("SELECT ds, price FROM clean.items ORDER BY ds") == [
        (MONDAY, 1.0), (TUESDAY, 2.0),
    ]  # fmt: skip
