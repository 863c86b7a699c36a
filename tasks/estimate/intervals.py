"""Ratios of two sums over independent users, with the interval of their influence function.

For users u with a_u and b_u, the ratio r = sum(a) / sum(b) has the influence (a_u - r b_u) / sum(b)
of each user; with n users that count, se^2 = n / (n - 1) * sum(influence^2), and the interval is
r +- 1.96 se. What one user has in several rows is summed first: rows of a user are not
independent. A mean over users is the ratio with b = 1. (F. R. Hampel, "The influence curve and its
role in robust estimation", JASA 1974; the factor n / (n - 1) is that of a sample variance.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

Z = 1.959964  # of a two-sided interval of 95 %
LEAST_USERS = 30  # of a segment; below, nothing is said about it


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

    def __sub__(self, other: "Linear") -> "Linear":
        return Linear(
            self.value - other.value,
            self.influence - other.influence,
            max(self.n_users, other.n_users),
        )

    def over(self, base: "Linear") -> "Linear":
        """self / base - 1, of a base that is not 0: the delta method."""
        ratio = self.value / base.value
        influence = (self.influence - ratio * base.influence) / base.value
        return Linear(ratio - 1, influence, max(self.n_users, base.n_users))

    @property
    def interval(self) -> Interval | None:
        """None for one user, who has no spread."""
        if self.n_users < 2:
            return None
        se = float(np.sqrt(np.square(self.influence).sum() * self.n_users / (self.n_users - 1)))
        return Interval(se, self.value - Z * se, self.value + Z * se)


def linearised(top: Floats, bottom: Floats) -> Linear | None:
    """sum(top) / sum(bottom), both [n_users]; None where nothing is in the bottom."""
    total = float(bottom.sum())
    if total <= 0:
        return None
    value = float(top.sum()) / total
    return Linear(value, (top - value * bottom) / total, int(np.count_nonzero(bottom)))
