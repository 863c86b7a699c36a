"""Estimates against the sample shop's truth: what policies would really have earned."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.estimate.diagnostics import ESTIMATED, ITEM, LOGGED
from tasks.estimate.log import opened_log
from tasks.estimate.policies import Stated, estimate, impute, sums_of
from tasks.estimate.values import Estimator, PolicyValue, overlap, policy_values
from tasks.sample import ShopSettings
from tests.scenarios.truths import SMALL, World, build, findings, liking, told

CLAIMED: tuple[Estimator, ...] = ("snips", "dr")


def estimates(world: World, policy: Stated) -> dict[str, dict[str, PolicyValue]]:
    """By which slots and estimator, for clicks."""
    with opened_log(world.shop, world.ds) as log:
        impute(log, "click")
        found = sums_of(log, policy, "click")
    assert {overlap(sums).verdict for sums in found.values()} == {"ok"}
    return {
        slots: {value.estimator: value for value in policy_values(sums)}
        for slots, sums in found.items()
    }


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 11))]
)
def test_weights_find_what_is_true_where_the_naive_mean_is_far_off(
    seed: int, tmp_path: Path
) -> None:
    """Three policies, clicks; standard errors are below 0.003, so 0.01 is no luck."""
    world = build(replace(SMALL, seed=seed), tmp_path)
    found = list(findings(world))
    assert len(found) == 6
    for each in found:
        naive = each.error("naive")
        print(f"{each.policy}, {each.slots}: true {each.truth:.4f}, naive {naive:+.4f}", end="")
        assert each.verdict == "ok"
        assert abs(naive) >= 0.05
        for name in CLAIMED:
            error, se = each.error(name), each.values[name].se
            print(f", {name} {error:+.4f} ({se:.4f})", end="")
            assert se is not None
            assert se < 0.003
            assert abs(error) <= 0.01
        print()
    likings = liking(world)
    print(likings)
    assert abs(likings.naive - likings.uniform) >= 0.1
    assert abs(likings.weighted - likings.uniform) <= 0.01


def test_a_propensity_without_the_policys_score_fails_its_balance_though_it_is_calibrated(
    world: World,
) -> None:
    found = told(world)
    score = found[ITEM, "balance", "policy_score"]
    assert (score["verdict"], abs(score["value"]) > 0.1) == ("fail", True)
    assert found[ITEM, "mean weight", "all rows"]["verdict"] == "pass"
    levels = [
        row["verdict"]
        for (weight, measure, _), row in found.items()
        if (weight, measure) == (ITEM, "calibration")
    ]
    assert len(levels) == 20
    assert levels.count("fail") == 0
    assert "whatever their calibration" in score["sentence"]


def test_logged_probabilities_balance_everything(world: World) -> None:
    found = {key: row for key, row in told(world).items() if key[0] == LOGGED}
    assert len(found) == 8 + 20
    assert {row["verdict"] for row in found.values()} == {"pass"}
    assert abs(found[LOGGED, "balance", "policy_score"]["before"]) > 0.5


def test_where_overlap_collapsed_the_diagnostics_fail_loudly(tmp_path: Path) -> None:
    settings = ShopSettings(n_days=4, n_users=600, main_policy="collapsed", seed=3)
    found = told(build(settings, tmp_path))
    overlap_found = found[LOGGED, "overlap", "all rows"]
    assert overlap_found["verdict"] == "fail"
    assert "OVERLAP COLLAPSED" in overlap_found["sentence"]


def test_a_policy_without_probabilities_says_nothing_of_others(tmp_path: Path) -> None:
    """Greedy, and no request under the uniform policy."""
    settings = ShopSettings(
        n_days=3, n_users=300, n_items=200, main_policy="greedy", uniform_requests=0.0
    )
    world = build(settings, tmp_path)
    with opened_log(world.shop, world.ds) as log:
        assert estimate(log).rows == 0
    found = told(world)
    assert {key[0] for key in found} == {ITEM, ESTIMATED}
    assert found[ITEM, "balance", "policy_score"]["verdict"] == "fail"
