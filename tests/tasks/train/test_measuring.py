"""Metrics of a tiny night: three users, four items, and what the log says of them."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.estimate.quality import Quality
from tasks.lake.session import session
from tasks.mapping import Mapping
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop
from tasks.train.arrays import build_interactions, pairs_to_csr
from tasks.train.measuring import Case, measure, write
from tasks.train.registry import SavedModel

DS = date(2026, 1, 10)
CUT = DS - timedelta(days=2)
ITEMS = ("ink", "oil", "tea", "wax")
COLUMNS = {"request_id": "r", "user_id": "u", "item_id": "i", "policy": "p", "p_logged": "q"}
SHOWN = {"files": "shown/*.jsonl", "columns": COLUMNS, "time": {"column": "t"}}
MAPPING = {
    "name": "tiny",
    "behaviours": {"positives": {"click": 1}, "seen": ["click"], "holdout_days": 2},
    "events": {
        "files": "*.jsonl",
        "columns": {"user_id": "u", "item_id": "i"},
        "time": {"column": "t"},
        "behaviour": {"always": "click"},
    },
    "impressions": SHOWN | {"random_policies": ["dice"]},
}
BEFORE = (("anna", "ink"), ("bob", "ink"), ("bob", "oil"), ("cleo", "tea"), ("cleo", "wax"))
AFTER = (("anna", "oil"), ("anna", "tea"), ("bob", "tea"), ("dora", "tea"))


class Night:
    """A lake with what measuring reads."""

    def __init__(self, root: Path, mapping: dict[str, Any]) -> None:
        (root / "landing").mkdir()
        paths = Paths(landing=root / "landing", lake=root / "lake")
        self.shop = Shop(Settings(paths=paths), check(Mapping, mapping, where="test"))
        self.work = root / "work"
        pairs = [{"user_id": u, "item_id": i, "weight": 1.0, "n_events": 1} for u, i in BEFORE]
        self.put("train.examples", DS, pairs)
        self.put("serve.eligible_items", DS, [{"item_id": i, "catalogue_ds": DS} for i in ITEMS])
        self.after(*AFTER)

    def put(self, name: str, ds: date, rows: list[dict[str, Any]]) -> None:
        self.shop.lake.put(name, {"ds": ds}, [{"ds": ds} | row for row in rows])

    def after(self, *pairs: tuple[str, str]) -> None:
        rows = [{"user_id": u, "item_id": i, "is_new": (u, i) not in BEFORE} for u, i in pairs]
        self.put("train.holdout", DS, rows)

    def shown(self, ds: date, *slots: tuple[str, str, str, float | None, list[str]]) -> None:
        """User, item, policy, logged probability, and what followed."""
        names = ("user_id", "item_id", "policy", "p_logged", "behaviours")
        rows = [
            {"impression_id": str(n), "request_id": str(n), "position": 1}
            | dict(zip(names, slot, strict=True))
            for n, slot in enumerate(slots)
        ]
        self.put("features.feedback_daily", ds, rows)

    def measure(self, *lists: list[int]) -> list[Quality]:
        """Lists of anna and bob, who have something to find; items in the order of ITEMS."""
        with session(self.shop.lake, self.shop.settings.compute) as s:
            for name in ("train.examples", "train.holdout", "serve.eligible_items"):
                s.read(name, since=DS, upto=DS)
            data = build_interactions(
                s.stream("SELECT user_id, item_id, weight FROM train.examples"), self.work / "a"
            )
            new = s.stream("SELECT user_id, item_id FROM train.holdout WHERE is_new")
            relevant = pairs_to_csr(new, data.users, data.items, self.work / "b")
            case = Case(data, relevant, np.array(lists, dtype=np.int32))
            return measure(s, self.shop, DS, case, self.work / "c")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path, MAPPING)


def recalls(rows: list[Quality]) -> dict[tuple[str, str], float]:
    return {
        (row.evaluation, row.average): row.value
        for row in rows
        if (row.metric, row.k, row.segment_kind) == ("recall", 5, "all")
    }


def test_the_three_readings_of_a_log(night: Night) -> None:
    night.shown(
        DS,
        ("anna", "oil", "main", 0.1, ["click", "view"]),
        ("anna", "tea", "dice", 0.25, ["click"]),
        ("bob", "tea", "dice", None, ["click"]),
        ("bob", "oil", "dice", 0.25, ["click"]),  # known before: not looked for
        ("anna", "wax", "dice", 0.25, ["view"]),  # no positive
        ("dora", "tea", "dice", 0.25, ["click"]),  # unknown before the cut
    )
    night.shown(DS - timedelta(days=1), ("anna", "oil", "main", 0.5, ["click"]))
    night.shown(CUT, ("anna", "tea", "dice", 0.01, ["click"]))
    assert recalls(night.measure([1, 3], [3, 2])) == {
        ("time split", "users"): pytest.approx((1 / 2 + 1) / 2),
        ("time split", "pairs"): pytest.approx(2 / 3),
        ("random slice", "users"): pytest.approx(1 / 2),
        ("random slice", "pairs"): pytest.approx(1 / 2),
        ("snips", "pairs"): pytest.approx(12 / (12 + 4)),
    }


def test_without_random_policies_there_is_no_random_slice(tmp_path: Path) -> None:
    night = Night(tmp_path, MAPPING | {"impressions": SHOWN})
    night.shown(DS, ("anna", "oil", "dice", 0.1, ["click"]))
    assert {key[0] for key in recalls(night.measure([1], [3]))} == {"time split", "snips"}


def test_without_logged_probabilities_there_is_no_snips(night: Night) -> None:
    night.shown(DS, ("anna", "oil", "dice", None, ["click"]), ("bob", "tea", "dice", 0.0, []))
    assert {key[0] for key in recalls(night.measure([1], [3]))} == {"time split", "random slice"}


def test_without_impressions_there_is_the_time_split_alone(tmp_path: Path) -> None:
    night = Night(tmp_path, {k: v for k, v in MAPPING.items() if k != "impressions"})
    rows = night.measure([1], [2])
    assert {row.evaluation for row in rows} == {"time split", "lists"}
    assert {row.metric for row in rows if row.evaluation == "lists"} == {
        "coverage", "gini", "novelty"
    }  # fmt: skip


def test_a_probability_of_nearly_nothing_stops_no_night(night: Night) -> None:
    night.shown(
        DS, ("anna", "oil", "main", 1e-300, ["click"]), ("bob", "tea", "main", 0.5, ["click"])
    )
    assert recalls(night.measure([1], [3]))["snips", "pairs"] == 0


def test_one_user_has_numbers_without_intervals(night: Night) -> None:
    night.after(("bob", "tea"))
    night.shown(DS, ("bob", "tea", "dice", 0.5, ["click"]))
    rows = night.measure([2, 3])
    assert recalls(rows) == dict.fromkeys(recalls(rows), 1.0)
    assert len(recalls(rows)) == 5
    assert {row.se for row in rows} == {None}


def test_lists_are_told_with_the_catalogue_of_the_night(night: Night) -> None:
    kinds = {"ink": "desk", "oil": "food", "tea": "food", "wax": None}
    rows = [{"item_id": item, "category": kind} for item, kind in kinds.items()]
    night.put("clean.items", DS, [row | {"is_in_stock": True} for row in rows])
    night.put("clean.items", CUT, [{"item_id": i, "category": "old"} for i in ITEMS])
    found = {row.metric: row.value for row in night.measure([0, 1], [1, 2]) if row.k == 5}
    assert found["diversity"] == 0.5
    assert found["coverage"] == 0.75
    # ink: 2 of 3 users; oil and tea: 1 of 3
    assert found["novelty"] == pytest.approx(np.log2([1.5, 3, 3, 3]).mean())


def test_segments_of_users_and_items(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.estimate.quality.LEAST_USERS", 1)
    old = [{"user_id": "anna", "age_band": "old", "country": "FR"}]
    night.put("clean.users", CUT, old)
    told = [
        {"user_id": "anna", "age_band": "18-24", "country": "NZ"},
        {"user_id": "bob", "age_band": "55+"},
    ]
    night.put("clean.users", DS, told)
    found = {
        (row.segment_kind, row.segment): (row.value, row.n_pairs)
        for row in night.measure([1, 3], [3, 0])
        if (row.metric, row.average, row.k) == ("recall", "pairs", 20)
    }
    assert found == {
        ("all", "all"): (pytest.approx(1 / 3), 3),
        ("age_band", "18-24"): (0.5, 2),
        ("age_band", "55+"): (0.0, 1),
        ("country", "NZ"): (0.5, 2),
        ("activity", "least"): (0.5, 2),
        ("activity", "middle"): (0.0, 1),
        # ink has the first two of five events, oil the third, tea the fourth, wax the last
        ("popularity", "middle"): (pytest.approx(1 / 3), 3),
    }


def test_rows_are_written_in_the_order_of_their_key(night: Night) -> None:
    night.shown(DS, ("anna", "oil", "dice", 0.5, ["click"]))
    saved = SavedModel(Path("models/bpr/v1"), "bpr", "v1")
    rows = night.measure([1, 3], [3, 2])
    assert write(night.shop, DS, saved, rows).rows == len(rows)
    lake = night.shop.lake
    table = lake.rows(lake.pin("train.metrics"), {"ds": DS, "model": "bpr"}).to_pylist()
    keys = [(row["evaluation"], row["average"], row["metric"], row["k"]) for row in table]
    assert keys == sorted(keys)
    assert {row["model_version"] for row in table} == {"v1"}
