"""Values of policies against worlds whose value is known, and logs that say nothing about them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.estimate.values import (
    PolicyValue,
    UserSums,
    difference,
    overlap,
    policy_values,
)

N_ITEMS = 8
LOGGING = np.array([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
LIKING = np.array([0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.2, 0.1])
TARGETS = {
    "uniform": np.full(N_ITEMS, 1 / N_ITEMS),
    "reversed": LOGGING[::-1],
    "half and half": (LOGGING + 1 / N_ITEMS) / 2,
}
CLIP = 3.0


def sums(user: Any, w: Any, y: Any, q: Any = None, d: Any = None, clip: float = CLIP) -> UserSums:
    """Sums per user of slots given as arrays."""
    w, y = np.asarray(w, dtype=float), np.asarray(y, dtype=float)
    q = np.zeros_like(y) if q is None else np.asarray(q, dtype=float)
    d = np.zeros_like(y) if d is None else np.asarray(d, dtype=float)

    def per_user(values: Any) -> Any:
        return np.bincount(user, weights=values)

    return UserSums(
        n=per_user(np.ones_like(y)),
        y=per_user(y),
        w=per_user(w),
        wy=per_user(w * y),
        ww=per_user(w * w),
        w_clipped_y=per_user(np.minimum(w, clip) * y),
        dr=per_user(d + w * (y - q)),
        w_max=float(w.max(initial=0.0)),
    )


def log(seed: int, target: np.ndarray, n_users: int = 400, n_slots: int = 10) -> UserSums:
    """Slots of users, each with a taste of its own, which makes their slots alike."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), n_slots)
    item = rng.choice(N_ITEMS, len(user), p=LOGGING)
    bonus = rng.normal(0, 0.08, n_users)[user]
    y = rng.random(len(user)) < np.clip(LIKING[item] + bonus, 0, 1)
    imputed = LIKING * 0.8 + 0.05  # wrong, as imputations are
    w = target[item] / LOGGING[item]
    direct = np.full(len(user), target @ imputed)
    return sums(user, w, y, imputed[item], direct)


def by_name(values: list[PolicyValue]) -> dict[str, PolicyValue]:
    return {each.estimator: each for each in values}


@pytest.mark.parametrize("name", TARGETS)
def test_weights_find_the_value_and_the_naive_mean_does_not(name: str) -> None:
    target = TARGETS[name]
    truth = float(target @ LIKING)
    found = by_name(policy_values(log(0, target, n_users=20_000)))
    assert found["naive"].value is not None
    assert abs(found["naive"].value - truth) > 0.05
    for estimator in ("ips", "snips", "dr"):
        assert found[estimator].value == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_intervals_cover_the_truth_as_often_as_they_say(estimator: str) -> None:
    """Binomial with 300 worlds: 95 % give 270 or fewer in one of 1,500."""
    truth = float(TARGETS["uniform"] @ LIKING)
    covered = 0
    for seed in range(300):
        found = by_name(policy_values(log(seed, TARGETS["uniform"])))[estimator]
        assert found.lower is not None
        assert found.upper is not None
        covered += found.lower <= truth <= found.upper
    assert covered > 270


def test_a_log_about_itself_needs_no_weights() -> None:
    found = by_name(policy_values(log(1, LOGGING)))
    assert found["ips"].value == found["naive"].value == found["snips"].value
    assert found["ips"].se == pytest.approx(found["naive"].se)


def test_double_robustness_forgives_wrong_propensities_where_the_imputation_is_right() -> None:
    rng = np.random.default_rng(3)
    target = TARGETS["uniform"]
    item = rng.choice(N_ITEMS, 100_000, p=LOGGING)
    y = rng.random(len(item)) < LIKING[item]
    wrong = target[item] / np.roll(LOGGING, 1)[item]
    direct = np.full(len(item), target @ LIKING)
    found = by_name(policy_values(sums(np.arange(len(item)), wrong, y, LIKING[item], direct)))
    assert found["dr"].value == pytest.approx(float(target @ LIKING), abs=0.01)
    assert found["snips"].value is not None
    assert abs(found["snips"].value - float(target @ LIKING)) > 0.05


def test_clipping_biases_down() -> None:
    found = by_name(policy_values(log(4, TARGETS["reversed"], n_users=20_000)))
    assert found["clipped_ips"].value is not None
    assert found["ips"].value is not None
    assert found["clipped_ips"].value < found["ips"].value - 0.02


def test_slots_of_one_user_are_not_independent() -> None:
    """Every slot ten times over is no more knowledge: the interval stays."""
    rng = np.random.default_rng(5)
    y = rng.random(500) < 0.3
    once = sums(np.arange(500), np.ones(500), y)
    tenfold = sums(np.repeat(np.arange(500), 10), np.ones(5000), np.repeat(y, 10))
    for one, ten in zip(policy_values(once), policy_values(tenfold), strict=True):
        assert ten.value == pytest.approx(one.value)
        assert ten.se == pytest.approx(one.se)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    one, other = log(6, TARGETS["uniform"]), log(6, TARGETS["half and half"])
    found = difference("snips", one, other)
    values = [by_name(policy_values(each))["snips"] for each in (one, other)]
    assert found.value == pytest.approx(values[0].value - values[1].value)  # type: ignore[operator]
    assert found.se is not None
    assert found.se < np.hypot(values[0].se or 0, values[1].se or 0)
    truth = float((TARGETS["uniform"] - TARGETS["half and half"]) @ LIKING)
    assert abs(found.value - truth) < 4 * found.se  # type: ignore[operator]
    assert difference("dr", one, one).value == 0


def test_a_policy_that_the_log_never_follows_gets_no_value() -> None:
    n = 2_000
    w = np.zeros(n)
    w[:20] = n / 20
    found = sums(np.arange(n), w, np.ones(n))
    assert overlap(found).verdict == "no overlap"
    assert "not counted" in overlap(found).sentence
    values = by_name(policy_values(found))
    assert values.pop("naive").value == 1
    assert {each.value for each in values.values()} == {None}


def test_weights_whose_mean_is_not_one_are_told() -> None:
    n = 2_000
    found = overlap(sums(np.arange(n), np.full(n, 1.2), np.ones(n)))
    assert found.verdict == "weak overlap"
    assert "mean weight 1.200" in found.sentence


def test_nothing_gives_nothing() -> None:
    nothing = sums(np.array([], dtype=int), [], [])
    assert overlap(nothing).verdict == "no overlap"
    assert {each.value for each in policy_values(nothing)} == {None}
    assert difference("snips", nothing, nothing).value is None


def test_one_user_gives_a_value_without_an_interval() -> None:
    one = sums(np.zeros(500, dtype=int), np.ones(500), np.arange(500) % 2)
    found = by_name(policy_values(one))["snips"]
    assert (found.value, found.se, found.lower) == (0.5, None, None)
    assert np.isfinite(overlap(one).ess)


def test_users_without_slots_change_nothing() -> None:
    base = log(7, TARGETS["uniform"], n_users=50)
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(base, name), np.zeros(30)])
        for name in UserSums.__dataclass_fields__
        if name != "w_max"
    }
    for with_them, without in zip(
        policy_values(replace(base, **parts)), policy_values(base), strict=True
    ):
        assert with_them.value == pytest.approx(without.value)
        assert with_them.se == pytest.approx(without.se)
