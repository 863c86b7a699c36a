"""Sums of stated policies over a log of a few requests, counted by hand."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.estimate.policies import (
    POPULARITY,
    UNIFORM,
    Stated,
    estimate,
    estimate_parameters,
    impute,
    sums_of,
)
from tasks.estimate.values import UserSums
from tasks.lake.session import Session, session
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
    schema = lake.schema(name)
    filled = [dict.fromkeys(schema.names) | {"ds": MONDAY} | row for row in rows]
    lake.rewrite(name, {"ds": MONDAY}, lambda _: pa.Table.from_pylist(filled, schema=schema))


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


@pytest.fixture
def opened(shop: Shop) -> Iterator[Session]:
    with session(shop.lake, shop.settings.compute) as s:
        yield s


def summed(s: Session, shop: Shop, policy: Stated) -> dict[str, UserSums]:
    for name in ("features.feedback_daily", "features.popularity_daily", "clean.items"):
        s.read(name)
    params = estimate_parameters(shop, MONDAY) | {"behaviour": "click"}
    impute(s, params)
    return sums_of(s, policy, params)


def test_weights_are_of_what_is_free_below_what_stands_above(opened: Session, shop: Shop) -> None:
    """Three items are eligible: 1/3 at the top, 1/2 below."""
    log(shop.lake, request(1, "anna", ("tea", 0.5, True), ("oil", 0.25, False)))
    found = summed(opened, shop, UNIFORM)
    assert found["first position"].w.tolist() == [pytest.approx(1 / 3 / 0.5)]
    assert found["all positions"].w.tolist() == [pytest.approx(1 / 3 / 0.5 + 1 / 2 / 0.25)]
    assert found["all positions"].wy.tolist() == [pytest.approx(1 / 3 / 0.5)]
    assert found["all positions"].w_max == pytest.approx(2)
    assert (found["all positions"].n.tolist(), found["all positions"].y.tolist()) == ([2], [1])


def test_what_is_out_of_stock_has_no_weight(opened: Session, shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("wax", 0.5, True), ("oil", 0.5, True)))
    found = summed(opened, shop, UNIFORM)
    assert found["first position"].w.tolist() == [0]
    assert found["all positions"].w.tolist() == [pytest.approx(1 / 3 / 0.5)]


def test_slots_without_a_logged_probability_stand_above_others(opened: Session, shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("tea", None, True), ("oil", 0.25, False)))
    found = summed(opened, shop, UNIFORM)["all positions"]
    assert (found.n.tolist(), found.w.tolist()) == ([1], [pytest.approx(1 / 2 / 0.25)])


def test_a_user_has_own_weights(opened: Session, shop: Shop) -> None:
    log(
        shop.lake,
        request(1, "anna", ("tea", 0.5, True)),
        request(2, "bob", ("tea", 0.5, True)),
    )
    found = summed(opened, shop, ONLY_TEA_FOR_ANNA)["all positions"]
    assert found.w.tolist() == [pytest.approx(98 / 100 / 0.5), pytest.approx(1 / 3 / 0.5)]


def test_nothing_free_gives_no_weight_and_no_nan(opened: Session, shop: Shop) -> None:
    """All three eligible items above, and a fourth below that is not eligible."""
    slots = [("tea", 0.3, False), ("oil", 0.5, False), ("ink", 1.0, True), ("wax", 1.0, True)]
    log(shop.lake, request(1, "anna", *slots))
    found = summed(opened, shop, UNIFORM)["all positions"]
    assert found.n.tolist() == [4]
    for name in ("w", "wy", "ww", "dr"):
        assert np.isfinite(getattr(found, name)).all(), name


def test_popularity_weighs_by_the_root_of_events(opened: Session, shop: Shop) -> None:
    shown = {"behaviour": "impression", "n_events": 99}
    clicked = {"item_id": "tea", "behaviour": "click", "n_events": 8}
    put(shop.lake, "features.popularity_daily", [clicked, {"item_id": "oil", **shown}])
    log(shop.lake, request(1, "anna", ("tea", 0.6, True)))
    assert summed(opened, shop, POPULARITY)["all positions"].w.tolist() == [
        pytest.approx(3 / 5 / 0.6)
    ]


def test_no_logged_probability_gives_no_row(shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("tea", None, True)))
    (written,) = estimate(shop, MONDAY)
    assert written.rows == 0


def test_few_slots_give_a_verdict_and_no_value(shop: Shop) -> None:
    log(shop.lake, request(1, "anna", ("tea", 0.5, True)))
    estimate(shop, MONDAY)
    rows = shop.lake.rows(shop.lake.pin("train.policy_values"), {"ds": MONDAY}).to_pylist()
    assert {row["verdict"] for row in rows} == {"no overlap"}
    assert {row["value"] for row in rows if row["estimator"] != "naive"} == {None}
    assert {row["value"] for row in rows if row["estimator"] == "naive"} == {1.0}
