"""Estimates against the sample shop's truth: what policies would really have earned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.estimate.diagnostics import LOGGED, diagnose
from tasks.estimate.log import opened_log
from tasks.estimate.policies import POPULARITY, UNIFORM, Stated, estimate, impute, sums_of
from tasks.estimate.values import PolicyValue, overlap, policy_values
from tasks.lake.session import session
from tasks.sample import ShopSettings
from tests.scenarios.truths import World, build

ITEM = "item propensity"
# The last half of the catalogue, a fifth of it five times as much for each user by its number.
PERSONAL = Stated(
    name="personal",
    states="the second half of the catalogue; to every user some items of it more",
    item_weights="""
SELECT DISTINCT item_id, 1.0 AS weight FROM clean.items WHERE item_id >= 'i00400'
""",
    user_weights="""
SELECT DISTINCT f.user_id, i.item_id, 4.0 AS weight
FROM features.feedback_daily AS f CROSS JOIN (SELECT DISTINCT item_id FROM clean.items) AS i
WHERE i.item_id >= 'i00400' AND (f.user_id[2:]::INTEGER + i.item_id[2:]::INTEGER) % 5 = 0""",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(ShopSettings(n_days=14, seed=11), tmp_path_factory.mktemp("world"))


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


def weights(world: World, policy: Stated) -> tuple[Any, Any]:
    """The same weights, worked out from the truth folder and a plain count of events."""
    numbers = np.arange(world.n_items)
    if policy is UNIFORM:
        return np.ones(world.n_items), None
    if policy is POPULARITY:
        with session(world.shop.lake, world.shop.settings.compute) as s:
            s.read("clean.events")
            rows = s.rows(
                "SELECT item_id, count(*) FROM clean.events WHERE superseded_at IS NULL GROUP BY 1"
            )
        counts = dict(rows)
        return np.sqrt([1.0 + counts.get(item, 0) for item in world.truth.item_ids]), None
    half = (numbers >= 400).astype(float)
    users = np.arange(len(world.p_click))
    return half, 4.0 * half * ((users[:, None] + numbers[None, :]) % 5 == 0)


@pytest.mark.parametrize("policy", [UNIFORM, POPULARITY, PERSONAL], ids=lambda each: each.name)
def test_snips_and_dr_find_the_true_value_and_the_naive_mean_does_not(
    world: World, policy: Stated
) -> None:
    truth, found = world.value(*weights(world, policy)), estimates(world, policy)
    for slots, of_slots in found.items():
        print(f"\n{policy.name}, {slots}: true {truth[slots]:.4f}", end="")
        for name in ("snips", "dr"):
            value = of_slots[name]
            assert value.value is not None
            assert value.se is not None
            print(f", {name} {value.value:.4f} ({value.se:.4f})", end="")
            assert abs(value.value - truth[slots]) < 0.01
            assert abs(value.value - truth[slots]) < 4 * value.se
    naive = found["first position"]["naive"].value
    assert naive is not None
    print(f", naive {naive:.4f}")
    assert abs(naive - truth["first position"]) > 0.05


def told(world: World) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What the night says of its propensities, by weight, measure and what it is about."""
    with opened_log(world.shop, world.ds) as log:
        diagnose(log)
    pinned = world.shop.lake.pin("train.propensity_diagnostics")
    rows = world.shop.lake.rows(pinned, {"ds": world.ds}).to_pylist()
    return {(row["weight"], row["measure"], row["about"]): row for row in rows}


def test_a_propensity_without_the_policys_score_fails_its_balance_though_it_is_calibrated(
    world: World,
) -> None:
    found = told(world)
    score = found[ITEM, "balance", "policy_score"]
    assert (score["verdict"], abs(score["value"]) > 0.1) == ("fail", True)
    assert found[ITEM, "mean weight", "all rows"]["verdict"] == "pass"
    levels = [
        row["verdict"] for (weight, measure, _), row in found.items() if measure == "calibration"
    ]
    assert len(levels) == 10
    assert levels.count("fail") == 0
    assert "whatever their calibration" in score["sentence"]


def test_logged_probabilities_balance_everything(world: World) -> None:
    found = {key: row for key, row in told(world).items() if key[0] == LOGGED}
    assert len(found) == 6
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
    assert {key[0] for key in found} == {ITEM}
    assert found[ITEM, "balance", "policy_score"]["verdict"] == "fail"
