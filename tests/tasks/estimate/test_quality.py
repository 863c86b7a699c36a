"""Readings of the same lists: by hand, with weights that say nothing, and where nothing counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.estimate.intervals import LEAST_USERS
from tasks.estimate.quality import (
    Evaluation,
    Quality,
    Segment,
    accuracies,
    list_qualities,
    readings,
)
from tasks.estimate.ranking import Found

Key = tuple[str, str, str, int]


def pairs(*rows: list[int]) -> Found:
    """The ranks of each user's pairs; 0: not listed."""
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Found(user, np.array([rank for row in rows for rank in row], dtype=np.int32))


def told(
    found: Found, positive: list[float], inverse: list[float], ks: tuple[int, ...] = (2, 3)
) -> dict[Key, Quality]:
    all_readings = readings(np.array(positive), np.array(inverse), len(found.user))
    rows = list(accuracies(found, all_readings, [], ks))
    found_keys = [(row.evaluation, row.average, row.metric, row.k) for row in rows]
    assert len(set(found_keys)) == len(rows)
    return dict(zip(found_keys, rows, strict=True))


def test_the_three_readings_worked_out_by_hand() -> None:
    # two users; ranks 1, 3 and none; 2. The second and the last pair were seen in the random
    # slice, the last one twice; all but the third were logged.
    found = told(pairs([1, 3, 0], [2]), [0, 1, 0, 2], [10, 100, 0, 40])
    assert found["time split", "users", "recall", 3].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["time split", "pairs", "recall", 3].value == pytest.approx(3 / 4)
    assert found["time split", "pairs", "recall", 2].value == pytest.approx(2 / 4)
    assert found["random slice", "users", "recall", 2].value == pytest.approx(1 / 2)
    assert found["random slice", "pairs", "recall", 2].value == pytest.approx(2 / 3)
    assert found["random slice", "pairs", "mrr", 3].value == pytest.approx((1 / 3 + 2 / 2) / 3)
    snips = found["snips", "pairs", "recall", 2]
    assert snips.value == pytest.approx((10 + 40) / 150)
    assert (snips.n_users, snips.n_pairs) == (2, 3)
    assert snips.ess == pytest.approx(150**2 / (10**2 + 100**2 + 40**2))
    ndcg = found["snips", "pairs", "ndcg", 3]
    assert ndcg.value == pytest.approx((10 * 1 + 100 * 0.5 + 40 / math.log2(3)) / 150)


def test_its_standard_error_worked_out_by_hand() -> None:
    # sums by user: 10 of 110, 40 of 40; ratio 1/3; influence (10 - 110/3)/40, (40 - 40/3)/110
    found = told(pairs([1, 3], [2]), [0, 0, 0], [10, 100, 40])["snips", "pairs", "recall", 2]
    se = math.sqrt(1 / 2 * ((80 / 3 / 40) ** 2 + (80 / 3 / 110) ** 2))
    assert found.se == pytest.approx(se)
    assert (found.lower, found.upper) == (0.0, 1.0)  # what a share can be


def test_an_interval_far_from_the_ends_is_symmetric() -> None:
    found = told(pairs(*[[1, 0]] * 12, *[[1, 1]] * 12), [0] * 48, [1] * 48)
    row = found["snips", "pairs", "recall", 2]
    assert row.value == 0.75
    assert row.se == pytest.approx(math.sqrt(24 / 23 * 24) * 0.25 / 24)
    assert row.lower == pytest.approx(0.75 - 2.068658 * (row.se or 0))  # t of 24 users
    assert row.upper == pytest.approx(0.75 + 2.068658 * (row.se or 0))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1000))
def test_weights_that_are_equal_change_nothing(seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, 6, rng.integers(1, 5)).tolist() for _ in range(6)]
    found = pairs(*rows)
    all_told = told(found, [1.0] * len(found.user), [weight] * len(found.user), (5,))
    for average in ("users", "pairs"):
        for metric in ("recall", "ndcg", "mrr"):
            plain = all_told["time split", average, metric, 5]
            assert all_told["random slice", average, metric, 5].value == plain.value
    for metric in ("recall", "ndcg", "mrr"):
        plain, snips = (all_told[name, "pairs", metric, 5] for name in ("time split", "snips"))
        assert snips.value == pytest.approx(plain.value)
        assert snips.se == (plain.se if plain.se is None else pytest.approx(plain.se))


def test_a_reading_that_nothing_was_logged_for_gives_no_number() -> None:
    found = told(pairs([1], [2]), [0, 0], [0, 0])
    assert {key[0] for key in found} == {"time split"}
    assert not told(pairs(), [], [])


def test_one_user_has_no_interval_and_neither_have_users_that_are_alike() -> None:
    for found in (told(pairs([1, 0]), [0, 0], [1, 2]), told(pairs([1], [1]), [0, 0], [1, 2])):
        for row in found.values():
            assert math.isfinite(row.value)
            assert (row.se, row.lower, row.upper) == (None, None, None)


def test_segments_are_told_at_the_largest_k_if_enough_users_count() -> None:
    n = LEAST_USERS
    found = pairs(*[[1, 0]] * n)
    evaluation = Evaluation("time split", np.ones(2 * n), ("users", "pairs"))
    first = np.arange(2 * n) % 2 == 0
    segments = [
        Segment("popularity", "head", first),
        Segment("popularity", "tail", ~first),
        Segment("country", "NZ", np.arange(2 * n) < 2 * n - 2),
    ]
    rows = [
        row
        for row in accuracies(found, [evaluation], segments, (5, 10))
        if row.segment_kind != "all"
    ]
    assert {(row.segment, row.k) for row in rows} == {("head", 10), ("tail", 10)}
    recalls = {(row.segment, row.value) for row in rows if row.metric == "recall"}
    assert recalls == {("head", 1.0), ("tail", 0.0)}


def test_every_number_names_its_estimand() -> None:
    for key, row in told(pairs([1, 0], [2]), [1, 0, 0], [1, 2, 3]).items():
        assert len(row.estimand) > 20, key


def lists_told(category: list[int]) -> dict[str, Quality]:
    rows = list_qualities(
        np.array([[0, 1], [0, 2]], dtype=np.int32),
        (2,),
        n_allowed=4,
        n_users_before=np.array([4, 2, 1]),
        n_users=4,
        category=np.array(category, dtype=np.int32),
    )
    return {row.metric: row for row in rows}


def test_what_lists_are_like_is_told_once() -> None:
    found = lists_told([0, 0, 1])
    assert {name: (row.value, row.n_users) for name, row in found.items()} == {
        "coverage": (0.75, 2),
        "gini": (pytest.approx(0.375), 2),
        "novelty": (pytest.approx(0.75), 2),
        "diversity": (0.5, 2),
    }
    assert found["diversity"].se == pytest.approx(0.5)
    assert found["coverage"].se is None


def test_without_categories_there_is_no_diversity() -> None:
    assert set(lists_told([-1, -1, -1])) == {"coverage", "gini", "novelty"}
