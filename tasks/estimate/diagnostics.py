"""Whether propensities can be trusted: train.propensity_diagnostics.

With weight w of each shown row, population weight m of each row that could have been shown (1 if it
was), covariate x, and e the propensity:

    balance       |mean_w(x | shown) - mean_m(x)| / sd_m(x)   the standardised mean difference
    mean weight   sum(w) / sum(m), or mean(w) for weights of slots: 1
    overlap       ESS / n, ESS = sum(w)^2 / sum(w^2)
    calibration   n shown / sum(m e), by tenth of popularity: 1
    clipping      the share of shown rows whose propensity was raised to the clip

Calibration says that items are shown as often as the propensity has it. It does not say that *who*
was shown them is accounted for: a propensity that leaves out the policy's own score can be
calibrated to a thousandth and still off by all that the policy knows of its users. Balance on the
score shows that at once. Thresholds as in P. Austin, "Balance diagnostics for comparing the
distribution of baseline covariates", Statistics in Medicine 2009 (0.1).
"""

from collections.abc import Iterator
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
LOGGED = "logged probability"


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
        for weight, tenths in _sums(log).items()
        for each in diagnostics(weight, tenths)
    ]
    return log.lake.put("train.propensity_diagnostics", {"ds": log.ds}, rows)


def _sums(log: Log) -> dict[str, list[Sums]]:
    """The sums of each kind of weight, by tenth of popularity."""
    log.s.read("clean.impressions", since=log.since, upto=log.ds)
    log.s.read("features.item_propensities", since=log.ds, upto=log.ds)
    found = log.s.con.sql(render(sql.read("queries/exposure_sums"), log.params))
    by_weight: dict[str, list[Sums]] = {}
    for row in found.to_arrow_table().to_pylist():
        by_weight.setdefault(row["weight"], []).append(row)
    return by_weight


def diagnostics(weight: str, tenths: list[Sums]) -> Iterator[Diagnostic]:
    """Every diagnostic of one kind of weight; none where nothing was shown."""
    names = [name for name in tenths[0] if name not in ("weight", "tenth", "w_max")]
    total = {name: sum(row[name] or 0 for row in tenths) for name in names}
    if not total["n_shown"] or not total["w"]:
        return
    for name, what in COVARIATES.items():
        if name != "policy_score" or total["n_policy_score"] == total["n_rows"]:
            yield from _balance(name, what, total)
    yield _mean_weight(weight, total)
    yield _overlap(total)
    yield _largest(tenths, total)
    if weight != LOGGED:  # what was not shown has no logged probability
        yield _clipping(total)
        yield from _calibration(tenths)


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
    said = {
        "pass": f"weighted, what was shown is like what could have been in {what}",
        "warn": f"weighted, what was shown is nearly like what could have been in {what}",
        "fail": f"weighted, what was shown still differs from what could have been in {what}: "
        "estimates with these weights keep that bias, whatever their calibration",
    }
    yield Diagnostic("balance", name, before, after, level, f"{said[level]} (SMD {after:+.3f})")


def _mean_weight(weight: str, total: Sums) -> Diagnostic:
    mean = total["w"] / (total["n_shown"] if weight == LOGGED else total["m"])
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


def _largest(tenths: list[Sums], total: Sums) -> Diagnostic:
    largest = max(row["w_max"] or 0 for row in tenths)
    share = largest / total["w"]
    level = _level(share, 0.001, 0.01)
    return Diagnostic(
        "largest weight",
        "all rows",
        None,
        largest / (total["w"] / total["n_shown"]),
        level,
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


def _calibration(tenths: list[Sums]) -> Iterator[Diagnostic]:
    for row in tenths:
        if not row["me"]:
            continue
        ratio = row["n_shown"] / row["me"]
        level = _level(abs(ratio - 1), 0.1, 0.25)
        word = {"pass": "as often as", "warn": "nearly as often as", "fail": "not as often as"}
        yield Diagnostic(
            "calibration",
            f"tenth {row['tenth'] + 1} of popularity",
            None,
            ratio,
            level,
            f"shown {word[level]} the propensity has it (observed / expected {ratio:.2f})",
        )
