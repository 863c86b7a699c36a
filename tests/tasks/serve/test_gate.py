"""The rules of the gate, from comparisons and facts laid down by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.serve.gate import Facts, Verdict, verdicts
from tasks.settings import Gate, Settings

SERVED = Facts(n_users=1_000, n_rows=20_000, n_items=400, top_item_share=0.3)


def compared(change: float | None, se: float | None, **other: Any) -> dict[str, Any]:
    """A comparison of all users by DR."""
    bounds = (None, None) if change is None or se is None else (change - 2 * se, change + 2 * se)
    return {
        "estimator": "dr",
        "reward": "click",
        "segment_kind": "all",
        "segment": "all",
        "change": change,
        "se": se,
        "lower": bounds[0],
        "upper": bounds[1],
        "n_users": 500,
        "ess": 900.0,
        "verdict": "ok",
    } | other


def split(change: float | None, se: float | None, **other: Any) -> dict[str, Any]:
    return compared(change, se, estimator="time_split", reward="ndcg", **other)


def judged(*rows: Any, facts: Facts = SERVED, served: Facts | None = SERVED, **gate: Any) -> Any:
    settings = Settings(gate=Gate(**gate))
    return {each.rule: each for each in verdicts(settings, facts, served, rows)}


def held(found: dict[str, Verdict]) -> list[str]:
    return [rule for rule, each in found.items() if each.verdict == "hold"]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [(0.05, "pass"), (0.0, "pass"), (-0.04, "pass"), (-0.05, "hold"), (-0.1, "hold")],
)
def test_a_loss_of_the_margin_must_be_ruled_out(change: float, verdict: str) -> None:
    """The bound is 1.881 x 0.03 below: a loss of 4.36 % is the largest that passes."""
    value = judged(compared(change, 0.03))["value"]
    assert value.verdict == verdict
    assert value.observed == pytest.approx(change - 1.88079 * 0.03, abs=1e-5)
    assert "clicks per slot" in value.sentence


def test_of_releases_worse_by_the_margin_three_in_a_hundred_pass() -> None:
    """And of equal ones nearly all, where the standard error is small enough to judge."""
    rng = np.random.default_rng(1)
    for true, lowest, highest in ((-0.1, 0.95, 0.985), (0.0, 0.0, 0.09)):
        estimates = rng.normal(true, 0.03, 2_000)
        share = np.mean([bool(held(judged(compared(float(each), 0.03)))) for each in estimates])
        assert lowest <= share <= highest


def test_where_the_log_cannot_tell_the_time_split_and_the_guardrails_decide() -> None:
    found = judged(compared(-0.02, 0.06), split(0.01, 0.02))
    assert found["value"].verdict == "not judged"
    assert "too little data" in found["value"].sentence
    assert found["time split"].verdict == "pass"
    assert held(judged(compared(-0.02, 0.06), split(-0.4, 0.05))) == ["time split"]


def test_a_loss_that_is_ruled_out_passes_though_the_log_is_thin() -> None:
    """The time split, which favours what was shown anyway, is not asked."""
    found = judged(compared(0.15, 0.06), split(-0.4, 0.05))
    assert found["value"].verdict == "pass"
    assert not held(found)


def test_what_is_surely_worse_is_held_though_the_log_is_thin() -> None:
    assert held(judged(compared(-0.5, 0.1), split(0.0, 0.1))) == ["value"]


@pytest.mark.parametrize("rows", [[], [split(0.0, 0.1)], [compared(None, None), split(0.0, 0.1)]])
def test_without_a_value_it_says_so_and_holds_nothing(rows: list[Any]) -> None:
    found = judged(*rows)
    assert found["value"].verdict == "not judged"
    assert "too little data" in found["value"].sentence
    assert not held(found)
    assert found["time split"].verdict == ("pass" if rows else "not judged")


def test_the_time_split_may_be_the_chosen_estimate() -> None:
    found = judged(split(-0.2, 0.01), compared(0.3, 0.01), estimator="time_split")
    assert held(found) == ["value"]
    assert "NDCG -20.0%" in found["value"].sentence
    assert "time split" not in found


def test_the_first_night_has_nothing_to_compare_with() -> None:
    found = judged(compared(-0.9, 0.01), served=None)
    assert [each.verdict for each in found.values()] == ["not judged"]


def test_a_segment_that_surely_loses_more_holds_the_night() -> None:
    country = {"segment_kind": "country", "segment": "FI"}
    assert held(judged(compared(0, 0.02), compared(-0.3, 0.03, **country))) == ["country FI"]
    assert not held(judged(compared(0, 0.02), compared(-0.3, 0.2, **country)))
    assert not held(judged(compared(0, 0.02), compared(None, None, **country)))


def test_many_segments_do_not_hold_a_night_by_luck() -> None:
    """A bound that holds one segment alone does not where it is one of twenty."""
    rows = [
        compared(-0.22, 0.035, segment_kind="country", segment=str(number)) for number in range(20)
    ]
    assert held(judged(compared(0, 0.02), rows[0])) == ["country 0"]
    calm = [row | {"change": 0.0} for row in rows[1:]]
    assert not held(judged(compared(0, 0.02), rows[0], *calm))


@pytest.mark.parametrize(
    ("facts", "rules"),
    [
        (SERVED, []),
        (replace(SERVED, n_users=600, n_rows=12_000), ["users", "rows"]),
        (replace(SERVED, n_rows=13_000), ["rows"]),
        (replace(SERVED, n_items=150), ["coverage"]),
        (replace(SERVED, top_item_share=0.9), ["top item"]),
        (replace(SERVED, n_items=900, n_users=5_000, n_rows=100_000), []),
    ],
)
def test_guardrails_hold_what_shrank_or_narrowed(facts: Facts, rules: list[str]) -> None:
    assert held(judged(compared(0, 0.02), facts=facts)) == rules


def test_shorter_and_longer_lists_are_no_loss_of_width() -> None:
    """K was 20; with 5 fewer items are listed, with 60 more users have the top item."""
    gate = Settings().model_copy(update={"publish": Settings().publish.model_copy(update={"k": 5})})
    short = Facts(n_users=1_000, n_rows=5_000, n_items=120, top_item_share=0.1)
    found = verdicts(gate, short, SERVED, [compared(0, 0.02)])
    assert not [each for each in found if each.verdict == "hold"]
    long = Facts(n_users=1_000, n_rows=60_000, n_items=450, top_item_share=0.95)
    assert not held(judged(compared(0, 0.02), facts=long))


def test_what_stands_in_may_be_narrow() -> None:
    narrow = replace(SERVED, n_items=30, top_item_share=1.0)
    rows = [compared(0, 0.02)]
    found = verdicts(Settings(), narrow, SERVED, rows, stands_in=True)
    assert not [each for each in found if each.verdict == "hold"]
    assert held(judged(*rows, facts=narrow)) == ["coverage", "top item"]


def test_one_user_has_no_spread_and_holds_nothing() -> None:
    found = judged(compared(-0.5, None), split(-0.5, None))
    assert {each.verdict for rule, each in found.items() if rule in ("value", "time split")} == {
        "not judged"
    }


def test_a_time_split_of_few_users_is_not_judged_where_it_is_the_chosen_estimate() -> None:
    few = split(-0.5, 0.01, verdict="no overlap", n_users=7, ess=7.0)
    value = judged(few, estimator="time_split")["value"]
    assert value.verdict == "not judged"
    assert "too little data" in value.sentence


def test_it_says_that_what_is_served_earns_nothing_where_that_is_why_nothing_is_judged() -> None:
    """Slots and users are many; of nothing no share can be lost."""
    found = judged(compared(None, None, ess=5_000.0), split(None, None))
    for rule in ("value", "time split"):
        assert found[rule].verdict == "not judged"
        assert "what is served earns nothing" in found[rule].sentence
    few = judged(compared(None, None, ess=50.0, verdict="no overlap"))["value"]
    assert "50 effective slots of 500 users" in few.sentence


def test_the_highest_confidence_that_can_be_set_still_judges_segments() -> None:
    rows = [compared(0, 0.001, segment_kind="country", segment=each) for each in ("fi", "se")]
    found = judged(compared(0, 0.001), *rows, confidence=1 - 2**-53)
    assert {each.verdict for each in found.values()} == {"pass"}
