"""Files read again after a mapping was mended, and deliveries taken back."""

from datetime import timedelta
from typing import Any

import pytest

import sql
from tasks.errors import UsageError
from tasks.ingest import mend
from tasks.ingest.mend import Reread, replay, withdraw
from tests.tasks.ingest.conftest import (
    DATED,
    LANDED_AT,
    NOON,
    NewShop,
    TinyShop,
    event,
    jsonl_events,
    lines,
)
from tests.tasks.ingest.test_load import ITEMS

LATER = LANDED_AT + timedelta(hours=1)
SOLD = {"column": "b", "values": {"click": "click", "buy": "purchase", "sold": "purchase"}}


def accounts(tiny: TinyShop) -> dict[str, tuple[int, ...]]:
    """By path: n_clean, n_duplicate, n_quarantined, n_withdrawn now; they are what is there."""
    rows = tiny.query(
        "SELECT path, n_clean, n_duplicate, n_quarantined, n_withdrawn, file_id "
        f"FROM ({sql.read_table('ops.accounts')})"
    )
    for path, n_clean, _, n_quarantined, _, file_id in rows:
        here = tiny.query(f"SELECT count(*) FROM clean.events WHERE file_id = '{file_id}'")[0][0]
        items = tiny.query(f"SELECT count(*) FROM clean.items WHERE file_id = '{file_id}'")[0][0]
        bad = tiny.query(f"SELECT count(*) FROM ops.quarantine WHERE file_id = '{file_id}'")[0][0]
        assert (here + items, bad) == (n_clean, n_quarantined), path
    return {row[0]: row[1:5] for row in rows}


def moves(tiny: TinyShop) -> list[Any]:
    return tiny.query(
        "SELECT path, from_place, to_place, n_rows FROM ops.row_moves "
        "ORDER BY moved_at, path, to_place"
    )


def mended(tiny: TinyShop) -> TinyShop:
    tiny.sources = {"events": jsonl_events(behaviour=SOLD)}
    return tiny


def test_replay_takes_what_fits_now(tiny: TinyShop) -> None:
    sold = event(2, b="sold")
    tiny.land("events/a.jsonl", lines(event(1), sold, sold, "{"))
    tiny.land("events/b.jsonl", lines(event(3)))
    tiny.ingest()
    assert accounts(tiny)["events/a.jsonl"] == (1, 0, 3, 0)
    assert replay(mended(tiny).shop, "again") == [Reread("events", "events/a.jsonl", 3, 1)]
    assert [row[0] for row in tiny.events()] == ["e1", "e2", "e3"]
    assert tiny.misfits() == [("events/a.jsonl", 4, "not a JSON object")]
    assert tiny.counts()["events/a.jsonl"] == ("ingested", 4, 1, 0, 3)
    assert accounts(tiny)["events/a.jsonl"] == (2, 1, 1, 0)
    assert moves(tiny) == [
        ("events/a.jsonl", "quarantined", "clean", 1),
        ("events/a.jsonl", "quarantined", "duplicate", 1),
    ]


def test_replay_twice_and_the_next_night_move_nothing_more(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1), event(2, b="sold")))
    tiny.ingest()
    replay(mended(tiny).shop, "again")
    before = tiny.tables()
    replay(tiny.shop, "and again")
    tiny.ingest()
    assert tiny.tables() == before


def test_replay_tells_of_files_that_are_gone_or_changed(tiny: TinyShop) -> None:
    for name in "abc":
        tiny.land(f"events/{name}.jsonl", lines(event(1), event(ord(name), b="sold")))
    tiny.ingest()
    (tiny.shop.landing / "events/a.jsonl").unlink()
    tiny.land("events/b.jsonl", lines(event(7)))
    found = {each.path: each for each in replay(mended(tiny).shop, "again")}
    assert found["events/a.jsonl"].problem == "the file is gone"
    assert "changed since" in str(found["events/b.jsonl"].problem)
    assert (found["events/c.jsonl"].problem, found["events/c.jsonl"].n_now) == (None, 0)
    assert [row[:2] for row in tiny.misfits()] == [("events/a.jsonl", 2), ("events/b.jsonl", 2)]


def test_replay_reads_refused_files_too(tiny: TinyShop) -> None:
    tiny.sources = {"events": jsonl_events(files="events/*", format="auto")}
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.land("events/b.log", lines(event(2)))
    tiny.ingest()
    tiny.sources = {"events": jsonl_events(files="events/*")}
    replay(tiny.shop, "again")
    assert [row[0] for row in tiny.events()] == ["e1", "e2"]
    assert tiny.counts()["events/b.log"] == ("ingested", 1, 1, 0, 0)


def test_withdrawing_a_correction_brings_back_what_it_superseded(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1), event(2)))
    tiny.ingest()
    before = tiny.events("* EXCLUDE (file_id)")
    tiny.land("events/wrong.jsonl", lines(event(1, i="oil"), event(9), "{"), LATER)
    tiny.ingest()
    (taken,) = withdraw(tiny.shop, "events/wrong.jsonl", "back")
    assert (taken.n_clean, taken.n_quarantined) == (2, 1)
    assert tiny.events("* EXCLUDE (file_id)") == before
    assert tiny.misfits() == []
    assert accounts(tiny)["events/wrong.jsonl"] == (0, 0, 0, 3)
    assert tiny.counts()["events/wrong.jsonl"] == ("withdrawn", 3, 2, 0, 1)


def test_what_was_dropped_as_a_duplicate_of_a_withdrawn_record_comes_back(tiny: TinyShop) -> None:
    tiny.land("events/wrong.jsonl", lines(event(1), event(2)))
    tiny.ingest()
    tiny.land("events/right.jsonl", lines(event(1), event(3)), LATER)
    tiny.ingest()
    assert accounts(tiny)["events/right.jsonl"] == (1, 1, 0, 0)
    (taken,) = withdraw(tiny.shop, str(tiny.shop.landing / "events/wrong.jsonl"), "back")
    assert taken.restored == (Reread("events", "events/right.jsonl", 1, 0),)
    assert [row[0] for row in tiny.events()] == ["e1", "e3"]
    assert accounts(tiny)["events/right.jsonl"] == (2, 0, 0, 0)


def test_a_withdrawn_file_stays_away_until_it_changes(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.land("events/b.jsonl", lines(event(2)))
    tiny.ingest()
    withdraw(tiny.shop, "events/b.jsonl", "back")
    mended(tiny).land("events/b.jsonl", lines(event(2)), LATER)
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1"]
    tiny.land("events/b.jsonl", lines(event(3)), LATER)
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1", "e3"]


@pytest.mark.parametrize("copied", ["before", "after"])
def test_a_file_moved_to_the_right_folder_is_taken_from_there(tiny: TinyShop, copied: str) -> None:
    """First delivered to a wrong place, which is withdrawn."""
    tiny.sources = {"events": jsonl_events(arrived=DATED)}
    tiny.land("events/dt=2026-01-06/a.jsonl", lines(event(1)))
    tiny.ingest()
    if copied == "before":
        tiny.land("events/dt=2026-01-05/a.jsonl", lines(event(1)))
        tiny.ingest()
    withdraw(tiny.shop, "events/dt=2026-01-06/a.jsonl", "back")
    tiny.land("events/dt=2026-01-05/a.jsonl", lines(event(1)))
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1"]
    assert tiny.counts()["events/dt=2026-01-05/a.jsonl"] == ("ingested", 1, 1, 0, 0)


def test_a_duplicate_comes_back_whatever_else_its_file_holds(tiny: TinyShop) -> None:
    tiny.land("events/wrong.jsonl", lines(event(1), event(2)))
    tiny.ingest()
    tiny.land("events/right.jsonl", lines(event(1), event(3, t=NOON + 2 * 86_400)), LATER)
    tiny.ingest()
    withdraw(tiny.shop, "events/wrong.jsonl", "back")
    assert [row[0] for row in tiny.events()] == ["e1", "e3"]


def test_a_file_whose_day_of_delivery_changes_stays_one(tiny: TinyShop) -> None:
    """Touched on another day while its mapping was mended, or its date is now in its path."""
    tiny.land("events/dt=2026-01-05/a.jsonl", lines(event(1), event(2, b="sold")))
    tiny.ingest()
    mended(tiny).land("events/dt=2026-01-05/a.jsonl", lines(event(1), event(2, b="sold")), LATER)
    tiny.ingest()
    assert accounts(tiny) == {"events/dt=2026-01-05/a.jsonl": (2, 0, 0, 0)}
    assert tiny.misfits() == []
    tiny.sources["events"]["arrived"] = DATED
    tiny.ingest()
    assert accounts(tiny) == {"events/dt=2026-01-05/a.jsonl": (2, 0, 0, 0)}
    withdraw(tiny.shop, "events/dt=2026-01-05/a.jsonl", "back")
    replay(tiny.shop, "again")
    assert tiny.events() == []


def test_a_dataset_that_left_the_mapping_cannot_be_withdrawn(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": jsonl_events(), "items": ITEMS})
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.land("items/a.csv", "i,p\ntea,1\n")
    tiny.ingest()
    del tiny.sources["items"]
    with pytest.raises(UsageError, match="is of items"):
        withdraw(tiny.shop, "items/a.csv", "back")


def test_a_path_may_be_given_as_the_shell_completes_it(
    tiny: TinyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.ingest()
    monkeypatch.chdir(tiny.root)
    assert [taken.n_clean for taken in withdraw(tiny.shop, "landing/events/a.jsonl", "back")] == [1]


def test_withdrawing_a_snapshot_brings_back_the_one_before(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": jsonl_events(), "items": ITEMS})
    tiny.land("events/a.jsonl", lines(event(1)))
    tiny.land("items/a.csv", "i,p\ntea,1\noil,2\n")
    tiny.ingest()
    tiny.land("items/b.csv", "i,p\ntea,9\n", LATER)
    tiny.ingest()
    assert accounts(tiny)["items/a.csv"] == (1, 1, 0, 0)
    withdraw(tiny.shop, "items/b.csv", "back")
    assert tiny.query("SELECT item_id, price FROM clean.items ORDER BY ALL") == [
        ("oil", 2.0), ("tea", 1.0),
    ]  # fmt: skip
    assert accounts(tiny)["items/a.csv"] == (2, 0, 0, 0)


@pytest.mark.parametrize("at", ["_without", "_read_again", "add_moves"])
def test_a_killed_withdrawal_is_finished_by_the_next_night(
    new_shop: NewShop, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    whole, killed = new_shop(), new_shop()
    for tiny in (whole, killed):
        tiny.land("events/wrong.jsonl", lines(event(1), event(2), "{"))
        tiny.ingest()
        tiny.land("events/right.jsonl", lines(event(1)), LATER)
        tiny.ingest()
    withdraw(whole.shop, "events/wrong.jsonl", "back")
    whole.ingest()

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mend, at, kill)
        with pytest.raises(KeyboardInterrupt):
            withdraw(killed.shop, "events/wrong.jsonl", "back")
    killed.ingest()
    assert killed.tables() == whole.tables()


def test_what_cannot_be_withdrawn(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1, t=NOON)))
    tiny.ingest()
    tiny.land("events/b.jsonl", lines(event(1, t=NOON)))
    tiny.ingest()
    with pytest.raises(UsageError, match="no delivery of events/none"):
        withdraw(tiny.shop, "events/none.jsonl", "back")
    with pytest.raises(UsageError, match="only repeats another file"):
        withdraw(tiny.shop, "events/b.jsonl", "back")
    withdraw(tiny.shop, "events/a.jsonl", "back")
    with pytest.raises(UsageError, match="withdrawn already"):
        withdraw(tiny.shop, "events/a.jsonl", "back")
