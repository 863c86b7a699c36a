"""Diagnostics of propensities, from sums worked out by hand, and of a small log."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.estimate.diagnostics import ESTIMATED, ITEM, LOGGED, Diagnostic, diagnose, diagnostics
from tasks.estimate.log import opened_log
from tasks.mapping import Mapping
from tasks.settings import Paths, Settings, check
from tasks.shop import Shop
from tests.tasks.estimate.test_policies import MAPPING

LARGEST, SMALLEST = ("w_max", "w_raw_max"), ("w_min",)


def tenth(number: int = 0, **changed: Any) -> dict[str, Any]:
    """A tenth of 1,000 rows of which 100 were shown, balanced in everything."""
    row: dict[str, Any] = {
        "about": "popularity",
        "tenth": number,
        "estimators": None,
        "n_shown": 100,
        "n_clipped": 0,
        "n_rows": 200,
        "n_policy_score": 200,
        "m": 1000.0,
        "me": 100.0,
        "w": 1000.0,
        "ww": 10_000.0,
        "w_raw": 1000.0,
        "ww_raw": 10_000.0,
        "w_min": 0.25,
        "w_median": 8.0,
        "w_max": 0.5,
        "w_raw_max": 0.5,
    }
    for name in ("popularity", "activity", "policy_score"):
        row |= {f"m_{name}": 0.0, f"mm_{name}": 1000.0, f"s_{name}": 80.0, f"w_{name}": 0.0}
    return row | changed


def total(tenths: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The row of all rows."""
    row = {}
    for name, value in tenths[0].items():
        values = [each[name] for each in tenths]
        if name in LARGEST or name in SMALLEST or name == "w_median":
            row[name] = max(values) if name in LARGEST else min(values)
        else:
            row[name] = sum(values) if isinstance(value, int | float) else value
    return row | {"about": "all rows", "tenth": None}


def found(weight: str, *tenths: dict[str, Any]) -> dict[tuple[str, str], Diagnostic]:
    rows = [total(tenths), *tenths]
    return {(each.measure, each.about): each for each in diagnostics(weight, rows)}


def slots(number: int = 0, **changed: Any) -> dict[str, Any]:
    """The same of weights of slots, whose population are slots too."""
    return tenth(number, me=None, m=100.0, w=100.0, ww=100.0, w_min=0.5, w_median=1.0, **changed)


def test_sound_propensities_pass_everything() -> None:
    rows = found(ITEM, *(tenth(n) for n in range(10)))
    assert {each.verdict for each in rows.values()} == {"pass"}
    assert len(rows) == 3 + 6 + 10
    assert rows["balance", "policy_score"].before == pytest.approx(0.8)


def test_good_calibration_does_not_hide_a_lack_of_balance() -> None:
    """Mean score 0.7 of a standard deviation above the population's."""
    rows = found(ITEM, tenth(w_policy_score=700.0))
    assert rows["calibration", "tenth 1 of popularity"].verdict == "pass"
    assert rows["mean weight", "all rows"].verdict == "pass"
    unbalanced = rows["balance", "policy_score"]
    assert unbalanced.verdict == "fail"
    assert unbalanced.value == pytest.approx(0.7)
    assert "whatever their calibration" in unbalanced.sentence


@pytest.mark.parametrize(("smd", "verdict"), [(0.04, "pass"), (-0.08, "warn"), (-0.11, "fail")])
def test_balance_is_judged_by_size(smd: float, verdict: str) -> None:
    rows = found(ITEM, tenth(w_popularity=1000 * smd))
    assert rows["balance", "popularity"].verdict == verdict


def test_collapsed_overlap_is_loud() -> None:
    collapsed = found(LOGGED, tenth(w=100.0, ww=10_000.0, w_max=90.0))["overlap", "all rows"]
    assert collapsed.verdict == "fail"
    assert collapsed.value == pytest.approx(0.01)
    assert "OVERLAP COLLAPSED" in collapsed.sentence


def test_logged_probabilities_are_not_clipped_and_have_a_mean_per_slot() -> None:
    rows = found(LOGGED, slots(), slots(1))
    assert rows["mean weight", "all rows"].value == 1
    assert rows["calibration", "tenth 2 of popularity"].value == 1
    assert {measure for measure, _ in rows} == {
        "balance",
        "mean weight",
        "overlap",
        "smallest weight",
        "median weight",
        "largest weight",
        "calibration",
    }


def test_both_tenths_are_calibrated_by_the_mean_weight() -> None:
    rows = found(ESTIMATED, slots(), slots(about="activity") | {"w": 130.0})
    assert rows["calibration", "tenth 1 of popularity"].verdict == "pass"
    assert rows["calibration", "tenth 1 of activity"].value == pytest.approx(1.3)
    assert rows["calibration", "tenth 1 of activity"].verdict == "fail"


def test_what_clipping_did_is_told() -> None:
    rows = found(ESTIMATED, slots(w_max=5.0, w_raw=100.0, ww_raw=2000.0, w_raw_max=80.0))
    assert rows["clipping", "largest weight"].before == 80
    assert rows["clipping", "largest weight"].value == 5
    assert rows["clipping", "largest weight"].verdict == "warn"
    assert rows["clipping", "effective sample"].before == pytest.approx(0.05)
    assert rows["clipping", "effective sample"].value == 1
    assert "from 5.0% to 100.0%" in rows["clipping", "effective sample"].sentence


def test_weights_are_told_in_units_of_their_mean() -> None:
    rows = found(LOGGED, slots() | {"w_min": 0.01, "w_median": 0.1, "w_max": 20.0})
    values = {
        measure: rows[f"{measure} weight", "all rows"].value
        for measure in ("smallest", "median", "largest")
    }
    assert values == {"smallest": 0.01, "median": 0.1, "largest": 20.0}
    assert rows["median weight", "all rows"].verdict == "warn"
    assert rows["largest weight", "all rows"].verdict == "fail"


def test_the_estimator_that_keeps_the_bias_is_named() -> None:
    rows = found(ESTIMATED, slots() | {"estimators": "logistic", "w_policy_score": 70.0})
    assert "these weights (logistic) keep that bias" in rows["balance", "policy_score"].sentence


def test_a_wrong_level_fails_and_says_what_is_spared() -> None:
    off = found(ITEM, tenth(w=1300.0))["mean weight", "all rows"]
    assert off.verdict == "fail"
    assert "SNIPS is not" in off.sentence


def test_clipping_and_miscalibration_are_counted() -> None:
    rows = found(ITEM, tenth(n_clipped=30, me=60.0))
    assert rows["clipping", "all rows"].verdict == "fail"
    assert rows["calibration", "tenth 1 of popularity"].value == pytest.approx(100 / 60)


def test_a_score_that_not_every_row_has_is_left_out() -> None:
    rows = found(ITEM, tenth(n_policy_score=150))
    assert ("balance", "policy_score") not in rows


def test_what_is_the_same_everywhere_cannot_be_unbalanced() -> None:
    rows = found(ITEM, tenth(mm_activity=0.0))
    assert ("balance", "activity") not in rows


def test_nothing_shown_gives_nothing() -> None:
    assert found(ITEM, tenth(n_shown=0, w=0.0)) == {}
    assert found(LOGGED, tenth(w=0.0)) == {}
    assert found(ITEM, tenth(m=0.0)) == {}


DAY = date(2026, 1, 5)
N_ITEMS = 12


def requests(scale: float, offset: float) -> list[dict[str, Any]]:
    """1,000 requests of one slot, filled by the policy's scores; each logs an item not shown."""
    rng, rows = np.random.default_rng(1), []
    for number in range(1_000):
        scores = rng.normal(0, 1, N_ITEMS)
        p = np.exp(scores) / np.exp(scores).sum()
        shown = int(rng.choice(N_ITEMS, p=p))
        other = int(rng.choice(np.delete(np.arange(N_ITEMS), shown)))
        rows += [
            {
                "impression_id": f"{number}-{item}",
                "request_id": f"{number}",
                "user_id": f"u{number % 40}",
                "item_id": f"i{item}",
                "is_shown": item == shown,
                "position": 1 if item == shown else None,
                "policy_score": float(scores[item]) * scale + offset,
                "p_logged": float(p[item]) if item == shown else None,
                "ds": DAY,
            }
            for item in (shown, other)
        ]
    return rows


def world(root: Path, scale: float = 1.0, offset: float = 0.0) -> Shop:
    """Their shop; its propensities are those of a model that does not know the score."""
    (root / "landing").mkdir(parents=True)
    paths = Paths(landing=root / "landing", lake=root / "lake")
    made = Shop(Settings(paths=paths), check(Mapping, MAPPING, where="test"))
    rows = requests(scale, offset)
    share = {"p_exposed": 1 / N_ITEMS, "is_clipped": False, "estimator": "exposure_share"}
    shown = [row | share | {"p_estimated": 1 / N_ITEMS} for row in rows if row["is_shown"]]
    items = [{"item_id": f"i{item}", "is_in_stock": True, "ds": DAY} for item in range(N_ITEMS)]
    tables: dict[str, list[dict[str, Any]]] = {
        "clean.impressions": rows,
        "features.impression_propensities": shown,
        "features.feedback_daily": [row | {"behaviours": []} for row in shown],
        "features.item_propensities": [item | share for item in items],
        "clean.items": items,
    }
    for name, table in tables.items():
        kept = set(made.lake.schema(name).names)
        made.lake.put(name, {"ds": DAY}, [_only(row, kept) for row in table])
    return made


def _only(row: dict[str, Any], kept: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in kept}


def diagnosed(shop: Shop) -> dict[tuple[str, str, str], dict[str, Any]]:
    with opened_log(shop, DAY) as log:
        diagnose(log)
    rows = shop.lake.rows(shop.lake.pin("train.propensity_diagnostics"), {"ds": DAY})
    return {(row["weight"], row["measure"], row["about"]): row for row in rows.to_pylist()}


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, 0.0), (1e-9, 0.0), (1e16, 0.0), (1.0, 1e9), (-1.0, 0.0), (1e-300, 0.0), (1e300, 0.0)],
)
def test_a_propensity_without_the_score_fails_whatever_the_unit_of_the_score(
    tmp_path: Path, scale: float, offset: float
) -> None:
    """Scores may be probabilities of a large catalogue, or points in the millions."""
    found = diagnosed(world(tmp_path / "one", scale, offset))
    usual = diagnosed(world(tmp_path / "other"))
    assert found[ESTIMATED, "balance", "policy_score"]["verdict"] == "fail"
    assert found[LOGGED, "balance", "policy_score"]["verdict"] != "fail"
    for key, row in usual.items():
        sign = np.sign(scale) if key[2] == "policy_score" else 1
        assert found[key]["value"] == pytest.approx(sign * row["value"], abs=1e-5)


def test_a_policy_that_never_chances_in_a_catalogue_of_millions_has_weights_that_are_told(
    tmp_path: Path,
) -> None:
    """Every slot has the logged probability 1, and weighs 1 in two million."""
    shop, n = world(tmp_path), 2_000_000
    for name in ("clean.impressions", "features.feedback_daily"):
        rows = shop.lake.rows(shop.lake.pin(name), {"ds": DAY})
        shown = pc.if_else(pc.is_null(rows["p_logged"]), None, 1.0)
        at = rows.column_names.index("p_logged")
        put(shop, name, rows.set_column(at, "p_logged", shown))
    ids = pc.binary_join_element_wise("i", pa.array(range(n)).cast(pa.string()), "")
    items = {"item_id": ids, "is_in_stock": pa.repeat(True, n), "ds": pa.repeat(DAY, n)}
    schema = shop.lake.schema("clean.items")
    put(
        shop,
        "clean.items",
        pa.table([items.get(name, pa.nulls(n)) for name in schema.names], schema.names).cast(
            schema
        ),
    )
    found = diagnosed(shop)
    assert found[LOGGED, "mean weight", "all rows"]["verdict"] == "fail"
    assert found[LOGGED, "overlap", "all rows"]["value"] == pytest.approx(1)


def put(shop: Shop, name: str, rows: pa.Table) -> None:
    shop.lake.rewrite(name, {"ds": DAY}, lambda _: rows)
