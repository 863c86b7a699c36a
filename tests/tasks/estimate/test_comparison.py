"""Trial lists of two releases against a log of three items, each shown as often."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.estimate.comparison import Lists, compare, compared
from tasks.estimate.log import opened_log
from tasks.lake.tables import Lake
from tasks.mapping import Mapping
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop
from tests.tasks.estimate.test_policies import MAPPING

CUT, SERVED_ON, TONIGHT = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)
ITEMS = ("ink", "oil", "tea")
RATE = {"ink": 2, "oil": 3, "tea": 6}  # clicks in ten slots
N_USERS = 300
CHAMPION = Lists("served", SERVED_ON, "bpr")
CHALLENGER = Lists("tonight", TONIGHT, "bpr")


def user(number: int) -> str:
    return f"u{number:03}"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Every user sees one item on each of two days, drawn with probability 1/3."""
    (tmp_path / "landing").mkdir()
    paths = Paths(landing=tmp_path / "landing", lake=tmp_path / "lake")
    made = Shop(Settings(paths=paths), check(Mapping, MAPPING, where="test"))
    for day in (CUT, SERVED_ON, TONIGHT):
        made.lake.put(
            "clean.items",
            {"ds": day},
            [{"item_id": i, "is_in_stock": True, "ds": day} for i in ITEMS],
        )
        made.lake.put(
            "features.feedback_daily", {"ds": day}, [slot(n, day) for n in range(N_USERS)]
        )
    people = [
        {"user_id": user(n), "ds": TONIGHT, "country": "fi" if n < 250 else "se"}
        for n in range(N_USERS)
    ]
    made.lake.put("clean.users", {"ds": TONIGHT}, people)
    did = {"item_id": "tea", "behaviour": "click", "ds": CUT}
    events = [did | {"user_id": user(n), "n_events": n % 3 + 1} for n in range(N_USERS)]
    made.lake.put("features.behaviours_daily", {"ds": CUT}, events)
    return made


def slot(number: int, day: date) -> dict[str, Any]:
    item = ITEMS[(number + day.day) % 3]
    return {
        "impression_id": f"{day}-{number}",
        "request_id": f"{day}-{number}",
        "user_id": user(number),
        "item_id": item,
        "position": 1,
        "policy": "uniform",
        "p_logged": 1 / 3,
        "behaviours": ["click"] if (number // 3) % 10 < RATE[item] else [],
        "ds": day,
    }


def lay_down(
    lake: Lake,
    lists: Lists,
    items: list[str],
    users: range = range(N_USERS),
    cut: date = CUT,
) -> None:
    rows = [
        {
            "user_id": user(n),
            "rank": rank,
            "item_id": item,
            "score": 1.0 / rank,
            "cut": cut,
            "ds": lists.ds,
            "release_id": lists.release_id,
            "model": lists.model,
        }
        for n in users
        for rank, item in enumerate(items, 1)
    ]
    where: Any = {"ds": lists.ds, "release_id": lists.release_id, "model": lists.model}
    lake.put("serve.trials", where, rows)


def take(lake: Lake, item: str, day: date = TONIGHT) -> None:
    """A hundred users take an item in the last minute of a day of the holdout."""
    rows = [
        {
            "user_id": user(n),
            "item_id": item,
            "weight": 1.0,
            "n_events": 1,
            "last_at": datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC),
            "is_new": True,
            "ds": TONIGHT,
        }
        for n in range(100)
    ]
    lake.put("train.holdout", {"ds": TONIGHT}, rows)


def told(shop: Shop) -> dict[tuple[str, str], dict[str, Any]]:
    """The comparisons by estimator and segment."""
    with opened_log(shop, TONIGHT) as log:
        rows = list(compared(log, CHALLENGER, CHAMPION))
    return {(row["estimator"], row["segment"]): row for row in rows}


def test_the_change_is_that_of_what_the_lists_would_earn(shop: Shop) -> None:
    """Tea is clicked in 60 % of its slots, oil in 30 %, oil and ink in 25 %."""
    lay_down(shop.lake, CHAMPION, ["oil", "ink"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    found = told(shop)
    for estimator in ("ips", "snips", "dr"):
        row = found[estimator, "all"]
        assert row["value"] == pytest.approx(0.6, abs=0.02)
        assert row["champion_value"] == pytest.approx(0.25, abs=0.02)
        assert row["change"] == pytest.approx(0.6 / 0.25 - 1, abs=0.15)
        assert row["lower"] < row["change"] < row["upper"]
    assert (found["dr", "all"]["n_slots"], found["dr", "all"]["n_users"]) == (600, 300)
    assert (found["dr", "all"]["reward"], found["dr", "all"]["cut"]) == ("click", CUT)


def test_equal_lists_do_not_change_and_have_no_spread(shop: Shop) -> None:
    for lists in (CHAMPION, CHALLENGER):
        lay_down(shop.lake, lists, ["tea", "oil"])
    for row in told(shop).values():
        if row["segment"] == "all" and row["estimator"] != "time_split":
            assert row["change"] == 0
            assert row["se"] == 0


def test_only_slots_after_the_cut_count(shop: Shop) -> None:
    """Before it every slot led to a click, which says nothing about the lists."""
    clicked = [slot(n, CUT) | {"behaviours": ["click"]} for n in range(N_USERS)]
    shop.lake.put("features.feedback_daily", {"ds": CUT}, clicked)
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    assert told(shop)["snips", "all"]["value"] == pytest.approx(0.6, abs=0.02)


def test_segments_have_comparisons_of_their_own(shop: Shop) -> None:
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    found = told(shop)
    assert found["dr", "fi"]["n_users"] == 250
    assert found["dr", "fi"]["segment_kind"] == "country"
    assert ("snips", "fi") not in found
    assert {row["segment"] for row in found.values() if row["segment_kind"] == "activity"} == {
        "least",
        "middle",
        "most",
    }


def test_a_small_segment_has_none(shop: Shop) -> None:
    people = [{"user_id": user(n), "ds": TONIGHT, "country": "no"} for n in range(29)]
    shop.lake.put("clean.users", {"ds": TONIGHT}, people)
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    assert ("dr", "no") not in told(shop)


def test_users_whom_only_one_serves_are_left_out(shop: Shop) -> None:
    lay_down(shop.lake, CHAMPION, ["oil"], range(200))
    lay_down(shop.lake, CHALLENGER, ["tea"])
    assert told(shop)["dr", "all"]["n_users"] == 200


def test_users_the_model_does_not_know_have_the_cold_models_list(shop: Shop) -> None:
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"], range(150))
    lay_down(shop.lake, Lists("tonight", TONIGHT, "popularity"), ["ink"])
    value = told(shop)["snips", "all"]["value"]
    assert value == pytest.approx((0.6 + 0.2) / 2, abs=0.04)


def test_the_time_split_is_ndcg_of_both_lists(shop: Shop) -> None:
    """Everybody takes tea and nothing else: at rank 1 it gains 1, at rank 2 1 / log2(3)."""
    take(shop.lake, "tea")
    lay_down(shop.lake, CHAMPION, ["oil", "tea"])
    lay_down(shop.lake, CHALLENGER, ["tea", "oil"])
    row = told(shop)["time_split", "all"]
    assert (row["value"], row["n_users"], row["reward"]) == (1.0, 100, "ndcg")
    assert row["champion_value"] == pytest.approx(0.63093, abs=1e-5)
    assert row["change"] == pytest.approx(1 / 0.63093 - 1, abs=1e-4)


def test_without_logged_probabilities_there_is_the_time_split_alone(shop: Shop) -> None:
    for day in (CUT, SERVED_ON, TONIGHT):
        blind = [slot(n, day) | {"p_logged": None} for n in range(N_USERS)]
        shop.lake.put("features.feedback_daily", {"ds": day}, blind)
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    found = told(shop)
    assert {estimator for estimator, _ in found} == {"time_split"}
    assert found["time_split", "all"]["verdict"] == "no overlap"
    assert found["time_split", "all"]["change"] is None


def test_too_few_slots_say_nothing(shop: Shop) -> None:
    for day in (CUT, SERVED_ON, TONIGHT):
        shop.lake.put("features.feedback_daily", {"ds": day}, [slot(n, day) for n in range(40)])
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    row = told(shop)["dr", "all"]
    assert (row["verdict"], row["change"], row["value"]) == ("no overlap", None, None)


def test_a_release_without_trial_lists_is_compared_with_nothing(shop: Shop) -> None:
    lay_down(shop.lake, CHALLENGER, ["tea"])
    written = compare(shop, TONIGHT, "tonight", ["bpr"], "bpr", CHAMPION)
    assert written.rows == 0


def test_every_model_of_the_night_is_compared_and_written(shop: Shop) -> None:
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    lay_down(shop.lake, Lists("tonight", TONIGHT, "popularity"), ["ink"])
    for _ in range(2):  # safe to run again
        compare(shop, TONIGHT, "tonight", ["popularity", "bpr"], "bpr", CHAMPION)
    rows = shop.lake.rows(
        shop.lake.pin("serve.comparisons"), {"ds": TONIGHT, "release_id": "tonight"}
    ).to_pylist()
    overall = {
        row["model"]: row for row in rows if (row["estimator"], row["segment"]) == ("dr", "all")
    }
    assert overall["bpr"]["is_candidate"]
    assert not overall["popularity"]["is_candidate"]
    assert overall["bpr"]["change"] > 0 > overall["popularity"]["change"]
    assert overall["bpr"]["champion_release"] == "served"


def test_nothing_served_gives_no_row(shop: Shop) -> None:
    lay_down(shop.lake, CHALLENGER, ["tea"])
    assert compare(shop, TONIGHT, "tonight", ["bpr"], "bpr", None).rows == 0


def test_a_few_users_say_nothing_however_many_slots_they_have(shop: Shop) -> None:
    """Twenty of them have fifteen slots a day each."""
    for day in (CUT, SERVED_ON, TONIGHT):
        busy = [slot(n, day) | {"user_id": user(n % 20)} for n in range(N_USERS)]
        shop.lake.put("features.feedback_daily", {"ds": day}, busy)
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    row = told(shop)["dr", "all"]
    assert (row["n_users"], row["n_slots"]) == (20, 600)
    assert (row["verdict"], row["change"]) == ("no overlap", None)


def test_one_user_who_has_most_slots_is_not_many(shop: Shop) -> None:
    for day in (CUT, SERVED_ON, TONIGHT):
        busy = [slot(n, day) | {"user_id": user(n if n < 50 else 0)} for n in range(N_USERS)]
        shop.lake.put("features.feedback_daily", {"ds": day}, busy)
    lay_down(shop.lake, CHAMPION, ["oil"])
    lay_down(shop.lake, CHALLENGER, ["tea"])
    assert told(shop)["dr", "all"]["change"] is None


def test_lists_of_different_length_are_compared_by_what_both_have(shop: Shop) -> None:
    """K was 1: that today's lists go on with what is liked less is no loss, and no gain."""
    take(shop.lake, "ink")
    lay_down(shop.lake, CHAMPION, ["tea"])
    lay_down(shop.lake, CHALLENGER, ["tea", "ink"])
    found = told(shop)
    assert found["dr", "all"]["change"] == 0
    assert found["time_split", "all"]["value"] == 0


def test_no_slot_that_either_model_learnt_from_counts(shop: Shop) -> None:
    """The holdout was shorter when the champion was trained: it knew a day more."""
    clicked = [slot(n, SERVED_ON) | {"behaviours": ["click"]} for n in range(N_USERS)]
    shop.lake.put("features.feedback_daily", {"ds": SERVED_ON}, clicked)
    take(shop.lake, "oil", SERVED_ON)
    lay_down(shop.lake, CHAMPION, ["oil"], cut=SERVED_ON)
    lay_down(shop.lake, CHALLENGER, ["tea"])
    found = told(shop)
    assert found["time_split", "all"]["n_users"] == 0
    row = found["snips", "all"]
    assert row["cut"] == SERVED_ON
    assert (row["n_slots"], row["value"]) == (N_USERS, pytest.approx(0.6, abs=0.02))
