"""Examination of positions, on worlds made by hand whose theta is known."""

import numpy as np
import pytest

from tasks.estimate.examination import (
    PositionSums,
    harvested,
    of_greatest_likelihood,
    table,
    thetas,
)

THETA = np.array([1.0, 0.6, 0.45, 0.2])
GAMMA = np.array([0.5, 0.1, 0.9, 0.02, 0.3])


def expected(w: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
    """Clicks exactly as often as the model has it, [n_items, K]."""
    return np.asarray(w * GAMMA[:, None] * theta)


def sums(w: np.ndarray, c: np.ndarray, n_folds: int = 1) -> PositionSums:
    """The same in each fold."""
    w, c = (np.repeat(each[None], n_folds, axis=0) for each in (w, c))
    n_slots, n_clicks = (each.sum(axis=(0, 1)).astype(np.int64) for each in (w, c))
    return PositionSums(np.arange(1, w.shape[2] + 1), w, c, n_slots, n_clicks)


def test_both_methods_find_theta_though_good_items_stand_high() -> None:
    w = np.array(
        [[900, 90, 9, 1], [5, 50, 50, 500], [800, 80, 8, 2], [1, 9, 90, 900], [9, 9, 9, 9]]
    )
    w = w.astype(float)
    c = expected(w)
    raw = (c.sum(axis=0) / w.sum(axis=0)) / (c[:, 0].sum() / w[:, 0].sum())
    assert np.abs(raw - THETA).max() > 0.1  # what the click rate by position would say
    assert harvested(w, c) == pytest.approx(THETA, rel=1e-9)
    assert of_greatest_likelihood(w, c) == pytest.approx(THETA, rel=1e-3)


def test_a_chain_of_neighbours_is_enough() -> None:
    """No item stands at more than two positions, and those are neighbours."""
    w = np.array(
        [[8, 4, 0, 0], [5, 9, 0, 0], [0, 7, 3, 0], [0, 2, 6, 0], [0, 0, 9, 5]], dtype=float
    )
    assert harvested(w, expected(w)) == pytest.approx(THETA, rel=1e-9)


def test_a_position_that_no_item_links_is_left_to_em() -> None:
    w = np.array(
        [[8, 4, 0, 0], [5, 9, 0, 0], [0, 0, 7, 3], [0, 0, 2, 6], [9, 9, 0, 0]], dtype=float
    )
    found = sums(w, expected(w))
    assert np.isnan(harvested(found.w[0], found.c[0])[2:]).all()
    rows = table(found)
    assert {row["method"] for row in rows if row["is_used"]} == {"em"}
    assert len(thetas(found)) == 4
    assert np.isfinite(list(thetas(found).values())).all()


def test_a_position_without_clicks_breaks_nothing() -> None:
    theta = np.array([1.0, 0.5, 0.0, 0.2])
    w = np.full((5, 4), 10.0)
    found = thetas(sums(w, expected(w, theta)))
    assert list(found.values()) == pytest.approx(theta, abs=1e-6)


def test_one_position_is_the_best_there_is() -> None:
    w = np.full((5, 1), 10.0)
    assert thetas(sums(w, expected(w, THETA[:1]))) == {1: 1.0}


def test_without_a_click_nothing_is_said() -> None:
    nothing = np.zeros((0, 4))
    found = sums(nothing, nothing)
    assert table(found) == []
    assert thetas(found) == {}


def test_the_error_is_that_of_chance() -> None:
    """Of a hundred worlds, the estimate is off by its standard error on the whole."""
    draw = np.random.default_rng(5)
    w = np.full((5, 4), 400.0)
    found, told = [], []
    for _ in range(100):
        c = draw.binomial(400, np.outer(GAMMA, THETA), size=(5, 5, 4)).astype(float)
        many = PositionSums(
            np.arange(1, 5), np.repeat(w[None], 5, axis=0), c, np.ones(4, int), np.ones(4, int)
        )
        rows = [row for row in table(many) if row["is_used"]]
        found.append([row["theta"] for row in rows])
        told.append([row["se"] for row in rows])
    spread, error = np.std(found, axis=0)[1:], np.mean(told, axis=0)[1:]
    assert np.abs(np.mean(found, axis=0) - THETA).max() < 0.01
    assert error / spread == pytest.approx(np.ones(3), rel=0.35)


def test_one_fold_of_users_has_no_standard_error() -> None:
    w = np.full((5, 4), 10.0)
    assert {row["se"] for row in table(sums(w, expected(w)))} == {None}
