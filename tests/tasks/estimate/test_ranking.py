import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.estimate.ranking import RankingMetric, ndcg, ranking_metrics
from tasks.train.csr import Csr, from_keys

Array = np.ndarray


def relevant(rows: list[list[int]], n_items: int) -> Csr:
    full = np.zeros((len(rows), n_items), dtype=bool)
    for row, items in enumerate(rows):
        full[row, items] = True
    return from_keys(np.flatnonzero(full), *full.shape)


def by_name(found: list[RankingMetric]) -> dict[tuple[str, int], RankingMetric]:
    return {(metric.metric, metric.k): metric for metric in found}


def test_numbers_worked_out_by_hand() -> None:
    lists = np.array([[4, 1, 0], [2, -1, -1], [3, 2, 1]], dtype=np.int32)
    rel = relevant([[0, 4, 5], [3], []], 6)
    found = by_name(ranking_metrics(lists, rel, ks=(1, 3), n_allowed=6))
    discount = [1.0, 1 / math.log2(3), 0.5]
    assert found["recall", 3] == RankingMetric("recall", 3, 1 / 3, 2)
    assert found["recall", 1].value == pytest.approx(1 / 6)
    assert found["hit_rate", 3].value == 0.5
    assert found["ndcg", 3].value == pytest.approx(1.5 / sum(discount) / 2)
    assert found["ndcg", 1].value == 0.5
    assert found["coverage", 3] == RankingMetric("coverage", 3, 5 / 6, 3)
    assert found["coverage", 1].value == 0.5


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12))
def test_vectorised_equals_one_user_at_a_time(seed: int, n_items: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(rng.random(n_items) < 0.4).tolist() for _ in range(5)]
    n_listed = rng.integers(0, n_items + 1, 5)
    lists = np.full((5, n_items), -1, dtype=np.int32)
    for user, n in enumerate(n_listed):
        lists[user, :n] = rng.permutation(n_items)[:n]
    rel = relevant(rows, n_items)
    expected = [plain_ndcg(lists[u], rows[u], k) for u in range(5) if rows[u]]
    np.testing.assert_allclose(ndcg(lists, rel, k), expected)
    found = by_name(ranking_metrics(lists, rel, ks=(k,), n_allowed=n_items))
    recalls = [len({*lists[u, :k]} & {*rows[u]}) / len(rows[u]) for u in range(5) if rows[u]]
    assert found["recall", k].n_users == len(recalls)
    assert found["recall", k].value == (pytest.approx(np.mean(recalls)) if recalls else None)


def plain_ndcg(items: Array, wanted: list[int], k: int) -> float:
    gained = sum(1 / math.log2(r + 2) for r, item in enumerate(items[:k]) if item in wanted)
    return gained / sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted))))


def test_a_perfect_list_is_worth_one_even_when_k_exceeds_it() -> None:
    found = by_name(
        ranking_metrics(
            np.array([[1, 0]], dtype=np.int32), relevant([[0, 1]], 2), ks=(5,), n_allowed=2
        )
    )
    assert {metric.value for metric in found.values()} == {1.0}


def test_without_a_relevant_item_there_is_no_number() -> None:
    found = by_name(
        ranking_metrics(np.full((2, 3), -1, dtype=np.int32), relevant([[], []], 4), n_allowed=0)
    )
    assert {(metric.value, metric.n_users) for metric in found.values()} == {(None, 0)}
