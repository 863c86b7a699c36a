"""Each estimator of propensities against the sample shop's truth. Writes results/propensities.json.

Known: e, how likely each shown item was to be shown (tests/scenarios/exposures.py), and the mean
liking of what could have been shown. Measured over shops of several seeds: the mean absolute error
of e, where the estimator is of e; the errors of IPS and SNIPS of the known mean; the effective
sample size. A seed that was measured is not measured again: remove the file to begin anew. --quick
measures the first seed anew, tells it beside what is in the file, and writes nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.sample import ShopSettings
from tests.benchmarks import origins
from tests.scenarios.exposures import errors, estimates, known_mean, true_exposure
from tests.scenarios.truths import World, build, estimate_propensities

RESULTS = Path(__file__).parent / "results" / "propensities.json"
SEEDS = (1, 2, 3)
N_DAYS = 10
ESTIMATORS: dict[str, dict[str, Any]] = {
    "logged": {"estimator": "logged"},
    "logged, not clipped": {"estimator": "logged", "clip_quantile": 0.0},
    "logistic with the score": {"estimator": "logistic"},
    "boosted with the score": {"estimator": "boosted"},
    "logistic without the score": {"estimator": "logistic", "policy_score": False},
    "boosted without the score": {"estimator": "boosted", "policy_score": False},
    "exposure share": {"estimator": "exposure_share"},
    "popularity power law": {"estimator": "popularity_power_law"},
}
OF_E = ("logistic", "boosted", "exposure_share", "popularity_power_law")


def measure(world: World) -> Iterator[dict[str, Any]]:
    """One row of each estimator."""
    truth = known_mean(world)
    e = true_exposure(world, estimates(world))
    for name, settings in ESTIMATORS.items():
        estimate_propensities(world.shop, world.ds, **settings)
        rows = estimates(world)
        found = errors(world, rows, truth)
        if settings["estimator"] in OF_E:
            found["mae"] = float(np.abs(rows["p_estimated"].to_numpy() - e).mean())
        yield {"estimator": name, "seed": world.settings.seed} | {
            measured: round(value, 5) for measured, value in found.items()
        }


def told(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A line of each estimator, over the seeds."""
    for name in ESTIMATORS:
        of_name = [row for row in rows if row["estimator"] == name]
        if not of_name:
            continue
        means = {
            measured: np.mean([row[measured] for row in of_name])
            for measured in ("mae", "naive", "ips", "snips", "ess")
            if all(measured in row for row in of_name)
        }
        spread = np.std([row["snips"] for row in of_name], ddof=1) if len(of_name) > 1 else 0.0
        numbers = ", ".join(f"{measured} {value:+.4f}" for measured, value in means.items())
        yield f"{name:28s} {numbers}, sd of snips {spread:.4f}"


def of_seed(seed: int) -> list[dict[str, Any]]:
    """The rows of one shop."""
    with tempfile.TemporaryDirectory() as folder:
        return list(measure(build(ShopSettings(n_days=N_DAYS, seed=seed), Path(folder))))


def main() -> None:
    """Measure the seeds that were not, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one seed, anew; not written")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if asked.quick:
        print("now:", *told(of_seed(SEEDS[0])), sep="\n")
        print("in the file:", *told([each for each in rows if each["seed"] == SEEDS[0]]), sep="\n")
        return
    for seed in SEEDS:
        if any(row["seed"] == seed for row in rows):
            continue
        rows += of_seed(seed)
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        origins.keep(RESULTS, f"[\n{lines}\n]\n")
        origins.note("propensities")
    for line in told(rows):
        print(line)


if __name__ == "__main__":
    main()
