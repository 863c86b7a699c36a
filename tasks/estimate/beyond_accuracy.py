"""What lists are like by themselves, whoever reads them.

For the first K places of U lists, of which n items may be in, item i in x_i of them:

    Coverage@K   = items in anyone's list / n
    Gini@K       = sum_i (2 i - n - 1) x_(i) / (n sum x), x ascending, those with 0 among them;
                   0: all alike, near 1: the same few items for everyone
    Novelty@K    = mean over listed items of -log2(share of the users who had the item before):
                   self-information, in bits (S. Vargas, P. Castells, "Rank and relevance in novelty
                   and diversity metrics for recommender systems", RecSys 2011, without discount)
    Diversity@K  = share of the pairs in a list that differ in category: intra-list diversity
                   (C.-N. Ziegler et al., "Improving recommendation lists through topic
                   diversification", WWW 2005, with the distance 1 between categories)
"""

import numpy as np
import numpy.typing as npt

from tasks.estimate.ranking import FloatArray, IntArray

Counts = npt.NDArray[np.int64]


def coverage(lists: IntArray, n_allowed: int) -> float | None:
    """Share of the items that may be listed which somebody's list holds; None where none may."""
    return len(np.unique(lists[lists >= 0])) / n_allowed if n_allowed else None


def gini(lists: IntArray, n_allowed: int) -> float | None:
    """How unequally the items share the places of the lists; None where no list holds any."""
    counts = np.sort(np.unique(lists[lists >= 0], return_counts=True)[1])
    if not len(counts):
        return None
    rank = np.arange(n_allowed - len(counts) + 1, n_allowed + 1)
    return float(((2 * rank - n_allowed - 1) * counts).sum() / (n_allowed * counts.sum()))


def novelty(lists: IntArray, n_users_before: Counts, n_users: int) -> FloatArray:
    """Mean self-information of each list that holds an item, in bits.

    Args:
        lists: [U, K] item positions, -1 where a list is short.
        n_users_before: [I] of the n_users known before the cut, those who had each item. An item
            that none had counts as if one had: its self-information has no bound.
        n_users: how many were known, at least 1.
    """
    is_item = lists >= 0
    n_listed = is_item.sum(axis=1)
    bits = np.log2(n_users) - np.log2(np.maximum(n_users_before, 1))  # [I]
    summed = np.where(is_item, bits[np.maximum(lists, 0)], 0.0).sum(axis=1)
    mean: FloatArray = summed[n_listed > 0] / n_listed[n_listed > 0]
    return mean


def diversity(lists: IntArray, category: IntArray) -> FloatArray:
    """Share of differing pairs of each list with two items of a known category.

    Args:
        lists: [U, K] item positions, -1 where a list is short.
        category: [I] numbers, -1 where an item has none; such items are left out.
    """
    of = np.where(lists >= 0, category[np.maximum(lists, 0)], -1)  # [U, K]
    n_known = (of >= 0).sum(axis=1)
    n_same = np.zeros(len(lists))
    for apart in range(1, lists.shape[1]):
        n_same += ((of[:, apart:] == of[:, :-apart]) & (of[:, apart:] >= 0)).sum(axis=1)
    counted = n_known > 1
    n_pairs = n_known[counted] * (n_known[counted] - 1) / 2
    differing: FloatArray = 1.0 - n_same[counted] / n_pairs
    return differing
