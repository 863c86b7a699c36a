"""Items and users that no file delivers, and the files that a night of the past finds."""

from pathlib import Path

from tasks.backfill.apart import Pins, apart, derive, found
from tasks.lake.tables import Lake
from tests.scenarios.daily import MAPPING, day
from tests.tasks.backfill.conftest import History

SHOWN = """
[impressions]
files = "impressions/dt=*/*.jsonl"
optional = true
format = "jsonl"
arrived = { path = 'dt=(.{10})' }
columns = { request_id = "r", user_id = "u", item_id = "i", position = "p" }
time = { column = "t", unit = "s" }
"""


def has_late(lake: Lake, number: int) -> bool:
    """Whether the items of a date have one that only a late file names."""
    rows = lake.rows(lake.pin("clean.items"), {"ds": day(number)})
    return any("late" in item for item in rows.column("item_id").to_pylist())


def test_what_is_derived_is_what_each_date_knew(shop: History, tmp_path: Path) -> None:
    shop.land(0, 5)
    shop.land_late(5, 2)
    shop.ingest()
    pins = Pins.newest(shop.shop.lake)
    derive(shop.shop, pins, "then", day(4), tmp_path / "own")
    night = apart(shop.shop, pins, "then", day(4), tmp_path / "own")
    assert sorted(night.lake.pin("clean.items").days()) == [day(4)]
    assert not has_late(night.lake, 4)
    derive(shop.shop, pins, "now", day(4), tmp_path / "other")
    night = apart(shop.shop, pins, "now", day(4), tmp_path / "other")
    assert has_late(night.lake, 4)


def test_where_exposure_is_logged_so_are_the_dates_before(shop: History, tmp_path: Path) -> None:
    (shop.root / "mapping.toml").write_text(MAPPING + SHOWN)
    shop.land(0, 5)
    shop.land_late(3, 2)
    shop.ingest()
    pins = Pins.newest(shop.shop.lake)
    derive(shop.shop, pins, "then", day(4), tmp_path / "own")
    lake = apart(shop.shop, pins, "then", day(4), tmp_path / "own").lake
    assert sorted(lake.pin("clean.items").days()) == [day(n) for n in range(5)]
    assert [has_late(lake, n) for n in (2, 3, 4)] == [False, True, True]


def test_a_night_finds_the_files_of_its_time(shop: History, tmp_path: Path) -> None:
    shop.land(0, 5)
    shop.ingest()
    pins = Pins.newest(shop.shop.lake)
    for as_of in ("then", "now"):
        night = apart(shop.shop, pins, as_of, day(2), tmp_path / "own")
        files = found(night, day(2))
        assert files.ds == day(2)
        assert [each.delivered for each in files.files] == [day(0), day(1), day(2)]
