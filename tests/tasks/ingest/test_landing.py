from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import SourceError
from tasks.ingest.landing import arrival, find_files
from tasks.mapping import Mapping
from tasks.settings import check
from tests.tasks.ingest.conftest import DATED, MONDAY, TUESDAY, WEDNESDAY, jsonl_events

IMPRESSIONS = {
    "files": "impressions/dt=*/*.jsonl",
    "format": "jsonl",
    "arrived": DATED,
    "columns": {"request_id": "r", "user_id": "u", "item_id": "i"},
    "time": {"column": "t", "unit": "s"},
}
ITEMS = {"files": "items/**/*.csv", "format": "csv", "columns": {"item_id": "i"}}


def mapping(**sources: Any) -> Mapping:
    meaning = {"positives": {"click": 1}, "seen": ["click"]}
    events = jsonl_events(files="events/dt=*/*.jsonl", arrived=DATED)
    table = {"name": "tiny", "behaviours": meaning, "events": events, **sources}
    return check(Mapping, table, where="test")


def land(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("{}\n")
    return root


def day(number: int, name: str = "a.jsonl", dataset: str = "events") -> str:
    return f"{dataset}/dt=2026-01-0{number}/{name}"


def found(landing: Path, wanted: Mapping) -> list[str]:
    return [file.path for file in find_files(landing, wanted)]


def test_the_glob_chooses_and_the_date_in_the_path_orders(tmp_path: Path) -> None:
    land(
        tmp_path, day(6), day(5, "b.jsonl"), day(5), day(5, "a.csv"), "other/dt=2026-01-05/a.jsonl"
    )
    assert found(tmp_path, mapping()) == [day(5), day(5, "b.jsonl"), day(6)]
    assert [file.delivered for file in find_files(tmp_path, mapping())] == [MONDAY, MONDAY, TUESDAY]


@pytest.mark.parametrize(
    "hidden", [".a.jsonl", "_SUCCESS.jsonl", "_temporary/a.jsonl", ".x/a.jsonl"]
)
def test_hidden_files_and_folders_are_ignored(tmp_path: Path, hidden: str) -> None:
    land(tmp_path, day(5), day(5, hidden))
    everywhere = mapping(events=jsonl_events(files="events/**/*.jsonl", arrived=DATED))
    assert found(tmp_path, everywhere) == [day(5)]


def test_folders_are_no_files(tmp_path: Path) -> None:
    land(tmp_path, day(5), day(5, "folder.jsonl/part"))
    assert found(tmp_path, mapping()) == [day(5)]


def test_an_absent_required_source_is_named(tmp_path: Path) -> None:
    land(tmp_path, day(5))
    with pytest.raises(SourceError, match="no file of impressions has landed"):
        find_files(tmp_path, mapping(impressions=IMPRESSIONS))


def test_an_absent_optional_source_is_none(tmp_path: Path) -> None:
    land(tmp_path, day(5))
    optional = mapping(impressions=IMPRESSIONS | {"optional": True})
    assert arrival(tmp_path, optional, None).ds == MONDAY


def test_events_are_never_optional(tmp_path: Path) -> None:
    optional = mapping(events=jsonl_events(files="events/dt=*/*", arrived=DATED, optional=True))
    with pytest.raises(SourceError, match="no file of events has landed"):
        arrival(tmp_path, optional, None)


@pytest.mark.parametrize(
    ("folder", "problem"), [("dt=2026-13-01", "a date that is none"), ("dt=today", "no date")]
)
def test_a_path_without_a_date_is_named(tmp_path: Path, folder: str, problem: str) -> None:
    land(tmp_path, f"events/{folder}/a.jsonl")
    with pytest.raises(SourceError, match=problem):
        find_files(tmp_path, mapping())


def test_the_night_is_the_newest_whole_date_and_later_ones_wait(tmp_path: Path) -> None:
    land(tmp_path, day(5), day(5, "b.jsonl"), day(6), day(6, "b.jsonl"), day(7))
    two = mapping(events=jsonl_events(files="events/dt=*/*", arrived=DATED, files_per_day=2))
    night = arrival(tmp_path, two, None)
    assert (night.ds, len(night.files)) == (TUESDAY, 4)
    assert night.waiting == ("2026-01-07 waits for events (1 of 2 files)",)


def test_a_gap_before_the_newest_whole_date_does_not_wait(tmp_path: Path) -> None:
    land(tmp_path, day(5), day(7), day(6, dataset="impressions"))
    land(tmp_path, day(5, dataset="impressions"), day(7, dataset="impressions"))
    night = arrival(tmp_path, mapping(impressions=IMPRESSIONS), None)
    assert (night.ds, night.waiting) == (WEDNESDAY, ())


def test_every_dated_source_must_be_whole(tmp_path: Path) -> None:
    land(tmp_path, day(5), day(5, dataset="impressions"), day(6))
    night = arrival(tmp_path, mapping(impressions=IMPRESSIONS), None)
    assert night.ds == MONDAY
    assert night.waiting == ("2026-01-06 waits for impressions (0 of 1 files)",)


def test_an_asked_for_date_takes_the_files_up_to_it(tmp_path: Path) -> None:
    land(tmp_path, day(5), day(6), day(7), "items/items.csv")
    night = arrival(tmp_path, mapping(items=ITEMS), TUESDAY)
    assert night.ds == TUESDAY
    assert [file.path for file in night.files] == ["items/items.csv", day(5), day(6)]


@pytest.mark.parametrize(
    ("ds", "missing"),
    [(TUESDAY, r"impressions \(0 of 1 files\)"), (date(2026, 1, 9), "no file of that date")],
)
def test_an_asked_for_date_that_is_not_whole_is_an_error(
    tmp_path: Path, ds: date, missing: str
) -> None:
    land(tmp_path, day(5), day(5, dataset="impressions"), day(6))
    with pytest.raises(SourceError, match=f"files of {ds} have not all arrived.*{missing}"):
        arrival(tmp_path, mapping(impressions=IMPRESSIONS), ds)


def test_no_whole_date_is_an_error(tmp_path: Path) -> None:
    land(tmp_path, day(5))
    two = mapping(events=jsonl_events(files="events/dt=*/*", arrived=DATED, files_per_day=2))
    with pytest.raises(SourceError, match=r"2026-01-05 .*events \(1 of 2 files\)"):
        arrival(tmp_path, two, None)


def test_undated_events_leave_the_date_open(tmp_path: Path) -> None:
    land(tmp_path, "events/a.jsonl")
    undated = mapping(events=jsonl_events())
    assert arrival(tmp_path, undated, None).ds is None
    assert arrival(tmp_path, undated, MONDAY).ds == MONDAY
