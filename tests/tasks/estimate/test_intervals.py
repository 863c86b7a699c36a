"""Intervals of ratios: what a user less would change, and how often the truth is in them."""

import numpy as np
import pytest

from tasks.estimate.intervals import Floats, linearised

LIKED = 0.5  # the mean reward of users
COUNTS = {
    "many users": [20] * 200,
    "ten users": [100] * 10,
    "two users": [500] * 2,
    "one user with 90 % of the slots": [1_800] + [2] * 100,
    "two users with 45 % each": [900] * 2 + [2] * 100,
}


def world(seed: int, counts: list[int]) -> tuple[Floats, Floats]:
    """Rewards and slots by user; users differ in what they like."""
    rng = np.random.default_rng(seed)
    liked = np.clip(rng.normal(LIKED, 0.15, len(counts)), 0, 1)
    slots = np.array(counts)
    return rng.binomial(slots, liked).astype(np.float64), slots.astype(np.float64)


@pytest.mark.parametrize("who", COUNTS)
def test_the_truth_is_in_the_interval_whoever_has_the_slots(who: str) -> None:
    """Binomial with 400 worlds: 95 % give 360 or fewer in one of 20,000."""
    covered = 0
    for seed in range(400):
        found = linearised(*world(seed, COUNTS[who]))
        assert found is not None
        assert found.interval is not None
        covered += found.interval.lower <= LIKED <= found.interval.upper
    assert covered > 360


def test_the_influence_of_a_user_is_what_the_others_say_without_them() -> None:
    rewards, slots = world(1, [1, 5, 40])
    found = linearised(rewards, slots)
    assert found is not None
    for user in range(3):
        others = np.arange(3) != user
        without = rewards[others].sum() / slots[others].sum()
        assert found.influence[user] == pytest.approx(found.value - without)


def test_of_users_with_as_many_slots_it_is_the_error_of_a_mean() -> None:
    rewards, slots = world(1, [20] * 30)
    found = linearised(rewards, slots)
    assert found is not None
    assert found.interval is not None
    assert found.interval.se == pytest.approx(np.std(rewards / 20, ddof=1) / np.sqrt(30))


@pytest.mark.parametrize("others", [[], [0.0, 0.0], [1e-30, 1e-30]])
def test_one_user_who_is_all_there_is_has_no_interval(others: list[float]) -> None:
    slots = np.array([50.0, *others])
    found = linearised(slots / 2, slots)
    assert found is not None
    assert found.value == 0.5
    assert found.interval is None
    assert found.over(found).interval is None
    assert (found - found).interval is None
