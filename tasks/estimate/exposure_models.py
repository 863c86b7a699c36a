"""Models of exposure: P(item shown in the request | it could have been, features).

Rows are what requests showed and what they logged as not shown, each weighing as many eligible
items as it stands for (sql/queries/exposure_sample.sql). Features: the log-odds with which the item
was shown to other users, the user's activity, the hour, and, where it is asked for, the policy's
own score of the item for the user. Without the score such a model can be calibrated to a thousandth
and still leave all that the policy knew of its users: see tasks/estimate/diagnostics.py.

    logistic   P. Rosenbaum, D. Rubin, "The central role of the propensity score in observational
               studies for causal effects", Biometrika 1983; the score and its square, for a policy
               that explores is not linear in its score
    boosted    trees on histograms, J. Friedman, "Greedy function approximation: a gradient boosting
               machine", Annals of Statistics 2001

Fits run on one thread, so that they do not depend on the number of cores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["logistic", "boosted"]


@dataclass(frozen=True)
class Unit:
    """What the policy's scores are told in: their mean and standard deviation when fitted."""

    centre: float
    scale: float

    @classmethod
    def of(cls, scores: Floats, m: Floats) -> "Unit":
        """Of scores of any size, [n], that count m each; scale 1 where they are all the same."""
        centre = float(np.average(scores, weights=m))
        away = scores - centre
        reach = float(np.abs(away).max())
        if reach <= 1e-12 * abs(centre):  # rounding alone
            return cls(centre, 1.0)
        return cls(centre, reach * float(np.sqrt(np.average(np.square(away / reach), weights=m))))


@dataclass(frozen=True, eq=False)
class ExposureModel:
    """A fitted model; the columns that it reads are share, activity, hour and policy_score."""

    kind: Kind
    score: Unit | None  # None: it does not read the score
    centre: Floats  # [n_features]
    scale: Floats  # [n_features]
    fitted: Any

    def predict(self, columns: Mapping[str, Floats]) -> Floats:
        """The probability of being shown, [n], above 0 and below 1.

        Rounded to twelve places: the last bits may depend on how many rows come at once.
        """
        x = features(columns, self.kind, self.score)
        with threadpool_limits(limits=1):
            p = self.fitted.predict_proba((x - self.centre) / self.scale)[:, 1]
        rounded: Floats = np.clip(np.round(p, 12), 1e-12, 1.0)
        return rounded


def features(columns: Mapping[str, Floats], kind: Kind, score: Unit | None) -> Floats:
    """[n, n_features]."""
    share = np.clip(columns["share"], 1e-9, 1 - 1e-9)
    angle = 2 * np.pi * columns["hour"] / 24
    found = [np.log(share / (1 - share)), columns["activity"], np.sin(angle), np.cos(angle)]
    if score is not None:
        found.append((columns["policy_score"] - score.centre) / score.scale)
        if kind == "logistic":
            found.append(np.square(found[-1]))
    return np.column_stack(found)


def fit(
    kind: Kind, columns: Mapping[str, Floats], is_shown: Bools, m: Floats, *, has_score: bool
) -> ExposureModel:
    """Fit on rows of which some were shown and some were not; m: [n], what each stands for."""
    score = Unit.of(columns["policy_score"], m) if has_score else None
    x = features(columns, kind, score)
    centre = np.average(x, axis=0, weights=m)
    spread = np.sqrt(np.average(np.square(x - centre), axis=0, weights=m))
    scale = np.where(spread > 1e-9, spread, 1.0)
    with threadpool_limits(limits=1):
        fitted = _unfitted(kind).fit((x - centre) / scale, is_shown, sample_weight=m)
    return ExposureModel(kind, score, centre, scale, fitted)


def _unfitted(kind: Kind) -> Any:
    if kind == "logistic":
        # Newton's method: few features, many rows, and an optimum that is exact.
        return LogisticRegression(solver="newton-cholesky", C=1.0, tol=1e-8, max_iter=100)
    return HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=8,
        min_samples_leaf=200,
        early_stopping=False,
        random_state=0,
    )
