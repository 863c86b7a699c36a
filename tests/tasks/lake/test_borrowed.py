"""What a lake shows of another's tables: as they are now, and as they were known then."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import StorageError
from tasks.lake.borrowed import Borrowed
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.settings import Compute

MONDAY, TUESDAY, WEDNESDAY = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)


def evening(day: date) -> datetime:
    """When a date ends."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def event(
    event_id: str, ds: date, arrived: date, superseded: date | None = None, item: str = "tea"
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("request_id", "session_id", "value", "extra"))
    return row | {
        "event_id": event_id,
        "user_id": "anna",
        "item_id": item,
        "behaviour": "click",
        "occurred_at": evening(ds) - timedelta(hours=5),
        "arrived_at": evening(arrived),
        "superseded_at": None if superseded is None else evening(superseded),
        "file_id": f"f{arrived}",
        "ds": ds,
    }


def item(name: str, ds: date, file_id: str = "f") -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("category", "product_type", "brand", "title", "price"))
    rest = {"available_from": None, "extra": None, "is_in_stock": True}
    return row | rest | {"item_id": name, "arrived_at": evening(ds), "file_id": file_id, "ds": ds}


@pytest.fixture
def main(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "main")
    lake.put(
        "clean.events",
        {"ds": MONDAY},
        [
            event("e1", MONDAY, MONDAY, superseded=WEDNESDAY),
            event("e1", MONDAY, WEDNESDAY, item="oil"),
            event("e2", MONDAY, TUESDAY),
        ],
    )
    lake.put("clean.events", {"ds": TUESDAY}, [event("e3", TUESDAY, WEDNESDAY)])
    lake.put("clean.items", {"ds": MONDAY}, [item("tea", MONDAY)])
    lake.put("clean.items", {"ds": TUESDAY}, [item("tea", TUESDAY, "derived")])
    return lake


def lent(main: Lake, root: Path, close: date | None, by_row: tuple[str, ...] = ()) -> Lake:
    names = ("clean.events", "clean.items", "ops.files")
    versions = {name: main.pin(name).version for name in names}
    closes = {} if close is None else {"events": evening(close), "items": evening(close)}
    return Lake(root, Borrowed(main.root, versions, closes, by_row))


def events(lake: Lake) -> list[Any]:
    with session(lake, Compute(threads=1)) as s:
        s.read("clean.events")
        return s.rows(
            "SELECT event_id, item_id, superseded_at IS NULL FROM clean.events ORDER BY ALL"
        )


def test_now_all_is_known(main: Lake, tmp_path: Path) -> None:
    lake = lent(main, tmp_path / "own", None)
    assert events(lake) == events(main)
    assert str(lake.pin("clean.events")) == str(main.pin("clean.events"))


@pytest.mark.parametrize("by_row", [(), ("events",)])
def test_then_a_later_delivery_is_not_there_and_superseded_nothing(
    main: Lake, tmp_path: Path, by_row: tuple[str, ...]
) -> None:
    def of(close: date) -> tuple[list[Any], list[date]]:
        lake = lent(main, tmp_path / "own", close, by_row)
        return events(lake), sorted(lake.pin("clean.events").days())

    assert of(MONDAY) == ([("e1", "tea", True)], [MONDAY])
    assert of(TUESDAY) == ([("e1", "tea", True), ("e2", "tea", True)], [MONDAY])
    now = [("e1", "oil", True), ("e1", "tea", False), ("e2", "tea", True), ("e3", "tea", True)]
    assert of(WEDNESDAY) == (now, [MONDAY, TUESDAY])


@pytest.mark.parametrize("by_row", [(), ("events",)])
def test_inputs_change_with_what_is_seen_and_with_nothing_else(
    main: Lake, tmp_path: Path, by_row: tuple[str, ...]
) -> None:
    def inputs(close: date | None) -> dict[date, list[str]]:
        return lent(main, tmp_path / "own", close, by_row).pin("clean.events").inputs()

    seen = [inputs(MONDAY)[MONDAY], inputs(TUESDAY)[MONDAY], inputs(WEDNESDAY)[MONDAY]]
    assert len({str(each) for each in seen}) == 3
    assert inputs(WEDNESDAY) == inputs(WEDNESDAY + timedelta(days=9))
    assert inputs(None) == main.pin("clean.events").inputs()


def test_what_was_derived_is_not_lent(main: Lake, tmp_path: Path) -> None:
    for close in (None, WEDNESDAY):
        assert sorted(lent(main, tmp_path / "own", close).pin("clean.items").days()) == [MONDAY]


def test_a_later_version_is_not_seen(main: Lake, tmp_path: Path) -> None:
    lake = lent(main, tmp_path / "own", None)
    main.put("clean.events", {"ds": WEDNESDAY}, [event("e9", WEDNESDAY, WEDNESDAY)])
    assert ("e9", "tea", True) not in events(lake)
    assert ("e9", "tea", True) in events(main)


def test_files_are_known_once_they_have_arrived(main: Lake, tmp_path: Path) -> None:
    rows = [file(name, dataset) for name, dataset in (("a", "events"), ("b", "users"))]
    main.put("ops.files", {"ds": TUESDAY}, rows)
    known = {
        close: [
            row["path"] for row in lake.rows(lake.pin("ops.files"), {"ds": TUESDAY}).to_pylist()
        ]
        for close in (MONDAY, TUESDAY)
        for lake in [lent(main, tmp_path / "own", close)]
    }
    assert known == {MONDAY: ["b"], TUESDAY: ["a", "b"]}  # users have no close here


def file(path: str, dataset: str) -> dict[str, Any]:
    at = evening(TUESDAY)
    counts = {"n_read": 1, "n_clean": 1, "n_duplicate": 0, "n_quarantined": 0, "n_bytes": 1}
    return counts | {
        "file_id": path,
        "dataset": dataset,
        "path": path,
        "content_hash": path,
        "modified_at": at,
        "arrived_at": at,
        "state": "ingested",
        "reason": None,
        "first_ds": TUESDAY,
        "last_ds": TUESDAY,
        "ingested_at": at,
        "mapping_hash": "",
        "key_id": None,
        "run_id": "run",
        "ds": TUESDAY,
    }


def test_what_is_borrowed_is_not_written(main: Lake, tmp_path: Path) -> None:
    lake = lent(main, tmp_path / "own", None)
    with pytest.raises(StorageError, match="borrowed"):
        lake.put("clean.events", {"ds": MONDAY}, [])
    lake.put("clean.users", {"ds": MONDAY}, [])  # its own
    assert not main.path("clean.users").exists()


def test_a_version_that_is_gone_is_told(main: Lake, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "own", Borrowed(main.root, {"clean.events": 99}, {}))
    with pytest.raises(StorageError, match="version 99"):
        lake.pin("clean.events")
