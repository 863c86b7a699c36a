"""Estimates against the sample shop's truth: what policies would really have earned."""

from typing import Any

import numpy as np
import pytest

from tasks.estimate.policies import (
    POPULARITY,
    UNIFORM,
    Stated,
    estimate_parameters,
    impute,
    sums_of,
)
from tasks.estimate.values import PolicyValue, overlap, policy_values
from tasks.lake.session import session
from tasks.sample import ShopSettings
from tests.scenarios.truths import World, build

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
    with session(world.shop.lake, world.shop.settings.compute) as s:
        for name in ("features.feedback_daily", "features.popularity_daily", "clean.items"):
            s.read(name)
        params = estimate_parameters(world.shop, world.ds) | {"behaviour": "click"}
        impute(s, params)
        found = sums_of(s, policy, params)
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
