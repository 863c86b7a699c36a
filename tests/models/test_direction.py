"""Causes come first; what only stands together does not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.direction import LEAST, Directions, Rule, control, directions, standing_out

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
    return by_pair(directions(histories(given_rows), rule(window, strong)))


def by_pair(found: Directions) -> dict[tuple[int, int], float]:
    pairs = zip(found.keys // N_ITEMS, found.keys % N_ITEMS, found.scores, strict=True)
    return {(int(cause), int(effect)): float(score) for cause, effect, score in pairs}


def terms(given_rows: Rows, window: int, strong: float) -> dict[tuple[int, int], list[float]]:
    """Of each pair that stood together, above 0 where the cause came first."""
    least = strong * max((strength for row in given_rows for _, strength in row), default=0)
    found: dict[tuple[int, int], list[float]] = {}
    for row in given_rows:
        for i, (cause, strength) in enumerate(row):
            for j, (effect, _) in enumerate(row):
                if cause != effect and 1 <= abs(i - j) <= window and strength >= least:
                    found.setdefault((cause, effect), []).append(1 / (j - i))
    return found


def plain(given_rows: Rows, window: int, strong: float) -> dict[tuple[int, int], float]:
    """The scores by the formula, pair by pair."""
    found = {
        pair: sum(each) / (sum(term**2 for term in each) + 1) ** 0.5
        for pair, each in terms(given_rows, window, strong).items()
    }
    return {pair: score for pair, score in found.items() if score >= LEAST}


def plain_excess(given_rows: Rows, window: int, strong: float) -> dict[tuple[int, int], float]:
    """The excess by the formula, pair by pair."""
    of = terms(given_rows, window, strong)
    size = {pair: sum(map(abs, each)) for pair, each in of.items()}
    found = {}
    for (cause, effect), each in of.items():
        by_cause = sum(s for (a, _), s in size.items() if a == cause)
        by_effect = sum(s for (_, b), s in size.items() if b == effect)
        chance = by_cause * by_effect / (2 * sum(size.values()))
        after = -sum(term for term in each if term < 0)
        excess = sum(each) - chance
        found[cause, effect] = excess / (after + chance + 1) ** 0.5
    return found


@given(rows, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_scores_are_the_formula(given_rows: Rows, window: int, strong: float) -> None:
    wanted = plain(given_rows, window, strong)
    # a score of LEAST exactly may be rounded to either side
    for pair, score in scores(given_rows, window, strong).items():
        assert score == pytest.approx(wanted.pop(pair, LEAST), rel=1e-5)
    assert list(wanted.values()) == pytest.approx([LEAST] * len(wanted))


@given(rows, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]))
def test_excess_is_the_formula(given_rows: Rows, window: int, strong: float) -> None:
    wanted = plain_excess(given_rows, window, strong)
    found = by_pair(standing_out(histories(given_rows), rule(window, strong)))
    assert {pair: pytest.approx(wanted[pair], rel=1e-5) for pair in found} == found
    assert all(excess <= LEAST + 1e-5 for pair, excess in wanted.items() if pair not in found)


def test_what_is_popular_stands_out_only_of_what_chance_brings() -> None:
    caused = [[(0, 3), (1, 1)]] * 8
    # 2 and 3 stand beside all others, and 2 before 3 by a little more than after
    popular = [[(2, 3), (other, 1)] for other in (4, 5, 6, 7) for _ in range(30)]
    popular += [[(other, 3), (3, 1)] for other in (4, 5, 6, 7) for _ in range(30)]
    popular += [[(2, 3), (3, 1)]] * 40 + [[(3, 1), (2, 3)]] * 15
    assert scores(caused + popular)[2, 3] > scores(caused + popular)[0, 1]
    excess = by_pair(standing_out(histories(caused + popular), rule()))
    assert excess[0, 1] > 2
    assert (2, 3) not in excess


def test_a_theme_does_not_stand_out() -> None:
    theme = [[(2, 3), (3, 3)], [(3, 3), (2, 3)]] * 50
    others = [[(0, 3), (1, 1)], [(4, 3), (5, 1)], [(6, 3), (7, 1)]] * 50
    assert set(by_pair(standing_out(histories(theme + others), rule()))) == {(0, 1), (4, 5), (6, 7)}


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
    found = standing_out(causing, rule(window=1))
    chance = control(causing, rule(window=1), found.keys)
    assert found.keys.tolist() == [1, N_ITEMS + 2, 2 * N_ITEMS + 3]
    assert (found.scores > 10).all()
    assert (chance < 4).all()
    assert control(causing, rule(), np.array([80])).tolist() == [0.0]


def test_the_control_of_what_never_stands_together_is_below_chance() -> None:
    """As the excess is where nothing came before nor after: 0 would be more than it."""
    apart = histories([[(0, 1), (1, 1)], [(2, 1), (3, 1)]] * 8)
    chance = 8 * 8 / (2 * 32)  # terms of 0, of 3, and all of them: each row has two
    assert control(apart, rule(), np.array([3])).tolist() == pytest.approx(
        [-chance / (chance + 1) ** 0.5]
    )


def test_nobody_did_anything() -> None:
    assert scores([[]]) == {}
    assert by_pair(standing_out(histories([[]]), rule())) == {}
    assert control(histories([[]]), rule(), np.array([1])).tolist() == [0.0]
