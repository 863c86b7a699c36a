"""How often each position is examined: the position-based model, features.examination.

A slot at position k that holds item i is clicked where it is examined and i is attractive:

    P(click | i, k) = theta_k gamma_i

theta is told relative to the first position: its level cannot be told from that of gamma. Two
methods, from sums by item and position of w (what the slots weigh) and c (what the clicked ones
weigh):

    harvesting   the same item at different positions is an experiment on the position. For each
                 pair of positions the ratio of click rates over the items that stood at both,
                     r_kl = sum_i c_ik w_il / (w_ik + w_il)  /  sum_i c_il w_ik / (w_ik + w_il)
                 and log theta is the weighted least squares fit of log r_kl = log theta_k - log
                 theta_l over all pairs of positions that are at most 10 apart.
    em           theta and gamma of greatest likelihood; of an unclicked slot the E-step has
                     P(examined) = theta (1 - gamma) / (1 - theta gamma)

A. Agarwal, I. Zaitsev, X. Wang, C. Li, M. Najork, T. Joachims, "Estimating Position Bias without
Intrusive Interventions", WSDM 2019: interventional sets of several rankers, and their all-pairs
estimator. Reconstructed here: every item that stood at two positions is such a set, the ratio has
the weights of N. Mantel, W. Haenszel (JNCI 1959) so that rare items do not count as common ones,
and least squares takes the place of their likelihood. X. Wang, N. Golbandi, M. Bendersky, D.
Metzler, M. Najork, "Position Bias Estimation for Unbiased Learning to Rank in Personal Search",
WSDM 2018, section 4: EM; with one gamma per item in the place of their regression on features.

Both hold where the users before whom an item stands do not depend on the position. A policy that
knows its users breaks that: it puts an item high before those who like it. Where every slot has a
logged probability, slots weigh 1 / p, which mends it; elsewhere theta is too steep. Standard errors
are of the jackknife that leaves out one fold of users: with few folds, rough themselves.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import sql
from tasks.errors import EstimationError
from tasks.lake.literals import render
from tasks.lake.session import Session
from tasks.records import TableVersion
from tasks.shop import Parameters

Floats = npt.NDArray[np.float64]
Method = Literal["harvesting", "em"]

MOST_APART = 10  # positions of a pair
MOST_STEPS = 1_000
TOLERANCE = 1e-8  # of theta, a step


@dataclass(frozen=True, eq=False)
class PositionSums:
    """Sums by fold of users, item with a click, and position; positions ascend."""

    positions: npt.NDArray[np.int64]  # [K]
    w: Floats  # [n_folds, n_items, K]
    c: Floats  # [n_folds, n_items, K], of the clicked slots
    n_slots: npt.NDArray[np.int64]  # [K], of all items
    n_clicks: npt.NDArray[np.int64]  # [K]


def examine(s: Session, params: Parameters) -> TableVersion:
    """Write how often each position is examined, as of the night; no row without any click.

    Raises EstimationError where that is the estimator that is set, and slots had no click.
    """
    ds = params["ds"]
    assert isinstance(ds, date)
    s.read("features.feedback_daily", upto=ds, newest=True)
    sums = position_sums(s, params)
    rows = [{**row, "ds": ds} for row in table(sums)]
    if params["estimator"] == "examination" and len(sums.positions) and not rows:
        raise EstimationError(
            f"examination cannot be estimated: nothing followed from {sums.n_slots.sum():,} slots",
            where="propensity.estimator = 'examination'",
            unchanged="features.examination keeps its last version",
            fix='log the request of each event, or set propensity.estimator = "auto"',
        )
    return s.lake.put("features.examination", {"ds": ds}, rows)


def position_sums(s: Session, params: Parameters) -> PositionSums:
    """The sums of the slots from `$since` to `$ds`; items without a click say nothing and stay out.

    (Of greatest likelihood their gamma is 0, and theta is the same without them.)
    """
    found = s.stream(sql.read("queries/examination_sums"), params).read_all()
    column = {
        name: found.column(name).to_numpy() for name in found.column_names if name != "item_id"
    }
    positions, at = np.unique(column["position"].astype(np.int64), return_inverse=True)
    folds, fold = np.unique(column["fold"], return_inverse=True)
    number = found.column("item_id").combine_chunks().dictionary_encode().indices.to_numpy()
    clicked = (np.bincount(number, weights=column["n_clicks"]) > 0)[number]
    items, item = np.unique(number[clicked], return_inverse=True)
    w = np.zeros((len(folds), len(items), len(positions)))
    c = np.zeros_like(w)
    cell = (fold[clicked], item, at[clicked])
    w[cell], c[cell] = column["w"][clicked], column["w_clicks"][clicked]
    n_slots, n_clicks = (
        np.bincount(at, weights=column[name], minlength=len(positions)).astype(np.int64)
        for name in ("n_slots", "n_clicks")
    )
    return PositionSums(positions, w, c, n_slots, n_clicks)


def thetas(sums: PositionSums) -> dict[int, float]:
    """Examination of each position relative to the first, by the method that is used.

    {} where nothing can be said: no click at all, or none at the first position.
    """
    found = _estimates(sums, _used(sums))
    if not np.isfinite(found).all():
        return {}
    return {int(k): float(theta) for k, theta in zip(sums.positions, found, strict=True)}


def show(s: Session, params: Parameters) -> None:
    """Let features.examination, in this session, tell of `$ds`, which may have had no night.

    `s` reads features.feedback_daily.
    """
    found = thetas(position_sums(s, params)) or {0: 1.0}  # no slot stands at 0
    rows = ", ".join(f"({position}, {theta!r}::DOUBLE)" for position, theta in found.items())
    select = "SELECT *, true AS is_used, $ds AS ds FROM (VALUES {rows}) AS t (position, theta)"
    s.view("features.examination", render(select, params).format(rows=rows))


def table(sums: PositionSums) -> list[dict[str, Any]]:
    """The rows of features.examination, the date left out; none where nothing can be said."""
    if not thetas(sums):
        return []
    used = _used(sums)
    rows = []
    for method in ("harvesting", "em"):
        theta, se = _estimates(sums, method), _jackknife(sums, method)
        for k in np.flatnonzero(np.isfinite(theta)):
            rows.append(
                {
                    "method": method,
                    "position": int(sums.positions[k]),
                    "theta": float(theta[k]),
                    "se": float(se[k]) if np.isfinite(se[k]) else None,
                    "n_slots": int(sums.n_slots[k]),
                    "n_clicks": int(sums.n_clicks[k]),
                    "is_used": method == used,
                }
            )
    return rows


def _used(sums: PositionSums) -> Method:
    """Harvesting where it knows every position, else EM."""
    return "harvesting" if np.isfinite(_estimates(sums, "harvesting")).all() else "em"


def _estimates(sums: PositionSums, method: Method) -> Floats:
    w, c = sums.w.sum(axis=0), sums.c.sum(axis=0)
    if not c.any():
        return np.full(len(sums.positions), np.nan)
    return harvested(w, c) if method == "harvesting" else of_greatest_likelihood(w, c)


def _jackknife(sums: PositionSums, method: Method) -> Floats:
    """Standard errors, [K]; NaN where a fold left out leaves too little."""
    n = len(sums.w)
    if n < 2:
        return np.full(len(sums.positions), np.nan)
    left = np.stack(
        [
            _estimates(
                PositionSums(
                    sums.positions,
                    np.delete(sums.w, fold, axis=0),
                    np.delete(sums.c, fold, axis=0),
                    sums.n_slots,
                    sums.n_clicks,
                ),
                method,
            )
            for fold in range(n)
        ]
    )
    spread: Floats = np.sqrt((n - 1) / n * np.square(left - left.mean(axis=0)).sum(axis=0))
    return spread


def harvested(w: Floats, c: Floats) -> Floats:
    """theta relative to the first position, [K]; NaN where no clicked item links a position to it.

    w, c: [n_items, K].
    """
    n = w.shape[1]
    laplacian, pull = np.zeros((n, n)), np.zeros(n)
    for k in range(n):
        for other in range(k + 1, min(n, k + 1 + MOST_APART)):
            of_k, of_other = _standardised(w[:, k], w[:, other], c[:, k], c[:, other])
            if not (of_k > 0 and of_other > 0):
                continue
            sure = of_k * of_other / (of_k + of_other)  # 1 / the variance of the log, to a factor
            log_ratio = np.log(of_k / of_other)
            laplacian[[k, other], [k, other]] += sure
            laplacian[[k, other], [other, k]] -= sure
            pull[k] += sure * log_ratio
            pull[other] -= sure * log_ratio
    linked = _linked(laplacian != 0)
    theta = np.full(n, np.nan)
    theta[0] = 1.0
    rest = linked[1:]
    theta[rest] = np.exp(np.linalg.solve(laplacian[np.ix_(rest, rest)], pull[rest]))
    return theta


def _standardised(w_k: Floats, w_l: Floats, c_k: Floats, c_l: Floats) -> tuple[float, float]:
    """Clicks at k and at l, had the items that stood at both stood as often at each."""
    both = (w_k > 0) & (w_l > 0)
    total = w_k[both] + w_l[both]
    return (
        float((c_k[both] * w_l[both] / total).sum()),
        float((c_l[both] * w_k[both] / total).sum()),
    )


def _linked(touches: npt.NDArray[np.bool_]) -> list[int]:
    """The positions that a chain of pairs links to the first one, which comes first."""
    found, new = [0], [0]
    while new:
        new = [int(k) for k in np.flatnonzero(touches[new].any(axis=0)) if k not in found]
        found += new
    return [0, *sorted(found[1:])]


def of_greatest_likelihood(w: Floats, c: Floats) -> Floats:
    """theta relative to the first position, [K], by EM; w, c: [n_items, K], each item clicked."""
    theta, gamma = _started(w, c)
    n_position, n_item = np.maximum(w.sum(axis=0), 1e-300), np.maximum(w.sum(axis=1), 1e-300)
    unclicked = w - c
    for _ in range(MOST_STEPS):
        both = theta * gamma[:, None]
        share = unclicked / np.maximum(1 - both, 1e-12)
        new = (c + share * theta * (1 - gamma[:, None])).sum(axis=0) / n_position
        gamma = (c + share * gamma[:, None] * (1 - theta)).sum(axis=1) / n_item
        moved = np.abs(new / new[0] - theta / theta[0]).max() if new[0] and theta[0] else 0.0
        theta = new
        if moved < TOLERANCE:
            break
    relative: Floats = theta / theta[0] if theta[0] else np.full(len(theta), np.nan)
    return relative


def _started(w: Floats, c: Floats) -> tuple[Floats, Floats]:
    """theta and gamma of greatest likelihood where clicks are rare, by alternating; EM's start.

    From anywhere else EM takes thousands of steps, for most slots have no click.
    """
    theta = np.ones(w.shape[1])
    for _ in range(50):
        gamma = c.sum(axis=1) / np.maximum(w @ theta, 1e-300)
        theta = c.sum(axis=0) / np.maximum(gamma @ w, 1e-300)
        theta = theta / theta.max()
    return theta, np.minimum(gamma, 1.0)
