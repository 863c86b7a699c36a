"""Causes come first; what only stands together does not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.direction import LEAST, Rule, control, directions

N_ITEMS = 9
Rows = list[list[tuple[int, int]]]  # of each user: an item and its strength, step by step
rows = st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=9), min_size=1)


def histories(given_rows: Rows) -> Any:
    steps = [step for row in given_rows for step in row]
    return SimpleNamespace(
        indptr=np.cumsum([0, *map(len, given_rows)]),
        items=np.array([item for item, _ in steps], dtype=np.int32),
        strengths=np.array([strength for _, strength in steps], dtype=np.float32),
        n_items=N_ITEMS,
    )


def rule(window: int = 3, strong: float = 0.5) -> Rule:
    return Rule(window, shrinkage=1.0, strong=strong)


def scores(given_rows: Rows, window: int = 3, strong: float = 0.5) -> dict[tuple[int, int], float]:
    found = directions(histories(given_rows), rule(window, strong))
    pairs = zip(found.keys // N_ITEMS, found.keys % N_ITEMS, found.scores, strict=True)
    return {(int(cause), int(effect)): float(score) for cause, effect, score in pairs}


def plain(given_rows: Rows, window: int, strong: float) -> dict[tuple[int, int], float]:
    """By the formula, pair by pair."""
    least = strong * max((strength for row in given_rows for _, strength in row), default=0)
    sums: dict[tuple[int, int], tuple[float, float]] = {}
    for row in given_rows:
        for i, (cause, strength) in enumerate(row):
            for j, (effect, _) in enumerate(row):
                if cause != effect and 1 <= abs(i - j) <= window and strength >= least:
                    difference, square = sums.get((cause, effect), (0.0, 0.0))
                    term = 1 / (j - i)
                    sums[cause, effect] = difference + term, square + term**2
    found = {pair: d / (s + 1) ** 0.5 for pair, (d, s) in sums.items()}
    return {pair: score for pair, score in found.items() if score >= LEAST}


@given(rows, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_scores_are_the_formula(given_rows: Rows, window: int, strong: float) -> None:
    wanted = plain(given_rows, window, strong)
    # a score of LEAST exactly may be rounded to either side
    for pair, score in scores(given_rows, window, strong).items():
        assert score == pytest.approx(wanted.pop(pair, LEAST), rel=1e-5)
    assert list(wanted.values()) == pytest.approx([LEAST] * len(wanted))


def test_what_comes_first_causes_and_what_stands_together_does_not() -> None:
    causing = [[(0, 3), (1, 1)]] * 9
    theme = [[(2, 3), (3, 3)], [(3, 3), (2, 3)]] * 9
    assert set(scores(causing + theme)) == {(0, 1)}


def test_only_strong_steps_are_causes() -> None:
    bought = [[(0, 5), (1, 1)]] * 4 + [[(1, 1), (0, 1)]] * 4
    assert set(scores(bought)) == {(0, 1)}
    assert set(scores(bought, strong=0.0)) == set()


def test_support_is_how_often_the_cause_came_first() -> None:
    found = directions(histories([[(0, 1), (1, 1), (0, 1)], *[[(0, 1), (1, 1)]] * 5]), rule())
    assert found.keys.tolist() == [1]
    assert found.supports.tolist() == [6]


def test_shuffled_steps_have_no_direction() -> None:
    causing = histories([[(0, 1), (1, 1), (2, 1), (3, 1)]] * 200)
    found = directions(causing, rule(window=1))
    chance = control(causing, rule(window=1), found.keys)
    assert found.keys.tolist() == [1, N_ITEMS + 2, 2 * N_ITEMS + 3]
    assert (found.scores > 10).all()
    assert (abs(chance) < 4).all()
    assert control(causing, rule(), np.array([80])).tolist() == [0.0]


def test_nobody_did_anything() -> None:
    assert scores([[]]) == {}
    assert control(histories([[]]), rule(), np.array([1])).tolist() == [0.0]
