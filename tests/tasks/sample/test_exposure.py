from itertools import permutations

import numpy as np
import pytest

from tasks.sample import ShopSettings, exposure
from tasks.sample.exposure import Slates, blocks, fill, pick_evenly, slates_of
from tasks.sample.settings import MainPolicy
from tasks.sample.visits import visits_of
from tasks.sample.world import World, build_world

WEIGHTS = np.array([5.0, 1.0, 0.2, 3.0, 0.05])


def by_hand(slate: tuple[int, ...], weights: np.ndarray, eps: float) -> list[float]:
    """Conditional probabilities of a slate, position by position, from their definition."""
    p, free = [], set(range(len(weights)))
    for item in slate:
        total = sum(weights[i] for i in free)
        p.append((1 - eps) * weights[item] / total + eps / len(free))
        free.remove(item)
    return p


def filled(n: int, eps: float, weights: np.ndarray = WEIGHTS) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0).random((n, 3, 2))
    return fill(weights[None, :], np.zeros(n, dtype=np.int64), np.full(n, eps), draws)


@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
def test_logged_probability_is_the_definition(eps: float) -> None:
    slates, p = filled(5000, eps)
    for slate, logged in zip(slates, p, strict=True):
        np.testing.assert_allclose(logged, by_hand(tuple(slate), WEIGHTS, eps), rtol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 0.1, 1.0])
def test_slates_come_as_often_as_their_probability(eps: float) -> None:
    slates, _ = filled(200_000, eps)
    kinds, counts = np.unique(slates, axis=0, return_counts=True)
    found = {tuple(s): n for s, n in zip(kinds, counts, strict=True)}
    for slate in permutations(range(5), 3):
        p = float(np.prod(by_hand(slate, WEIGHTS, eps)))
        sd = np.sqrt(200_000 * p * (1 - p))
        assert abs(found.get(slate, 0) - 200_000 * p) < 4.5 * sd + 1


@pytest.mark.parametrize("weights", [WEIGHTS, np.exp(-np.arange(5) * 9.0)])
def test_probabilities_of_a_position_sum_to_one(weights: np.ndarray) -> None:
    slates, p = filled(200_000, 0.3, weights)
    for k in range(3):
        steps = {tuple(s[: k + 1]): q for s, q in zip(slates, p[:, k], strict=True)}
        for above in {step[:-1] for step in steps}:
            nexts = [q for step, q in steps.items() if step[:-1] == above]
            assert len(nexts) == 5 - k
            assert sum(nexts) == pytest.approx(1, abs=1e-12)


def test_extreme_weights_never_repeat_an_item() -> None:
    slates, p = filled(2000, 0.0, np.exp(-np.arange(6) * 40.0))
    assert (np.sort(slates, axis=1) == [0, 1, 2]).all()
    np.testing.assert_allclose(p, 1)


def test_pick_evenly_takes_each_free_item_as_often() -> None:
    u = (np.arange(600) + 0.5) / 600
    taken = np.tile([4, 0, 2], (600, 1))
    assert np.bincount(pick_evenly(taken, 6, u)).tolist() == [0, 200, 0, 200, 0, 200]


def test_blocks_never_split_a_user() -> None:
    user = np.array([3, 3, 4, 7, 7, 7, 9])
    cuts = blocks(user, exposure.CELLS_AT_ONCE // 2)
    assert [user[c].tolist() for c in cuts] == [[3, 3, 4], [7, 7, 7, 9]]
    assert blocks(user[:0], 10) == [slice(0, 0)]


def day_of_slates(world: World) -> tuple[Slates, np.ndarray]:
    visits = visits_of(world, 0, 0, np.arange(world.settings.n_users))
    requests = visits.at(np.flatnonzero(~visits.is_search))
    eligible = world.eligible(0)
    return slates_of(world, 0, 0, requests, eligible), eligible


def test_blocks_do_not_change_slates(monkeypatch: pytest.MonkeyPatch) -> None:
    world = build_world(ShopSettings(n_days=1, n_users=200, n_items=100))
    whole, _ = day_of_slates(world)
    monkeypatch.setattr(exposure, "CELLS_AT_ONCE", 700)
    parts, _ = day_of_slates(world)
    for name in Slates.__annotations__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_items_not_shown_are_eligible_and_not_in_the_slate() -> None:
    slates, eligible = day_of_slates(build_world(ShopSettings(n_days=1, n_items=60)))
    both = np.hstack([slates.shown, slates.not_shown])
    assert np.isin(both, eligible).all()
    assert all(len(set(row)) == 13 for row in both.tolist())


def test_greedy_shows_the_best_and_logs_no_probability() -> None:
    slates, _ = day_of_slates(build_world(ShopSettings(n_days=1, main_policy="greedy")))
    main = ~slates.is_uniform
    assert np.isnan(slates.propensity).all()
    assert (np.diff(slates.shown_score[main], axis=1) <= 0).all()
    assert (slates.not_shown_score[main].max(axis=1) <= slates.shown_score[main, -1]).all()
    assert 0.03 < slates.is_uniform.mean() < 0.07


def ess_share(main_policy: MainPolicy) -> float:
    """Effective sample size of the weights of the main policy, as a share."""
    world = build_world(ShopSettings(n_days=1, main_policy=main_policy))
    slates, eligible = day_of_slates(world)
    n_free = len(eligible) - np.arange(slates.shown.shape[1])
    w = (1 / (slates.propensity * n_free))[~slates.is_uniform]
    return float(w.sum() ** 2 / (w**2).sum() / w.size)


def test_overlap_is_sound_and_collapses_by_a_switch() -> None:
    assert ess_share("mixed") > 0.35
    assert ess_share("collapsed") < 0.05
