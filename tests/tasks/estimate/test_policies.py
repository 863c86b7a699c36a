"""Sums of stated policies over a log of a few requests, counted by hand."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.estimate.log import opened_log
from tasks.estimate.policies import POPULARITY, UNIFORM, Stated, estimate, impute, sums_of
from tasks.estimate.values import UserSums
from tasks.lake.tables import Lake
from tasks.mapping import Mapping
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop

MONDAY = date(2026, 1, 5)
ITEMS = ("ink", "oil", "tea", "wax")
MAPPING = {
    "name": "tiny",
    "behaviours": {"positives": {"click": 1}, "seen": ["click"]},
    "events": {
        "files": "*.jsonl",
        "columns": {"user_id": "u", "item_id": "i"},
        "time": {"column": "t"},
        "behaviour": {"always": "click"},
    },
}
ONLY_TEA_FOR_ANNA = Stated(
    name="tea",
    states="anna gets tea, the others anything",
    item_weights="SELECT DISTINCT item_id, 1.0 AS weight FROM clean.items",
    user_weights="SELECT 'anna' AS user_id, 'tea' AS item_id, 97.0 AS weight",
)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Four items, of which wax is out of stock."""
    (tmp_path / "landing").mkdir()
    paths = Paths(landing=tmp_path / "landing", lake=tmp_path / "lake")
    made = Shop(Settings(paths=paths), check(Mapping, MAPPING, where="test"))
    items = [{"item_id": item, "is_in_stock": item != "wax"} for item in ITEMS]
    put(made.lake, "clean.items", items)
    return made


def put(lake: Lake, name: str, rows: list[dict[str, Any]]) -> None:
    lake.put(name, {"ds": MONDAY}, [{"ds": MONDAY} | row for row in rows])


def request(number: int, user: str, *slots: tuple[str, float | None, bool]) -> list[dict[str, Any]]:
    """A request's slots from the top: item, logged probability, clicked."""
    return [
        {
            "impression_id": f"{number}-{position}",
            "request_id": f"r{number}",
            "user_id": user,
            "item_id": item,
            "position": position,
            "p_logged": p,
            "behaviours": ["click"] if clicked else [],
        }
        for position, (item, p, clicked) in enumerate(slots, 1)
    ]


def log(lake: Lake, *requests: list[dict[str, Any]]) -> None:
    put(lake, "features.feedback_daily", [slot for each in requests for slot in each])


def summed(shop: Shop, policy: Stated) -> dict[str, UserSums]:
    with opened_log(shop, MONDAY) as opened:
        impute(opened, "click")
        return sums_of(opened, policy, "click")


def estimated(shop: Shop) -> list[dict[str, Any]]:
    with opened_log(shop, MONDAY) as opened:
        estimate(opened)
    rows = shop.lake.rows(shop.lake.pin("train.policy_values"), {"ds": MONDAY})
    return list(rows.to_pylist())


def test_weights_are_of_what_is_free_below_what_stands_above(shop: Shop) -> None:
    """Three items are eligible: 1/3 at the top, 1/2 below."""
    log(shop.lake, request(1, "anna", ("tea", 0.5, True), ("oil", 0.25, False)))
    found = summed(shop, UNIFORM)
    assert found["first position"].w.tolist() == [pytest.approx(1 / 3 / 0.5)]
    assert found["all positions"].w.tolist() == [pytest.approx(1 / 3 / 0.5 + 1 / 2 / 0.25)]
    assert found["all positions"].wy.tolist() == [pytest.approx(1 / 3 / 0.5)]
    assert found["all positions"].w_max == pytest.approx(2)
    assert (found["all positions"].n.tolist(), found["all positions"].y.tolist()) == ([2], [1])


def test_what_is_out_of_stock_has_no_weight(shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("wax", 0.5, True), ("oil", 0.5, True)))
    found = summed(shop, UNIFORM)
    assert found["first position"].w.tolist() == [0]
    assert found["all positions"].w.tolist() == [pytest.approx(1 / 3 / 0.5)]


def test_slots_without_a_logged_probability_stand_above_others(shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("tea", None, True), ("oil", 0.25, False)))
    found = summed(shop, UNIFORM)["all positions"]
    assert (found.n.tolist(), found.w.tolist()) == ([1], [pytest.approx(1 / 2 / 0.25)])


def test_a_user_has_own_weights(shop: Shop) -> None:
    log(
        shop.lake,
        request(1, "anna", ("tea", 0.5, True)),
        request(2, "bob", ("tea", 0.5, True)),
    )
    found = summed(shop, ONLY_TEA_FOR_ANNA)["all positions"]
    assert found.w.tolist() == [pytest.approx(98 / 100 / 0.5), pytest.approx(1 / 3 / 0.5)]


def test_nothing_free_gives_no_weight_and_no_nan(shop: Shop) -> None:
    """All three eligible items above, and a fourth below that is not eligible."""
    slots = [("tea", 0.3, False), ("oil", 0.5, False), ("ink", 1.0, True), ("wax", 1.0, True)]
    log(shop.lake, request(1, "anna", *slots))
    found = summed(shop, UNIFORM)["all positions"]
    assert found.n.tolist() == [4]
    for name in ("w", "wy", "ww", "dr"):
        assert np.isfinite(getattr(found, name)).all(), name


def test_an_item_that_stands_above_is_not_free_again(shop: Shop) -> None:
    """Two of three items are left below tea, however often the request lists it."""
    slots = [("tea", 0.5, True), ("tea", 0.5, True), ("oil", 0.25, False)]
    log(shop.lake, request(1, "anna", *slots))
    found = summed(shop, UNIFORM)["all positions"]
    assert found.w.tolist() == [pytest.approx(1 / 3 / 0.5 + 0 + 1 / 2 / 0.25)]
    assert found.n.tolist() == [3]


def test_a_request_that_was_logged_twice_does_not_count_twice(shop: Shop) -> None:
    once = request(1, "anna", ("tea", 0.5, True), ("oil", 0.25, False))
    again = [slot | {"impression_id": f"again-{slot['impression_id']}"} for slot in once]
    log(shop.lake, once, again)
    found = summed(shop, UNIFORM)["all positions"]
    assert found.w.tolist() == [pytest.approx(1 / 3 / 0.5 + 1 / 2 / 0.25)]
    assert found.wy.tolist() == [pytest.approx(1 / 3 / 0.5)]


def test_slots_of_a_date_on_which_nothing_could_be_shown_have_no_weight(shop: Shop) -> None:
    put(shop.lake, "clean.items", [{"item_id": item, "is_in_stock": False} for item in ITEMS])
    log(shop.lake, request(1, "anna", ("tea", 0.5, True)))
    found = summed(shop, UNIFORM)["all positions"]
    assert (found.n.tolist(), found.y.tolist(), found.w.tolist()) == ([1], [1], [0])
    assert found.dr.tolist() == [0]


def test_popularity_weighs_by_the_root_of_events(shop: Shop) -> None:
    shown = {"behaviour": "impression", "n_events": 99}
    clicked = {"item_id": "tea", "behaviour": "click", "n_events": 8}
    put(shop.lake, "features.popularity_daily", [clicked, {"item_id": "oil", **shown}])
    log(shop.lake, request(1, "anna", ("tea", 0.6, True)))
    assert summed(shop, POPULARITY)["all positions"].w.tolist() == [pytest.approx(3 / 5 / 0.6)]


def test_no_logged_probability_gives_no_row(shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("tea", None, True)))
    assert estimated(shop) == []


def test_few_slots_give_a_verdict_and_no_value(shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("tea", 0.5, True)))
    rows = estimated(shop)
    assert {row["verdict"] for row in rows} == {"no overlap"}
    assert {row["value"] for row in rows if row["estimator"] != "naive"} == {None}
    assert {row["value"] for row in rows if row["estimator"] == "naive"} == {1.0}


def many(p: float, n: int = 300) -> list[list[dict[str, Any]]]:
    """Requests of as many users, who see the three items by turns; every second one clicks."""
    return [request(each, f"user{each}", (ITEMS[each % 3], p, each % 2 == 0)) for each in range(n)]


def assert_every_number_is_one(rows: list[dict[str, Any]]) -> None:
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert len(numbers) > 10
    assert np.isfinite(numbers).all()


def overall(shop: Shop) -> list[dict[str, Any]]:
    return [row for row in estimated(shop) if row["segment_kind"] == "all"]


def test_equal_probabilities_that_are_wrong_are_told(shop: Shop) -> None:
    """Of three items each would be 1/3; the shop logs 1/2."""
    log(shop.lake, *many(0.5))
    rows = [row for row in overall(shop) if row["policy"] == "uniform"]
    assert_every_number_is_one(rows)
    assert {row["verdict"] for row in rows} == {"weak overlap"}
    assert {round(row["mean_weight"], 9) for row in rows} == {round(2 / 3, 9)}


def test_equal_probabilities_that_are_right_leave_the_naive_mean(shop: Shop) -> None:
    log(shop.lake, *many(1 / 3))
    rows = [row for row in overall(shop) if row["policy"] == "uniform"]
    assert {row["verdict"] for row in rows} == {"ok"}
    for row in rows:
        assert row["value"] == pytest.approx(0.5, abs=0.02 if row["estimator"] == "dr" else 1e-9)


def test_one_slot_of_next_to_no_probability_takes_the_overlap_away(shop: Shop) -> None:
    log(shop.lake, *many(1 / 3), request(999, "zoe", ("tea", 1e-300, True)))
    rows = estimated(shop)
    assert_every_number_is_one(rows)
    assert {row["verdict"] for row in rows} == {"no overlap"}
    assert {row["value"] for row in rows if row["estimator"] != "naive"} == {None}


def test_an_item_that_was_never_shown_and_a_single_user_give_numbers(shop: Shop) -> None:
    """Ink is never shown; nobody else is there to fit imputed rewards on, so DR is IPS."""
    slots = [request(each, "anna", ("tea", 0.5, each % 2 == 0)) for each in range(300)]
    log(shop.lake, *slots)
    rows = [row for row in overall(shop) if row["policy"] == "uniform"]
    assert_every_number_is_one(rows)
    assert {row["n_users"] for row in rows} == {1}
    assert {row["se"] for row in rows} == {None}
    values = {row["estimator"]: row["value"] for row in rows if row["slots"] == "all positions"}
    assert values["dr"] == values["ips"]
    assert values["ips"] == pytest.approx(1 / 3)


def test_segments_of_users_and_of_popularity_have_values_of_their_own(shop: Shop) -> None:
    """Tea is all that is popular: it is the head, and half of its slots lead to a click."""
    people = [
        {"user_id": user, "ds": MONDAY, "country": "fi" if number < 200 else "se"}
        for number, user in enumerate(sorted({slots[0]["user_id"] for slots in many(1 / 3)}))
    ]
    put(shop.lake, "clean.users", people)
    clicked = {"item_id": "tea", "behaviour": "click", "n_events": 100}
    put(shop.lake, "features.popularity_daily", [clicked])
    log(shop.lake, *many(1 / 3))
    found = {
        (row["segment_kind"], row["segment"]): row
        for row in estimated(shop)
        if (row["policy"], row["slots"], row["estimator"]) == ("uniform", "all positions", "snips")
    }
    assert found["country", "fi"]["n_users"] == 200
    assert found["country", "fi"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["country", "se"]["verdict"] == "ok"
    assert {("popularity", third) for third in ("head", "middle", "tail")} <= set(found)
    assert "the head of popularity" in found["popularity", "head"]["states"]
    assert found["popularity", "head"]["mean_weight"] == pytest.approx(1, abs=0.1)
    assert found["popularity", "middle"]["verdict"] == "no overlap"  # it has no item
