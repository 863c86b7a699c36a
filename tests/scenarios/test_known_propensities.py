"""Estimated propensities against the sample shop's truth, and what the diagnostics say of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks.estimate.diagnostics import ESTIMATED
from tasks.sample import ShopSettings
from tasks.sample.exposure import fill
from tests.scenarios.exposures import errors, estimates, inclusion, known_mean, true_exposure
from tests.scenarios.truths import World, build, estimate_propensities, told


@dataclass(frozen=True)
class Estimated:
    """What the night says of its propensities, and the propensities themselves."""

    told: dict[tuple[str, str, str], dict[str, Any]]
    rows: pl.DataFrame


def estimated(world: World, **settings: Any) -> Estimated:
    return Estimated(told(world, estimator="logistic", **settings), estimates(world))


@pytest.fixture(scope="module")
def without(world: World) -> Estimated:
    """By a logistic model that is not told the policy's score."""
    return estimated(world, policy_score=False)


@pytest.fixture(scope="module")
def with_score(world: World) -> Estimated:
    """By a logistic model that is told the policy's score."""
    return estimated(world)


def levels(found: dict[tuple[str, str, str], dict[str, Any]], measure: str) -> list[str]:
    """The verdicts of the estimator that is set on one measure."""
    return [
        row["verdict"]
        for (weight, name, _), row in found.items()
        if weight == ESTIMATED and name == measure
    ]


def test_the_truth_that_they_are_compared_with_is_true() -> None:
    """Slates drawn as the shop draws them, 20,000 times."""
    draw = np.random.default_rng(3)
    weights = np.exp(draw.normal(0, 1.2, (1, 60)))
    taken, _ = fill(
        weights, np.zeros(20_000, int), np.full(20_000, 0.1), draw.random((20_000, 10, 2))
    )
    drawn = np.bincount(taken.ravel(), minlength=60) / 20_000
    found = inclusion(0.9 * weights / weights.sum() + 0.1 / 60, 10)[0]
    assert found.sum() == pytest.approx(10)
    assert np.abs(found - drawn).max() < 0.03
    assert np.abs(found - drawn).mean() < 0.01


def test_calibrated_without_the_score_it_still_fails_and_says_so(without: Estimated) -> None:
    found = without.told
    score = found[ESTIMATED, "balance", "policy_score"]
    assert score["verdict"] == "fail"
    assert score["value"] > 0.5
    assert "(logistic) keep that bias, whatever their calibration" in score["sentence"]
    assert levels(found, "mean weight") == ["pass"]
    calibration = levels(found, "calibration")
    assert len(calibration) == 20
    assert calibration.count("fail") == 0
    assert calibration.count("pass") >= 18
    assert found[ESTIMATED, "balance", "popularity"]["verdict"] == "pass"


def test_with_the_score_it_passes(with_score: Estimated) -> None:
    found = with_score.told
    assert set(levels(found, "balance")) == {"pass"}
    assert "fail" not in {row["verdict"] for key, row in found.items() if key[0] == ESTIMATED}
    assert found[ESTIMATED, "clipping", "largest weight"]["before"] > 10


def test_the_score_is_what_takes_the_bias_away(
    world: World, without: Estimated, with_score: Estimated
) -> None:
    """Mean liking of what could have been shown, from what was; and e itself."""
    estimate_propensities(world.shop, world.ds)
    of = {"without": without.rows, "with": with_score.rows, "logged": estimates(world)}
    truth = known_mean(world)
    found = {name: errors(world, rows, truth) for name, rows in of.items()}
    for name in ("without", "with"):
        off = np.abs(of[name]["p_estimated"].to_numpy() - true_exposure(world, of[name])).mean()
        found[name]["mae"] = float(off)
    print(found)
    assert found["without"]["naive"] > 0.15
    assert found["without"]["snips"] > 0.12
    assert abs(found["with"]["snips"]) < 0.02
    assert abs(found["logged"]["snips"]) < 0.01
    assert found["with"]["mae"] < 0.4 * found["without"]["mae"]


@pytest.mark.soak
def test_boosted_trees_with_the_score_balance_too(world: World) -> None:
    assert set(levels(told(world, estimator="boosted"), "balance")) == {"pass"}


def test_examination_is_that_of_the_shop(world: World) -> None:
    """theta_k = k^-0.7; the device's factor is the same at every position."""
    estimate_propensities(world.shop, world.ds)
    pinned = world.shop.lake.pin("features.examination")
    rows = world.shop.lake.rows(pinned, {"ds": world.ds}).to_pylist()
    for method in ("harvesting", "em"):
        of_method = [row for row in rows if row["method"] == method]
        assert [row["position"] for row in of_method] == list(range(1, 11))
        assert {row["is_used"] for row in of_method} == {method == "harvesting"}
        off = np.array([abs(row["theta"] - row["position"] ** -0.7) for row in of_method])
        assert off.max() < 0.03
        assert off.mean() < 3 * np.mean([row["se"] for row in of_method])


def test_propensities_by_examination_are_those_of_positions(world: World) -> None:
    estimate_propensities(world.shop, world.ds, estimator="examination")
    rows = estimates(world)
    last = rows.filter(rows["ds"] == world.ds).select("position", "p_exposed").unique()
    by_position = dict(last.iter_rows())
    assert len(by_position) == len(last) == 10
    assert by_position[1] == 1
    assert by_position[10] == pytest.approx(10**-0.7, abs=0.03)
    items = world.shop.lake.rows(
        world.shop.lake.pin("features.item_propensities"), {"ds": world.ds}
    ).to_pylist()
    assert {row["estimator"] for row in items} == {"examination"}


def test_where_overlap_collapsed_no_estimator_hides_it(tmp_path: Path) -> None:
    settings = ShopSettings(n_days=4, n_users=600, main_policy="collapsed", seed=3)
    found = told(build(settings, tmp_path), clip_quantile=0.0)
    overlap = found[ESTIMATED, "overlap", "all rows"]
    assert overlap["verdict"] == "fail"
    assert "OVERLAP COLLAPSED" in overlap["sentence"]
    clipped = told(build(settings, tmp_path), clip_quantile=0.01)
    effective = clipped[ESTIMATED, "clipping", "effective sample"]
    assert effective["before"] < 0.1
