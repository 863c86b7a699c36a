import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.estimate.ranking import found, ndcg, of_pairs, of_users
from tasks.train.csr import Csr, from_keys

Array = np.ndarray


def relevant(rows: list[list[int]], n_items: int) -> Csr:
    full = np.zeros((len(rows), n_items), dtype=bool)
    for row, items in enumerate(rows):
        full[row, items] = True
    return from_keys(np.flatnonzero(full), *full.shape)


LISTS = np.array([[4, 1, 0], [2, -1, -1], [3, 2, 1]], dtype=np.int32)
RELEVANT = relevant([[0, 4, 5], [3], []], 6)
DISCOUNT = [1.0, 1 / math.log2(3), 0.5]


def test_numbers_of_users_worked_out_by_hand() -> None:
    pairs = found(LISTS, RELEVANT)
    at_3, at_1 = of_users(pairs, 3), of_users(pairs, 1)
    assert at_3["recall"].tolist() == [2 / 3, 0]
    assert at_1["recall"].tolist() == [1 / 3, 0]
    assert at_3["hit_rate"].tolist() == [1, 0]
    assert at_3["mrr"].tolist() == [1, 0]
    assert at_3["ndcg"] == pytest.approx([1.5 / sum(DISCOUNT), 0])
    assert at_1["ndcg"].tolist() == [1, 0]


def test_numbers_of_pairs_worked_out_by_hand() -> None:
    pairs = found(LISTS, RELEVANT)
    assert pairs.user.tolist() == [0, 0, 0, 1]
    assert pairs.rank.tolist() == [3, 1, 0, 0]
    at_3, at_2 = of_pairs(pairs, 3), of_pairs(pairs, 2)
    assert at_3["recall"].tolist() == [1, 1, 0, 0]
    assert at_2["recall"].tolist() == [0, 1, 0, 0]
    assert at_3["ndcg"].tolist() == [0.5, 1, 0, 0]
    assert at_3["mrr"].tolist() == [1 / 3, 1, 0, 0]


def test_the_first_hit_counts_whatever_the_order_of_the_pairs() -> None:
    pairs = found(np.array([[5, 3, 0]], dtype=np.int32), relevant([[0, 3]], 6))
    assert of_users(pairs, 3)["mrr"].tolist() == [1 / 2]
    assert of_users(pairs, 1)["mrr"].tolist() == [0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12))
def test_vectorised_equals_one_user_at_a_time(seed: int, n_items: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(rng.random(n_items) < 0.4).tolist() for _ in range(5)]
    n_listed = rng.integers(0, n_items + 1, 5)
    lists = np.full((5, n_items), -1, dtype=np.int32)
    for user, n in enumerate(n_listed):
        lists[user, :n] = rng.permutation(n_items)[:n]
    rel = relevant(rows, n_items)
    counted = [u for u in range(5) if rows[u]]
    np.testing.assert_allclose(
        ndcg(lists, rel, k), [plain_ndcg(lists[u], rows[u], k) for u in counted]
    )
    of = of_users(found(lists, rel), k)
    hits = [[item in rows[u] for item in lists[u, :k]] for u in counted]
    recalls = [sum(each) / len(rows[u]) for each, u in zip(hits, counted, strict=True)]
    firsts = [1 / (each.index(True) + 1) if any(each) else 0 for each in hits]
    np.testing.assert_allclose(of["recall"], recalls)
    np.testing.assert_allclose(of["mrr"], firsts)
    np.testing.assert_allclose(of["hit_rate"], [any(each) for each in hits])


def plain_ndcg(items: Array, wanted: list[int], k: int) -> float:
    gained = sum(1 / math.log2(r + 2) for r, item in enumerate(items[:k]) if item in wanted)
    return gained / sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted))))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_with_one_relevant_item_each_a_mean_over_pairs_is_one_over_users(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(6) for _ in range(4)]).astype(np.int32)
    pairs = found(lists, relevant([[int(rng.integers(6))] for _ in range(4)], 6))
    users = of_users(pairs, k)
    for metric, values in of_pairs(pairs, k).items():
        np.testing.assert_allclose(values, users[metric])
    np.testing.assert_allclose(users["recall"], users["hit_rate"])


def test_a_perfect_list_is_worth_one_even_when_k_exceeds_it() -> None:
    of = of_users(found(np.array([[1, 0]], dtype=np.int32), relevant([[0, 1]], 2)), 5)
    assert {metric: values.tolist() for metric, values in of.items()} == {
        "recall": [1], "ndcg": [1], "hit_rate": [1], "mrr": [1]
    }  # fmt: skip


def test_without_a_relevant_item_there_is_no_number() -> None:
    pairs = found(np.full((2, 3), -1, dtype=np.int32), relevant([[], []], 4))
    assert pairs.n_users == 0
    assert {len(values) for values in of_users(pairs, 3).values()} == {0}


def test_some_of_the_pairs_are_as_if_there_were_no_others() -> None:
    some = found(LISTS, RELEVANT).only(np.array([2, 3]))
    assert (some.user.tolist(), some.n_users) == ([0, 1], 2)
    assert of_users(some, 3)["recall"].tolist() == [0, 0]
