"""Diagnostics of propensities, from sums worked out by hand."""

from typing import Any

import pytest

from tasks.estimate.diagnostics import LOGGED, Diagnostic, diagnostics

ITEM = "item propensity"


def tenth(number: int = 0, **changed: Any) -> dict[str, Any]:
    """A tenth of 1,000 rows of which 100 were shown, balanced in everything."""
    row: dict[str, Any] = {
        "tenth": number,
        "n_shown": 100,
        "n_clipped": 0,
        "n_rows": 200,
        "n_policy_score": 200,
        "m": 1000.0,
        "me": 100.0,
        "w": 1000.0,
        "ww": 10_000.0,
        "w_max": 0.5,
    }
    for name in ("popularity", "activity", "policy_score"):
        row |= {f"m_{name}": 0.0, f"mm_{name}": 1000.0, f"s_{name}": 80.0, f"w_{name}": 0.0}
    return row | changed


def found(weight: str, *tenths: dict[str, Any]) -> dict[tuple[str, str], Diagnostic]:
    return {(each.measure, each.about): each for each in diagnostics(weight, list(tenths))}


def test_sound_propensities_pass_everything() -> None:
    rows = found(ITEM, *(tenth(n) for n in range(10)))
    assert {each.verdict for each in rows.values()} == {"pass"}
    assert len(rows) == 3 + 4 + 10
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


def test_logged_probabilities_have_no_calibration_and_a_mean_per_slot() -> None:
    rows = found(LOGGED, tenth(w=100.0, ww=100.0))
    assert rows["mean weight", "all rows"].value == 1
    assert {measure for measure, _ in rows} == {
        "balance",
        "mean weight",
        "overlap",
        "largest weight",
    }


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
