"""Which file a landed file is: returned to what it was, renamed, copied, mended in its mapping."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.disk import on_disk
from tests.tasks.ingest.conftest import (
    DATED,
    LANDED_AT,
    MONDAY,
    NOON,
    NewShop,
    TinyShop,
    csv_events,
    event,
    lines,
)


@pytest.mark.parametrize("is_young", [True, False], ids=["young", "old"])
def test_a_file_that_changes_within_the_second_in_which_it_was_read(
    tiny: TinyShop, is_young: bool
) -> None:
    """Times of stores are whole seconds, so neither size nor time need tell of a young file."""
    at = datetime.now(UTC).replace(microsecond=0) if is_young else LANDED_AT
    for item in ("tea", "oil"):
        tiny.land("events/a.jsonl", lines(event(1, i=item)), at)
        tiny.ingest()
    current = "SELECT item_id FROM clean.events WHERE superseded_at IS NULL"
    assert tiny.query(current) == [("oil" if is_young else "tea",)]


def csv_shop(new_shop: NewShop, **source: Any) -> TinyShop:
    return new_shop(sources={"events": csv_events(**source)})


def test_a_file_that_returns_to_what_it_was_has_the_last_word(tiny: TinyShop) -> None:
    for number, item in enumerate(("tea", "oil", "tea", "tea")):
        tiny.land("events/a.jsonl", lines(event(1, i=item)), LANDED_AT + timedelta(hours=number))
        tiny.ingest()
    current = "SELECT item_id FROM clean.events WHERE superseded_at IS NULL"
    assert tiny.query(current) == [("tea",)]
    assert len(tiny.events()) == 3


def test_a_returned_file_whose_mapping_was_mended_is_read_as_what_it_is_now(tiny: TinyShop) -> None:
    for number, item in enumerate(("tea", "oil", "tea")):
        content = lines(event(1, i=item, v=3))
        tiny.land("events/a.jsonl", content, LANDED_AT + timedelta(hours=number))
        tiny.ingest()
    tiny.sources["events"]["columns"]["value"] = "v"
    tiny.ingest()
    readings = tiny.query("SELECT item_id, value FROM clean.events ORDER BY arrived_at, value")
    assert readings == [("tea", None), ("oil", None), ("tea", 3.0)]
    written = tiny.shop.lake.pin("ops.files").version
    tiny.ingest()
    assert tiny.shop.lake.pin("ops.files").version == written


def test_a_renamed_file_whose_mapping_was_mended_is_one_file(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop)
    content = f"u,i,t,v\nanna,tea,{NOON},3\n,tea,{NOON},3\n"
    path = tiny.land("events/a.csv", content)
    tiny.ingest()
    path.unlink()
    tiny.land("events/b.csv", content)
    tiny.sources["events"]["columns"]["value"] = "v"
    tiny.ingest()
    assert tiny.query("SELECT user_id, value FROM clean.events") == [("anna", 3.0)]
    assert tiny.counts() == {"events/b.csv": ("ingested", 2, 1, 0, 1)}
    assert [row[0] for row in tiny.misfits()] == ["events/b.csv"]


def test_a_renamed_file_whose_mapping_was_mended_again_is_still_one_file(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop)
    content = f"u,i,t,v,w\nanna,tea,{NOON},3,4\n"
    tiny.land("events/a.csv", content)
    tiny.ingest()
    landing = on_disk(tiny.shop.landing)
    (landing / "events/a.csv").rename(landing / "events/b.csv")
    for column in ("v", "w"):
        tiny.sources["events"]["columns"]["value"] = column
        tiny.ingest()
    assert tiny.query("SELECT user_id, value FROM clean.events") == [("anna", 4.0)]
    assert tiny.query("SELECT path, n_clean FROM ops.files") == [("events/b.csv", 1)]


def test_the_old_name_of_a_renamed_file_has_an_account_of_its_own(new_shop: NewShop) -> None:
    """The renamed file kept the id that was made from the old name."""
    tiny = csv_shop(new_shop)
    content = f"u,i,t,v\nanna,tea,{NOON},3\n"
    tiny.land("events/a.csv", content)
    tiny.ingest()
    landing = on_disk(tiny.shop.landing)
    (landing / "events/a.csv").rename(landing / "events/b.csv")
    tiny.sources["events"]["columns"]["value"] = "v"
    tiny.ingest()
    tiny.land("events/a.csv", content)
    for _ in range(2):
        tiny.ingest()
        assert tiny.query("SELECT path, state, n_clean FROM ops.files ORDER BY path") == [
            ("events/a.csv", "repeated", 0),
            ("events/b.csv", "ingested", 1),
        ]
    assert tiny.query("SELECT user_id, value FROM clean.events") == [("anna", 3.0)]


def test_an_older_night_takes_no_later_file_for_a_renamed_one(new_shop: NewShop) -> None:
    """The later file is still there, only not of that night."""
    tiny = csv_shop(new_shop, arrived=DATED)
    content = f"u,i,t,v\nanna,tea,{NOON},3\n"
    tiny.land("events/dt=2026-01-07/a.csv", content)
    tiny.ingest()
    tiny.land("events/dt=2026-01-05/a.csv", content)
    tiny.sources["events"]["columns"]["value"] = "v"
    tiny.ingest(MONDAY)
    assert set(tiny.counts()) == {"events/dt=2026-01-05/a.csv", "events/dt=2026-01-07/a.csv"}
