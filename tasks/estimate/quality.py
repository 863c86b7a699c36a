"""The quality of the same lists under three readings of what users did after the cut.

A reading gives each relevant pair (user, item) a weight, 0 where it says nothing of the pair:

    time split     1                     any positive behaviour: what users did with what the
                                         shop's own policy, or their search, brought before them
    random slice   positive impressions  of requests whose policy was randomised: each item that
                                         could be shown was as likely
    snips          sum of 1 / p_logged   over positive impressions of all requests with a logged
                                         probability p, self-normalised and not clipped

and is averaged in two ways. "users": the mean over users, as in tasks/estimate/ranking.py; for
readings in which pairs count alike. "pairs": every pair is a case of its own,

    sum_ui w_ui c_ui / sum_ui w_ui,    c_ui what pair ui gains at its rank in the list of u

which is the same question under all three readings, whatever number of pairs a user has: of a
positive pair drawn at random, how much does the list find? SNIPS: L. Yang, Y. Cui, Y. Xuan,
C. Wang, S. Belongie, D. Estrin, "Unbiased offline recommender evaluation for missing-not-at-random
implicit feedback", RecSys 2018. Theirs normalises within each user, where the weight of an only
pair cancels and corrects nothing; ours normalises over all users, which is consistent in their
number. It is right for what is a sum over pairs only: so hit rate, and NDCG and MRR of a whole
list, have no "users" row under it.

p_logged is the probability given what stands above the slot, so that 1 / p weighs the items that
are free there alike: the estimand of snips is that of slots filled evenly from the free items.
In the random slice what stands above was as random, so that it leaves nobody's favourites out; the
two differ by the chance that an item stands above, small where slots are few among many items.
(1 / (p n_free) would only rescale slots by n_free, which hardly varies.) Both ask about
impressions: searches are in neither.

Users are independent: intervals are those of tasks/estimate/intervals.py. Where no user differs
from another, the sample says nothing about its own error, and there is no interval. No bound
leaves what its metric can be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.estimate import beyond_accuracy
from tasks.estimate.intervals import LEAST_USERS, linearised
from tasks.estimate.ranking import FloatArray, Found, IntArray, of_pairs, of_users

Reading = Literal["time split", "random slice", "snips"]
Average = Literal["users", "pairs", "lists"]
Bools = npt.NDArray[np.bool_]

NO_SPREAD = 1e-12  # rounding alone
ESTIMANDS: dict[tuple[str, str], str] = {
    ("time split", "users"): (
        "mean over users with a positive pair after the cut, exposed as they were"
    ),
    ("time split", "pairs"): "mean over positive pairs after the cut, exposed as they were",
    ("random slice", "users"): (
        "mean over users with a positive pair from a randomised request after the cut"
    ),
    ("random slice", "pairs"): (
        "mean over positive impressions after the cut, had every item been as likely to be shown; "
        "measured on randomised requests"
    ),
    ("snips", "pairs"): (
        "mean over positive impressions after the cut, had every item that is not above a slot "
        "been as likely to fill it; estimated from logged probabilities"
    ),
    ("lists", "users"): "mean over the measured users' lists, whatever they did",
    ("lists", "lists"): "all measured users' lists together, whatever they did",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One reading of the pairs."""

    name: Reading
    weights: FloatArray  # [n] of the pairs, at least 0
    averages: tuple[Average, ...]


@dataclass(frozen=True, eq=False)
class Segment:
    """Some of the pairs: those of some users, or of some items."""

    kind: str
    name: str
    pairs: Bools  # [n]


@dataclass(frozen=True)
class Quality:
    """One number of one reading; se and bounds are None where nothing can be said of its error."""

    evaluation: str
    average: str
    metric: str
    k: int
    segment_kind: str
    segment: str
    value: float
    se: float | None
    lower: float | None
    upper: float | None
    n_users: int  # that count
    n_pairs: int  # relevant pairs that count; 0 for what asks for none
    ess: float  # effective sample size of the weights, in pairs
    estimand: str


def readings(positive: FloatArray, inverse: FloatArray, n: int) -> list[Evaluation]:
    """The three readings of n pairs; one that says nothing gives no number later.

    Args:
        positive: [n] positive impressions of randomised requests.
        inverse: [n] sums of 1 / p_logged over positive impressions.
    """
    return [
        Evaluation("time split", np.ones(n), ("users", "pairs")),
        Evaluation("random slice", positive, ("users", "pairs")),
        Evaluation("snips", inverse, ("pairs",)),
    ]


def accuracies(
    pairs: Found, evaluations: Sequence[Evaluation], segments: Sequence[Segment], ks: Sequence[int]
) -> Iterator[Quality]:
    """Recall, NDCG, hit rate and MRR: of all pairs at every k, of segments at the largest."""
    everything = Segment("all", "all", np.ones(len(pairs.user), dtype=np.bool_))
    for evaluation in evaluations:
        yield from _accuracies(pairs, evaluation, everything, ks, least_users=1)
        for segment in segments:
            yield from _accuracies(pairs, evaluation, segment, [max(ks)], least_users=LEAST_USERS)


def _accuracies(
    pairs: Found, evaluation: Evaluation, segment: Segment, ks: Sequence[int], least_users: int
) -> Iterator[Quality]:
    kept = np.flatnonzero(segment.pairs & (evaluation.weights > 0))
    some, weights = pairs.only(kept), evaluation.weights[kept]
    if some.n_users < least_users:
        return
    for average in evaluation.averages:
        for k in ks:
            for metric, top, bottom in _sums(some, weights, average, k):
                yield _quality(
                    (evaluation.name, average, metric, k, segment.kind, segment.name),
                    (top, bottom),
                    len(kept),
                    float(len(kept)) if average == "users" else _ess(weights),
                )


def _sums(
    pairs: Found, weights: FloatArray, average: Average, k: int
) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """Each metric as the two sums by user whose ratio it is."""
    if average == "users":
        for metric, values in of_users(pairs, k).items():
            yield metric, values, np.ones(pairs.n_users)
        return
    for metric, values in of_pairs(pairs, k).items():
        yield metric, pairs.summed(weights * values), pairs.summed(weights)


def _ess(weights: FloatArray) -> float:
    return float(weights.sum() ** 2 / np.square(weights).sum())


def list_qualities(
    lists: IntArray,
    ks: Sequence[int],
    *,
    n_allowed: int,
    n_users_before: beyond_accuracy.Counts,
    n_users: int,
    category: IntArray,
) -> Iterator[Quality]:
    """Coverage and Gini of all lists together, novelty and diversity of each.

    Arguments as in tasks/estimate/beyond_accuracy.py; n_allowed: items that may be listed at all.
    """
    for k in ks:
        some = lists[:, :k]
        n_listed = int((some >= 0).any(axis=1).sum())
        for metric, value in (
            ("coverage", beyond_accuracy.coverage(some, n_allowed)),
            ("gini", beyond_accuracy.gini(some, n_allowed)),
        ):
            if value is not None:
                yield _fact(metric, k, value, n_listed)
        for metric, values in (
            ("novelty", beyond_accuracy.novelty(some, n_users_before, n_users)),
            ("diversity", beyond_accuracy.diversity(some, category)),
        ):
            if len(values):
                names = ("lists", "users", metric, k, "all", "all")
                yield _quality(names, (values, np.ones(len(values))), 0, 0.0)


def _fact(metric: str, k: int, value: float, n_users: int) -> Quality:
    """What is true of these lists, and no mean over users: it has no interval."""
    return Quality(
        "lists", "lists", metric, k, "all", "all", value, None, None, None, n_users, 0, 0.0,
        ESTIMANDS["lists", "lists"],
    )  # fmt: skip


def _quality(
    names: tuple[str, str, str, int, str, str],
    sums: tuple[FloatArray, FloatArray],
    n_pairs: int,
    ess: float,
) -> Quality:
    linear = linearised(*sums)
    assert linear is not None  # somebody counts, with a weight above 0
    interval = linear.interval
    bounds: tuple[float | None, float | None, float | None] = (None, None, None)
    if interval is not None and interval.se > NO_SPREAD:
        most = np.inf if names[2] == "novelty" else 1.0
        bounds = (interval.se, max(interval.lower, 0.0), min(interval.upper, float(most)))
    return Quality(
        *names, linear.value, *bounds, linear.n_users, n_pairs, ess, ESTIMANDS[names[:2]]
    )
