"""What lies in landing/ is what a real shop would send, and the same bytes each time."""

import gzip
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from tests.tasks.sample.conftest import Sample, Write, as_record, tree

DAY_MS = 86_400_000
ITEM_FIELDS = "item_id category product_type brand price in_stock available_from"
EVENT_FIELDS = "event_id user_id item_id event ts request_id session_id device price"
IMPRESSION_FIELDS = (
    "impression_id request_id user_id item_id shown position policy policy_version score "
    "propensity ts device"
)
SMALL = "n_days=4, n_users=300, n_items=120"
WRITE_SMALL = (
    "import sys, pathlib; from tasks.sample import ShopSettings, write_sample; "
    f"write_sample(ShopSettings({SMALL}), pathlib.Path(sys.argv[1]))"
)


def test_same_seed_gives_the_same_bytes(small: Sample, write: Write) -> None:
    again = write(n_days=4, n_users=300, n_items=120)
    assert tree(again.root) == tree(small.root)
    assert again.counts == small.counts


def test_bytes_do_not_depend_on_threads(small: Sample, tmp_path: Path) -> None:
    one = dict.fromkeys(["POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    command = [sys.executable, "-c", WRITE_SMALL, str(tmp_path)]
    subprocess.run(command, check=True, env=os.environ | one, cwd=Path(__file__).parents[3])
    assert tree(tmp_path) == tree(small.root)


def test_other_seed_gives_other_files(small: Sample, write: Write) -> None:
    other = write(n_days=4, n_users=300, n_items=120, seed=2)
    assert tree(other.root / "landing") != tree(small.root / "landing")


def test_each_day_has_its_files(small: Sample) -> None:
    parts = [f"part-{n}.jsonl.gz" for n in range(4)]
    expected = {
        f"{dataset}/dt={day}/{name}"
        for day in small.settings.days
        for dataset, names in {
            "events": parts,
            "impressions": parts,
            "items": ["items.csv"],
            "users": ["users.csv"],
        }.items()
        for name in names
    }
    expected.add("events/dt=2026-01-07/part-1-again.jsonl.gz")
    landed = tree(small.root / "landing")
    assert set(landed) == expected
    assert small.counts.n_files == len(landed)
    assert small.counts.n_bytes == sum(map(len, landed.values()))


def test_gzip_heads_hold_no_time_and_no_name(small: Sample) -> None:
    for name, data in tree(small.root / "landing").items():
        if name.endswith(".gz"):
            assert data[3] == 0, name  # flags: no file name
            assert data[4:8] == b"\0\0\0\0", name  # mtime


def test_one_file_is_delivered_twice(small: Sample) -> None:
    (again,) = (small.root / "landing").rglob("*-again*")
    assert again.read_bytes() == again.with_name("part-1.jsonl.gz").read_bytes()
    dirt = small.truth.table("dirt").filter(kind="file_again")
    n_lines = gzip.decompress(again.read_bytes()).count(b"\n")
    assert dirt.rows() == [("file_again", "events", date(2026, 1, 7), n_lines)]


@pytest.mark.parametrize(
    ("dataset", "names"), [("events", EVENT_FIELDS), ("impressions", IMPRESSION_FIELDS)]
)
def test_sound_lines_have_exactly_the_fields_of_the_contract(
    small: Sample, dataset: str, names: str
) -> None:
    records = [r for _, line in small.lines(dataset) if (r := as_record(line))]
    odd = [r for r in records if list(r) != names.split()]
    assert len(odd) < 0.01 * len(records)
    assert all(set(r) < set(names.split()) for r in odd)


def test_parts_are_quarters_of_the_day(small: Sample) -> None:
    for part in range(4):
        path = small.root / f"landing/impressions/dt=2026-01-06/part-{part}.jsonl.gz"
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        quarters = {r["ts"] % DAY_MS * 4 // DAY_MS for line in lines if (r := as_record(line))}
        assert quarters == {part}


def test_slates_are_whole(small: Sample) -> None:
    shown = small.shown.group_by("request_id").agg("position", pl.col("item_id").n_unique())
    whole = shown.filter(pl.col("position").list.len() == 10)
    assert whole.height > 0.97 * small.counts.n_requests
    assert (whole["item_id"] == 10).all()
    not_shown = small.impressions.filter(~pl.col("shown"))
    assert not_shown["position"].is_null().all()
    assert not_shown["propensity"].is_null().all()
    assert small.shown["propensity"].is_between(0, 1, closed="right").all()


def test_only_items_in_stock_and_arrived_are_shown(default: Sample) -> None:
    eligible = default.truth.table("stock").filter("eligible").select("dt", "item_id")
    dt = pl.from_epoch("ts", time_unit="ms").dt.date().alias("dt")
    logged = default.impressions.with_columns(dt)
    assert logged.height > 500_000
    assert logged.join(eligible, on=["dt", "item_id"], how="anti").is_empty()


def test_catalogue_agrees_with_stock_and_arrival(small: Sample) -> None:
    seen = []
    for day in small.settings.days:
        items = pl.read_csv(small.root / f"landing/items/dt={day}/items.csv", try_parse_dates=True)
        stock = small.truth.table("stock").filter(dt=pl.lit(day))
        assert (items["available_from"] <= day).all()
        in_stock = items.filter("in_stock")["item_id"].to_list()
        assert in_stock == stock.filter("eligible")["item_id"].to_list()
        seen.append(items.height)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    assert items.columns == ITEM_FIELDS.split()


def test_users_are_listed_once_they_have_joined_and_act_only_then(small: Sample) -> None:
    for day in small.settings.days:
        users = pl.read_csv(small.root / f"landing/users/dt={day}/users.csv", try_parse_dates=True)
        assert (users["joined_on"] <= day).all()
        assert users.columns == ["user_id", "age_band", "country", "joined_on"]
    joined = small.truth.table("users").select("user_id", "joined_on")
    acts = small.impressions.join(joined, on="user_id")
    acted_on = acts.select(pl.from_epoch("ts", time_unit="ms").dt.date()).to_series()
    assert (acted_on >= acts["joined_on"]).all()


def test_only_purchases_have_a_price(small: Sample) -> None:
    events = small.events
    is_purchase = events["event"] == "purchase"
    assert (events["price"].is_not_null() == is_purchase).all()
    listed = small.truth.table("items").select("item_id", listed="price")
    paid = events.filter(is_purchase).join(listed, on="item_id")
    assert (paid["price"] == paid["listed"]).all()


def test_events_name_requests_that_were_logged(small: Sample) -> None:
    asked = small.events.filter(pl.col("request_id").is_not_null())
    known = small.impressions.select("request_id", "item_id", "user_id")
    lost = asked.join(known, on=["request_id", "item_id", "user_id"], how="anti")
    assert lost.height < 0.01 * asked.height
