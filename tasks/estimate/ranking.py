"""How good top-K lists are against what users did later. Relevance of a pair is binary.

For user u with relevant items R_u (not empty) and list l_1 .. l_K, hit_r = [l_r in R_u]:

    Recall@K   = sum_r hit_r / |R_u|
    HitRate@K  = [sum_r hit_r > 0]
    NDCG@K     = DCG / IDCG,  DCG = sum_r hit_r / log2(r + 1),
                 IDCG = sum_{r=1..min(K, |R_u|)} 1 / log2(r + 1)
    MRR@K      = 1 / r of the first hit, 0 without one

each averaged over the users with a relevant item; users without one are not counted. The
denominator of Recall is |R_u|, not min(K, |R_u|). NDCG: K. Jarvelin, J. Kekalainen, "Cumulated
gain-based evaluation of IR techniques", TOIS 2002, with the discount 1 / log2(r + 1) of C. Burges
et al., "Learning to rank using gradient descent", ICML 2005. MRR: E. Voorhees, "The TREC-8 question
answering track report", 1999.

All but Recall depend on how many relevant items a user has, so that evaluations which know more or
fewer of them cannot be compared. A relevant pair taken as a case of its own, with one relevant
item at rank r of its user's list, has

    Recall@K = HitRate@K = [r <= K]      NDCG@K = [r <= K] / log2(r + 1)      MRR@K = [r <= K] / r

which are sums over pairs, and so can be weighted pair by pair.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
OffsetArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_AT_ONCE = 1 << 18  # pairs compared with their lists in one go: 20 MB at K = 20


class Relevant(Protocol):
    """The relevant items of each user in compressed rows, ascending within a row."""

    @property
    def indptr(self) -> OffsetArray:
        """Where each user's row starts, [U + 1]."""

    @property
    def indices(self) -> IntArray:
        """Relevant item positions, [nnz]."""


@dataclass(frozen=True, eq=False)
class Found:
    """Relevant pairs and where their user's list holds them; users without a pair have no place."""

    user: OffsetArray  # [n] ascending, 0 to n_users - 1
    rank: IntArray  # [n] from 1; 0: not listed

    @property
    def n_users(self) -> int:
        """Users with a relevant pair."""
        return int(self.user[-1]) + 1 if len(self.user) else 0

    def only(self, pairs: OffsetArray) -> "Found":
        """These of the pairs, given in ascending order."""
        return Found(_renumbered(self.user[pairs]), self.rank[pairs])

    def summed(self, values: FloatArray) -> FloatArray:
        """Values of pairs [n], summed by user [n_users]."""
        return np.bincount(self.user, values, self.n_users).astype(np.float64)


def found(lists: IntArray, relevant: Relevant) -> Found:
    """Look for every relevant pair in its user's list.

    Args:
        lists: [U, K] item positions best first, -1 where a list is short.
        relevant: U rows.
    """
    rows = np.repeat(np.arange(len(lists), dtype=np.int64), np.diff(relevant.indptr))
    rank = np.zeros(len(rows), dtype=np.int32)
    for start in range(0, len(rows), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        is_there = lists[rows[some]] == relevant.indices[some, None]  # [n, K]
        rank[some] = np.where(is_there.any(axis=1), is_there.argmax(axis=1) + 1, 0)
    return Found(_renumbered(rows), rank)


def of_users(pairs: Found, k: int) -> dict[str, FloatArray]:
    """Recall, NDCG, hit rate and MRR at k of each user with a relevant pair, [n_users] each."""
    of = of_pairs(pairs, k)
    n_relevant = pairs.summed(np.ones(len(pairs.user)))
    n_hits = pairs.summed(of["recall"])
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))  # [k]
    gained = pairs.summed(of["ndcg"]) / ideal[np.minimum(n_relevant, k).astype(np.int64) - 1]
    best = np.zeros(pairs.n_users)
    np.maximum.at(best, pairs.user, of["mrr"])  # the first hit is the one that gains most
    return {
        "recall": n_hits / n_relevant,
        "ndcg": np.minimum(gained, 1.0),  # sums in two orders may differ in their last bit
        "hit_rate": (n_hits > 0).astype(np.float64),
        "mrr": best,
    }


def of_pairs(pairs: Found, k: int) -> dict[str, FloatArray]:
    """Recall, NDCG and MRR at k of each pair as a case of its own, [n] each."""
    is_hit = (pairs.rank > 0) & (pairs.rank <= k)
    rank = np.maximum(pairs.rank, 1)
    return {
        "recall": is_hit.astype(np.float64),
        "ndcg": is_hit / np.log2(rank + 1.0),
        "mrr": is_hit / rank,
    }


def ndcg(lists: IntArray, relevant: Relevant, k: int) -> FloatArray:
    """NDCG@k of each user with a relevant item, in row order."""
    return of_users(found(lists, relevant), k)["ndcg"]


def _renumbered(rows: OffsetArray) -> OffsetArray:
    """Ascending numbers without the gaps between them."""
    numbers: OffsetArray = np.cumsum(np.diff(rows, prepend=rows[:1]) != 0, dtype=np.int64)
    return numbers
