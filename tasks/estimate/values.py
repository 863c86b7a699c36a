"""What a stated policy would have earned, from the log of another. A slot is one row.

Slot j of user u was filled by the logged policy with probability p_j, given what stood above it.
The stated policy would have filled it so with probability pi_j. With the weight w_j = pi_j / p_j,
the reward y_j in [0, 1], an imputed reward q_j of the item that was shown, and d_j, the mean of
the imputed rewards under the stated policy, the value per slot is estimated by

    naive         mean(y)                          of what was shown; no estimate of the policy
    IPS           mean(w y)                        unbiased where p is right and above 0
    clipped IPS   mean(min(w, M) y)                less variance, biased down
    SNIPS         sum(w y) / sum(w)                right up to a constant factor in p
    DR            mean(d + w (y - q))              right where p or q is; q is fitted on other users

The slots of one user are not independent: every interval is that of the jackknife over users, which
knows how few they are in effect (tasks/estimate/intervals.py). ESS = sum(w)^2 / sum(w^2).

D. G. Horvitz, D. J. Thompson, JASA 1952; A. Swaminathan, T. Joachims, "The self-normalized
estimator for counterfactual learning", NeurIPS 2015; M. Dudik, J. Langford, L. Li, "Doubly robust
policy evaluation and learning", ICML 2011; L. Bottou et al., "Counterfactual reasoning and learning
systems", JMLR 2013 (clipping).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.estimate.intervals import Floats, Linear, linearised

Estimator = Literal["naive", "ips", "clipped_ips", "snips", "dr", "time_split"]
Verdict = Literal["ok", "weak overlap", "no overlap"]

LEAST_ESS = 100.0  # slots; below, nothing is said about a policy
WEAK_ESS_SHARE = 0.1  # of the slots
MEAN_WEIGHT_ERROR = 0.05  # the weights of a policy that the log supports have mean 1


@dataclass(frozen=True, eq=False)
class UserSums:
    """Sums over the slots of each user, all [n_users]; q and d of slots are the imputed rewards.

    `w_clipped` is min(w, M). Users without a slot may stand among them, with zeros.
    """

    n: Floats  # slots
    y: Floats  # sum of y
    w: Floats  # sum of w
    wy: Floats  # sum of w y
    ww: Floats  # sum of w^2
    w_clipped_y: Floats  # sum of min(w, M) y
    dr: Floats  # sum of d + w (y - q)
    w_max: float  # the largest weight

    def only(self, users: npt.NDArray[np.bool_]) -> "UserSums":
        """The sums of some users; the largest weight stays that of all."""
        return UserSums(
            **{name: value[users] for name, value in vars(self).items() if name != "w_max"},
            w_max=self.w_max,
        )


@dataclass(frozen=True)
class PolicyValue:
    """An estimate with its interval; value and bounds are None where nothing can be said."""

    estimator: Estimator
    value: float | None
    se: float | None
    lower: float | None
    upper: float | None

    @classmethod
    def nothing(cls, estimator: Estimator) -> "PolicyValue":
        """What can be said where the log says nothing."""
        return cls(estimator, None, None, None, None)


@dataclass(frozen=True)
class Overlap:
    """How much of the log speaks about the stated policy."""

    n_slots: int
    n_users: int
    ess: float
    mean_weight: float
    max_weight: float
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """What the verdict means."""
        share = self.ess / self.n_slots if self.n_slots else 0.0
        facts = f"{self.ess:,.0f} effective of {self.n_slots:,} slots ({share:.1%})"
        match self.verdict:
            case "ok":
                return f"the log speaks about this policy: {facts}"
            case "weak overlap":
                return (
                    f"few slots carry the estimate: {facts}, mean weight {self.mean_weight:.3f} "
                    "where 1 is right; read the interval, not the value"
                )
            case "no overlap":
                return f"the log hardly ever does what this policy would do: {facts}; not counted"


def overlap(sums: UserSums) -> Overlap:
    """ESS, weights and the verdict about them."""
    n, w, ww = float(sums.n.sum()), float(sums.w.sum()), float(sums.ww.sum())
    ess = w * w / ww if ww > 0 else 0.0
    mean_weight = w / n if n else 0.0
    verdict: Verdict = "ok"
    if ess < LEAST_ESS:
        verdict = "no overlap"
    elif ess < WEAK_ESS_SHARE * n or abs(mean_weight - 1) > MEAN_WEIGHT_ERROR:
        verdict = "weak overlap"
    return Overlap(int(n), int((sums.n > 0).sum()), ess, mean_weight, sums.w_max, verdict)


def policy_values(sums: UserSums) -> list[PolicyValue]:
    """Every estimate of the value per slot; of a log without overlap only the naive mean."""
    is_supported = overlap(sums).verdict != "no overlap"
    return [
        _told(name, linearised(top, bottom) if is_supported or name == "naive" else None)
        for name, top, bottom in _ratios(sums)
    ]


def difference(name: Estimator, one: UserSums, other: UserSums) -> PolicyValue:
    """value(one) - value(other) of two policies on the same slots of the same users, in order.

    Paired: what both policies share does not widen the interval.
    """
    found, base = _of(name, one), _of(name, other)
    return _told(name, None if found is None or base is None else found - base)


def change(name: Estimator, one: UserSums, other: UserSums) -> PolicyValue:
    """value(one) / value(other) - 1, paired in the same way; the interval is the delta method's."""
    return _told(name, _relative(_of(name, one), _of(name, other)))


def change_of_means(one: Floats, other: Floats) -> PolicyValue:
    """mean(one) / mean(other) - 1 of the same users' figures on the time split, [n_users]."""
    users = np.ones_like(one)
    return _told("time_split", _relative(linearised(one, users), linearised(other, users)))


def _relative(found: Linear | None, base: Linear | None) -> Linear | None:
    if found is None or base is None or base.value <= 0:
        return None
    return found.over(base)


def _of(name: Estimator, sums: UserSums) -> Linear | None:
    return next(linearised(top, bottom) for ratio, top, bottom in _ratios(sums) if ratio == name)


def _ratios(sums: UserSums) -> Iterator[tuple[Estimator, Floats, Floats]]:
    """Each estimator as a ratio of two sums over users."""
    yield "naive", sums.y, sums.n
    yield "ips", sums.wy, sums.n
    yield "clipped_ips", sums.w_clipped_y, sums.n
    yield "snips", sums.wy, sums.w
    yield "dr", sums.dr, sums.n


def _told(name: Estimator, found: Linear | None) -> PolicyValue:
    """The value with the interval of independent users."""
    if found is None:
        return PolicyValue.nothing(name)
    interval = found.interval
    if interval is None:
        return PolicyValue(name, found.value, None, None, None)
    return PolicyValue(name, found.value, interval.se, interval.lower, interval.upper)
