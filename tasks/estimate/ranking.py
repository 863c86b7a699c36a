"""How good top-K lists are against what users did later. Relevance is binary.

For user u with relevant items R_u (not empty) and list l_1 .. l_K, hit_r = [l_r in R_u]:

    Recall@K   = sum_r hit_r / |R_u|
    HitRate@K  = [sum_r hit_r > 0]
    NDCG@K     = DCG / IDCG,  DCG = sum_r hit_r / log2(r + 1),
                 IDCG = sum_{r=1..min(K, |R_u|)} 1 / log2(r + 1)
    Coverage@K = items in anyone's first K / items that may be listed

each but the last averaged over the users with a relevant item; users without one are not
counted. The denominator of Recall is |R_u|, not min(K, |R_u|). NDCG: K. Jarvelin, J. Kekalainen,
"Cumulated gain-based evaluation of IR techniques", TOIS 2002, with the discount 1 / log2(r + 1)
of C. Burges et al., "Learning to rank using gradient descent", ICML 2005.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
OffsetArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Relevant(Protocol):
    """The relevant items of each user in compressed rows, ascending within a row."""

    @property
    def indptr(self) -> OffsetArray:
        """Where each user's row starts, [U + 1]."""

    @property
    def indices(self) -> IntArray:
        """Relevant item positions, [nnz]."""


@dataclass(frozen=True)
class RankingMetric:
    """One number; value is None where no user (or, for coverage, no item) counts."""

    metric: str  # recall, ndcg, hit_rate or coverage
    k: int
    value: float | None
    n_users: int  # users averaged over; for coverage, users with a list


def ranking_metrics(
    lists: IntArray, relevant: Relevant, *, ks: Sequence[int] = (10, 20), n_allowed: int
) -> list[RankingMetric]:
    """Recall, NDCG, hit rate and coverage of lists at each k.

    Args:
        lists: [U, K] item positions best first, -1 where a list is short; k > K counts as K.
        relevant: U rows.
        ks: list lengths, at least 1.
        n_allowed: how many items may be listed at all.
    """
    n_relevant = np.diff(relevant.indptr)
    counted = n_relevant > 0
    hits = hit_matrix(lists, relevant)[counted]
    return [
        metric
        for k in ks
        for metric in (
            *_accuracy(hits[:, :k], n_relevant[counted], k),
            _coverage(lists[:, :k], k, n_allowed),
        )
    ]


def ndcg(lists: IntArray, relevant: Relevant, k: int) -> FloatArray:
    """NDCG@k of each user with a relevant item, in row order."""
    n_relevant = np.diff(relevant.indptr)
    counted = n_relevant > 0
    return _ndcg(hit_matrix(lists, relevant)[counted, :k], n_relevant[counted], k)


def hit_matrix(lists: IntArray, relevant: Relevant) -> BoolArray:
    """Whether each listed item is relevant to its user. [U, K] bool."""
    width = int(max(lists.max(initial=0), relevant.indices.max(initial=0))) + 1
    users = np.repeat(np.arange(len(lists)), np.diff(relevant.indptr))
    keys = users * width + relevant.indices
    wanted = np.arange(len(lists))[:, None] * width + lists
    found: BoolArray = np.isin(wanted, keys) & (lists >= 0)
    return found


def _accuracy(hits: BoolArray, n_relevant: OffsetArray, k: int) -> Iterator[RankingMetric]:
    n_hits = hits.sum(axis=1)
    yield _mean("recall", k, n_hits / n_relevant)
    yield _mean("ndcg", k, _ndcg(hits, n_relevant, k))
    yield _mean("hit_rate", k, (n_hits > 0).astype(np.float64))


def _ndcg(hits: BoolArray, n_relevant: OffsetArray, k: int) -> FloatArray:
    discount = 1.0 / np.log2(np.arange(2, k + 2))  # [k]
    ideal = np.cumsum(discount)[np.minimum(n_relevant, k) - 1]
    gained = (hits * discount[: hits.shape[1]]).sum(axis=1)
    values: FloatArray = gained / ideal
    return values


def _mean(metric: str, k: int, values: FloatArray) -> RankingMetric:
    return RankingMetric(metric, k, float(values.mean()) if len(values) else None, len(values))


def _coverage(lists: IntArray, k: int, n_allowed: int) -> RankingMetric:
    n_listed = len(np.unique(lists[lists >= 0]))
    n_users = int((lists >= 0).any(axis=1).sum())
    return RankingMetric("coverage", k, n_listed / n_allowed if n_allowed else None, n_users)
