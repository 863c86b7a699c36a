"""Ratios of two sums over independent users, with the interval of the jackknife over users.

For users u with a_u and b_u, the ratio r = sum(a) / sum(b) has the influence

    r - r without u = (a_u - r b_u) / (sum(b) - b_u)

of each user; with n users that count, se^2 = (n - 1) / n * sum(influence^2). The interval is
r +- t se, t of the t distribution with n' - 1 degrees of freedom, at least 1, where
n' = sum(b)^2 / sum(b^2) is how many users of equal weight would be as good: a few users who have
most of the rows are few. What one user has in several rows is summed first: rows of a user are not
independent. A mean over users is the ratio with b = 1; of users with equal b, se is that of a mean.
The influence of a difference or a ratio of ratios is that of its parts, by the delta method.

R. Miller, "The jackknife - a review", Biometrika 1974; A. Carter, K. Schnepel, D. Steigerwald,
"Asymptotic behavior of a t-test robust to cluster heterogeneity", REStat 2017: the effective number
of clusters; theirs knows more of the regressors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]

Z = 1.959964  # of a two-sided interval of 95 % of many users
UPPER = 0.975  # the quantile that it is
LEAST_USERS = 30  # of a segment or a comparison; below, nothing is said about it


@dataclass(frozen=True)
class Interval:
    """A standard error and the 95 % interval that it makes."""

    se: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class Linear:
    """A value and its influence function, [n_users]."""

    value: float
    influence: Floats
    n_users: int  # that count: b is not 0
    n_effective: float  # users of equal b that would be as good

    def __sub__(self, other: "Linear") -> "Linear":
        return self._with(other, self.value - other.value, self.influence - other.influence)

    def over(self, base: "Linear") -> "Linear":
        """self / base - 1, of a base that is not 0: the delta method."""
        ratio = self.value / base.value
        influence = (self.influence - ratio * base.influence) / base.value
        return self._with(base, ratio - 1, influence)

    def _with(self, other: "Linear", value: float, influence: Floats) -> "Linear":
        n_users = max(self.n_users, other.n_users)
        return Linear(value, influence, n_users, min(self.n_effective, other.n_effective))

    @property
    def interval(self) -> Interval | None:
        """None for one user, who has no spread."""
        if self.n_effective <= 1:
            return None
        n = self.n_users
        se = float(np.sqrt(np.square(self.influence).sum() * (n - 1) / n))
        most = float(stdtrit(max(self.n_effective - 1, 1.0), UPPER)) * se
        return Interval(se, self.value - most, self.value + most)


def linearised(top: Floats, bottom: Floats) -> Linear | None:
    """sum(top) / sum(bottom), both [n_users]; None where nothing is in the bottom."""
    total = float(bottom.sum())
    if total <= 0:
        return None
    value, of_others = float(top.sum()) / total, total - bottom
    n_users = int(np.count_nonzero(bottom))
    if of_others.min() <= 0:  # one user is all there is
        return Linear(value, np.zeros_like(top), n_users, 1.0)
    influence = (top - value * bottom) / of_others
    return Linear(value, influence, n_users, effective_users(bottom))


def effective_users(weights: Floats) -> float:
    """How many users of equal weight would be as good, sum(b)^2 / sum(b^2); 0 without any weight.

    weights: [n_users], at least 0.
    """
    total = float(weights.sum())
    return 1 / float(np.square(weights / total).sum()) if total > 0 else 0.0
