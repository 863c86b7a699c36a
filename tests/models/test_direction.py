"""Causes come first; what only stands together does not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.direction import LEAST, directions

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


def scores(given_rows: Rows, window: int = 3) -> dict[tuple[int, int], float]:
    found = directions(histories(given_rows), window, shrinkage=1.0)
    pairs = zip(found.keys // N_ITEMS, found.keys % N_ITEMS, found.scores, strict=True)
    return {(int(cause), int(effect)): float(score) for cause, effect, score in pairs}


def plain(given_rows: Rows, window: int) -> dict[tuple[int, int], float]:
    """By the formula, pair by pair."""
    sums: dict[tuple[int, int], tuple[float, float]] = {}
    for row in given_rows:
        for i, (cause, strength) in enumerate(row):
            for j, (effect, _) in enumerate(row):
                if cause != effect and 1 <= abs(i - j) <= window:
                    difference, square = sums.get((cause, effect), (0.0, 0.0))
                    sign = strength if i < j else -strength
                    sums[cause, effect] = difference + sign, square + strength**2
    found = {pair: d / (s + 1) ** 0.5 for pair, (d, s) in sums.items()}
    return {pair: score for pair, score in found.items() if score >= LEAST}


@given(rows, st.integers(1, 4))
def test_scores_are_the_formula(given_rows: Rows, window: int) -> None:
    assert scores(given_rows, window) == pytest.approx(plain(given_rows, window), rel=1e-5)


def test_what_comes_first_causes_and_what_stands_together_does_not() -> None:
    causing = [[(0, 3), (1, 1)]] * 9
    theme = [[(2, 1), (3, 1)], [(3, 1), (2, 1)]] * 9
    assert set(scores(causing + theme)) == {(0, 1)}


def test_the_strength_of_the_cause_counts() -> None:
    bought = [[(0, 5), (1, 1)]] * 3 + [[(1, 1), (0, 1)]] * 3
    assert set(scores(bought)) == {(0, 1)}
    assert set(scores([[(0, 1), (1, 1)]] * 3 + [[(1, 1), (0, 1)]] * 3)) == set()


def test_nobody_did_anything() -> None:
    assert scores([[]]) == {}
