import numpy as np
import pytest

from tasks.estimate.beyond_accuracy import coverage, diversity, gini, novelty

LISTS = np.array([[0, 1, 2], [0, 1, -1], [-1, -1, -1]], dtype=np.int32)


def test_coverage_is_the_share_of_what_may_be_listed() -> None:
    assert coverage(LISTS, 6) == 0.5
    assert coverage(LISTS[:, :1], 4) == 0.25
    assert coverage(LISTS, 0) is None


def test_gini_counts_items_that_nobody_lists() -> None:
    assert gini(LISTS[:2, :2], 2) == 0.0
    # counts 0, 1, 2, 2: sum (2 i - 5) x = -3 * 0 - 1 * 1 + 1 * 2 + 3 * 2 = 7, over 4 * 5
    assert gini(LISTS, 4) == pytest.approx(7 / 20)
    assert gini(LISTS[:, :1], 100) == pytest.approx(0.99)
    assert gini(LISTS[2:], 4) is None


def test_novelty_is_in_bits_and_of_lists_that_hold_something() -> None:
    # of 8 users 8, 2 and 1 had the items: 0, 2 and 3 bits
    assert novelty(LISTS, np.array([8, 2, 1]), 8).tolist() == pytest.approx([5 / 3, 1])
    assert novelty(LISTS, np.array([8, 2, 0]), 8).tolist() == pytest.approx([5 / 3, 1])


def test_diversity_is_the_share_of_pairs_that_differ() -> None:
    assert diversity(LISTS, np.array([0, 0, 1], dtype=np.int32)).tolist() == pytest.approx(
        [2 / 3, 0]
    )


def test_items_without_a_category_are_left_out_of_diversity() -> None:
    assert diversity(LISTS, np.array([0, -1, 1], dtype=np.int32)).tolist() == [1.0]
    assert not len(diversity(LISTS, np.full(3, -1, dtype=np.int32)))


def test_diversity_equals_one_pair_at_a_time() -> None:
    rng = np.random.default_rng(1)
    lists = np.stack([rng.permutation(12)[:7] for _ in range(20)]).astype(np.int32)
    category = rng.integers(0, 4, 12).astype(np.int32)
    pairs = [(a, b) for a in range(7) for b in range(a)]
    plain = [np.mean([category[row[a]] != category[row[b]] for a, b in pairs]) for row in lists]
    np.testing.assert_allclose(diversity(lists, category), plain)
