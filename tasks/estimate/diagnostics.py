"""Whether propensities can be trusted: train.propensity_diagnostics.

With weight w of each shown row, population weight m of each row that could have been shown (1 if it
was), covariate x, and e the propensity:

    balance       |mean_w(x | shown) - mean_m(x)| / sd_m(x)   the standardised mean difference
    mean weight   sum(w) / sum(m), the mean of O / e, O whether a row was shown: 1
    overlap       ESS / n, ESS = sum(w)^2 / sum(w^2)
    calibration   by tenth of popularity and of activity: 1. Of an item propensity n shown /
                  sum(m e); of the others, whose e is known of shown rows only, sum(w) / sum(m)
    clipping      the share of shown rows whose propensity was raised to the clip, and what that
                  did to the largest weight and to the effective sample

Calibration says that items are shown as often as the propensity has it. It does not say that *who*
was shown them is accounted for: a propensity that leaves out the policy's own score can be
calibrated to a thousandth and still off by all that the policy knows of its users. Balance on the
score shows that at once. Thresholds as in P. Austin, "Balance diagnostics for comparing the
distribution of baseline covariates", Statistics in Medicine 2009 (0.1).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import sql
from tasks.estimate.log import Log
from tasks.lake.literals import render
from tasks.records import TableVersion

Level = Literal["pass", "warn", "fail"]
Sums = dict[str, Any]

COVARIATES = {
    "policy_score": "the policy's own score",
    "popularity": "item popularity",
    "activity": "user activity",
}
ITEM = "item propensity"
LOGGED = "logged probability"
ESTIMATED = "impression propensity"  # of the estimator that is set
MEDIAN_ROWS = 1_000_000  # medians are of about as many rows, drawn by their hash


@dataclass(frozen=True)
class Diagnostic:
    """One check of the propensities: what it found, and what that means."""

    measure: str
    about: str
    before: float | None  # without weights
    value: float
    verdict: Level
    sentence: str


def diagnose(log: Log) -> TableVersion:
    """Write the diagnostics of a night; no row where no request logged what it did not show."""
    rows = [
        {"ds": log.ds, "weight": weight, **vars(each)}
        for weight, sums in _sums(log).items()
        for each in diagnostics(weight, sums)
    ]
    return log.lake.put("train.propensity_diagnostics", {"ds": log.ds}, rows)


def _sums(log: Log) -> dict[str, list[Sums]]:
    """The sums of each kind of weight: of all rows, and by tenth of popularity and activity."""
    for name in ("clean.impressions", "features.impression_propensities"):
        log.s.read(name, since=log.since, upto=log.ds)
    log.s.read("features.item_propensities", since=log.ds, upto=log.ds)
    n_rows = int(log.s.value("SELECT count(*) FROM features.impression_propensities"))
    params = log.params | {"every": 1 + n_rows // MEDIAN_ROWS}
    found = log.s.con.sql(render(sql.read("queries/exposure_sums"), params))
    by_weight: dict[str, list[Sums]] = {}
    for row in found.to_arrow_table().to_pylist():
        by_weight.setdefault(row["weight"], []).append(row)
    return by_weight


def diagnostics(weight: str, sums: list[Sums]) -> Iterator[Diagnostic]:
    """Every diagnostic of one kind of weight; none where nothing was shown."""
    (total,) = (row for row in sums if row["about"] == "all rows")
    if not total["n_shown"] or not total["w"] or not total["m"]:
        return
    for name, what in COVARIATES.items():
        if name != "policy_score" or total["n_policy_score"] == total["n_rows"]:
            yield from _balance(name, what, total)
    yield _mean_weight(total)
    yield _overlap(total)
    yield from _weights(total)
    if weight != LOGGED:  # which is as it was logged
        yield _clipping(total)
    if weight == ESTIMATED:
        yield from _clipped(total)
    yield from _calibration(row for row in sums if row["about"] != "all rows")


def _level(value: float, warn: float, fail: float) -> Level:
    return "fail" if value > fail else "warn" if value > warn else "pass"


def _balance(name: str, what: str, total: Sums) -> Iterator[Diagnostic]:
    mean = total[f"m_{name}"] / total["m"]
    variance = total[f"mm_{name}"] / total["m"] - mean * mean
    if variance <= 1e-12:
        return  # it is the same everywhere
    before, after = (
        (total[f"{which}_{name}"] / total[n] - mean) / sqrt(variance)
        for which, n in (("s", "n_shown"), ("w", "w"))
    )
    level = _level(abs(after), 0.05, 0.1)
    by = f" ({total['estimators']})" if total["estimators"] else ""
    said = {
        "pass": f"weighted, what was shown is like what could have been in {what}",
        "warn": f"weighted, what was shown is nearly like what could have been in {what}",
        "fail": f"weighted, what was shown still differs from what could have been in {what}: "
        f"estimates with these weights{by} keep that bias, whatever their calibration",
    }
    yield Diagnostic("balance", name, before, after, level, f"{said[level]} (SMD {after:+.3f})")


def _mean_weight(total: Sums) -> Diagnostic:
    mean = total["w"] / total["m"]
    level = _level(abs(mean - 1), 0.05, 0.1)
    word = {"pass": "is", "warn": "is nearly", "fail": "is not"}[level]
    sentence = f"the mean weight {word} 1 ({mean:.3f})" + (
        ": the level of IPS is off by as much; SNIPS is not" if level != "pass" else ""
    )
    return Diagnostic("mean weight", "all rows", None, mean, level, sentence)


def _overlap(total: Sums) -> Diagnostic:
    share = total["w"] ** 2 / total["ww"] / total["n_shown"]
    level = _level(1 - share, 0.8, 0.9)
    said = {
        "pass": "many rows carry the estimates",
        "warn": "few rows carry the estimates: intervals are wide",
        "fail": "OVERLAP COLLAPSED: hardly a row carries the estimates; the policy showed too "
        "little of what it could have, and no weight mends that",
    }
    return Diagnostic(
        "overlap", "all rows", 1.0, share, level, f"{said[level]} (ESS {share:.1%} of the rows)"
    )


def _weights(total: Sums) -> Iterator[Diagnostic]:
    """The smallest, the median and the largest weight, in units of the mean."""
    mean = total["w"] / total["n_shown"]
    yield Diagnostic(
        "smallest weight",
        "all rows",
        None,
        total["w_min"] / mean,
        "pass",
        "what the policy favours most counts least",
    )
    if total["w_median"] is not None:
        median = total["w_median"] / mean
        level = _level(1 - median, 0.8, 0.95)
        said = "" if level == "pass" else ": a few rows weigh much more than the others"
        yield Diagnostic(
            "median weight", "all rows", None, median, level, f"half of the rows weigh less{said}"
        )
    share = total["w_max"] / total["w"]
    yield Diagnostic(
        "largest weight",
        "all rows",
        None,
        total["w_max"] / mean,
        _level(share, 0.001, 0.01),
        f"the largest weight is {share:.2%} of all weight",
    )


def _clipping(total: Sums) -> Diagnostic:
    share = total["n_clipped"] / total["n_shown"]
    level = _level(share, 0.05, 0.2)
    return Diagnostic(
        "clipping",
        "all rows",
        None,
        share,
        level,
        f"{share:.1%} of the shown rows have a propensity that was raised to the clip: "
        "less variance, and a bias towards what is shown",
    )


def _clipped(total: Sums) -> Iterator[Diagnostic]:
    """What clipping did to the largest weight and to the effective sample."""
    largest_raw, largest = (
        total[of_max] / (total[of_sum] / total["n_shown"])
        for of_max, of_sum in (("w_raw_max", "w_raw"), ("w_max", "w"))
    )
    cut = largest_raw / largest
    yield Diagnostic(
        "clipping",
        "largest weight",
        largest_raw,
        largest,
        _level(cut, 10, 100),
        f"clipping took the largest weight from {largest_raw:,.1f} times the mean "
        f"to {largest:,.1f}",
    )
    raw, share = (
        total[w] ** 2 / total[ww] / total["n_shown"] for w, ww in (("w_raw", "ww_raw"), ("w", "ww"))
    )
    yield Diagnostic(
        "clipping",
        "effective sample",
        raw,
        share,
        _level(1 - share, 0.8, 0.9),
        f"clipping took the effective sample from {raw:.1%} to {share:.1%} of the rows",
    )


def _calibration(tenths: Iterable[Sums]) -> Iterator[Diagnostic]:
    for row in tenths:
        if not row["m"] or row["me"] == 0:
            continue
        is_known = row["me"] is not None
        ratio = row["n_shown"] / row["me"] if is_known else row["w"] / row["m"]
        level = _level(abs(ratio - 1), 0.1, 0.25)
        word = {"pass": "as often as", "warn": "nearly as often as", "fail": "not as often as"}
        yield Diagnostic(
            "calibration",
            f"tenth {row['tenth'] + 1} of {row['about']}",
            None,
            ratio,
            level,
            f"shown {word[level]} the propensity has it "
            f"({'observed / expected' if is_known else 'mean weight'} {ratio:.2f})",
        )
