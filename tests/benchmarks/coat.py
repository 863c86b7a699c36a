"""Coat: does weighting with propensities help on a randomised slice? Writes results/coat.json.

Matrix factorisation r_ui = m + b_u + b_i + p_u . q_i by alternating least squares, plain or with
each squared error weighted by 1 / e_ui (T. Schnabel et al., "Recommendations as Treatments", ICML
2016, equation 12). Strength of the penalty and number of factors are chosen by 4-fold
cross-validation on the biased ratings alone, by each model's own criterion (IPS-weighted for the
weighted ones). Measured: MSE and MAE on the randomised ratings, over 10 seeds. --quick measures one
seed, tells it beside the file's figure, and writes nothing.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tests.benchmarks import origins
from tests.scenarios.real_data import FOLDER

Floats = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "coat.json"
SEEDS = 10
FOLDS = 4
SWEEPS = 15
PENALTIES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
FACTORS = (2, 5, 10)
T_975 = 2.262  # of Student's t with 9 degrees of freedom


@dataclass(frozen=True)
class Coat:
    """Ratings as matrices, 0 where there is none, and the authors' propensities. [290, 300]"""

    biased: Floats
    random: Floats
    propensity: Floats


def read() -> Coat:
    """The data set of the authors' site."""
    folder = FOLDER / "coat"
    rows = pl.read_parquet(folder / "interactions.parquet").with_columns(
        pl.col("source").cast(pl.String)
    )
    propensities = pl.read_parquet(folder / "propensities.parquet").sort("user_id")
    users = propensities["user_id"].to_list()
    matrices = {name: np.zeros((290, 300)) for name in ("biased", "random")}
    items = sorted(rows["item_id"].unique().to_list())
    for user, item, rating, source in rows.iter_rows():
        matrices[source][users.index(user), items.index(item)] = rating
    return Coat(**matrices, propensity=np.array(propensities["propensity"].to_list()))


def estimators(coat: Coat) -> dict[str, Floats]:
    """Propensities by estimator; all from the biased ratings, but the authors'."""
    seen = coat.biased > 0
    n_user, n_item = seen.sum(axis=1, keepdims=True), seen.sum(axis=0, keepdims=True)
    rank_one = n_user * n_item / seen.sum()
    return {
        "none": np.ones(seen.shape),
        "popularity share": np.broadcast_to((n_item + 1) / (len(seen) + 10), seen.shape),
        "popularity power law": np.broadcast_to((n_item / n_item.max()) ** 0.5, seen.shape),
        "user x item share": np.clip(rank_one, 1e-3, 1),
        "authors' (logistic regression on features)": coat.propensity,
    }


def fit(ratings: Floats, weights: Floats, penalty: float, d: int, seed: int) -> Floats:
    """Predictions for all pairs; weights are 0 where there is no rating."""
    rng = np.random.default_rng(seed)
    n_users, n_items = ratings.shape
    mean = float((weights * ratings).sum() / weights.sum())
    users = np.column_stack([np.zeros((n_users, 1)), rng.normal(0, 0.1, (n_users, d))])
    items = np.column_stack([np.zeros((n_items, 1)), rng.normal(0, 0.1, (n_items, d))])
    for _ in range(SWEEPS):
        users = _half(ratings - mean - items[:, 0], weights, items[:, 1:], penalty)
        items = _half((ratings - mean - users[:, :1]).T, weights.T, users[:, 1:], penalty)
    predicted: Floats = mean + users[:, :1] + items[:, 0] + users[:, 1:] @ items[:, 1:].T
    return np.clip(predicted, 1, 5)


def _half(target: Floats, weights: Floats, fixed: Floats, penalty: float) -> Floats:
    """Each row's bias and factors by weighted ridge regression on the fixed side's factors."""
    design = np.column_stack([np.ones(len(fixed)), fixed])  # [n, d + 1]
    pairs = np.einsum("nj,nk->njk", design, design).reshape(len(design), -1)
    normal = (weights @ pairs).reshape(len(target), design.shape[1], -1)
    normal += penalty * np.eye(design.shape[1])
    return np.linalg.solve(normal, ((weights * target) @ design)[..., None])[..., 0]


def _weights(seen: Floats, propensity: Floats) -> Floats:
    """1 / e at ratings, scaled to a mean of 1 so that a penalty means the same."""
    raw = seen / propensity
    return np.asarray(raw * seen.sum() / raw.sum())


def choose(coat: Coat, propensity: Floats) -> tuple[float, int]:
    """Penalty and factors with the least weighted squared error on held-out biased ratings."""
    seen = (coat.biased > 0).astype(float)
    fold = np.random.default_rng(0).integers(FOLDS, size=seen.shape)
    weights = _weights(seen, propensity)
    errors = {}
    for penalty, d in product(PENALTIES, FACTORS):
        total = 0.0
        for held in range(FOLDS):
            train = seen * (fold != held)
            predicted = fit(coat.biased, _weights(train, propensity), penalty, d, seed=0)
            test = weights * (fold == held)
            total += float((test * (predicted - coat.biased) ** 2).sum())
        errors[penalty, d] = total
    return min(errors, key=lambda key: (errors[key], key))


def measure(n_seeds: int = SEEDS) -> Iterator[dict[str, Any]]:
    """Errors on the randomised slice of each estimator's model, seed by seed."""
    coat = read()
    there = coat.random > 0
    for name, propensity in estimators(coat).items():
        penalty, d = choose(coat, propensity)
        weights = _weights((coat.biased > 0).astype(float), propensity)
        errors = [
            (fit(coat.biased, weights, penalty, d, seed) - coat.random)[there]
            for seed in range(n_seeds)
        ]
        yield {
            "propensity": name,
            "penalty": penalty,
            "factors": d,
            "mse": [round(float(np.square(each).mean()), 5) for each in errors],
            "mae": [round(float(np.abs(each).mean()), 5) for each in errors],
        }


def main() -> None:
    """Measure, compare with no weighting, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one seed, anew; not written")
    asked = parser.parse_args()
    if not (FOLDER / "coat").is_dir():
        print("Coat is not here: NIGHTRANK_DATA names the folder that holds it")
        return
    if asked.quick:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        known = {row["propensity"]: row["mse"][0] for row in kept}
        for row in measure(1):
            name, mse = row["propensity"], row["mse"][0]
            print(f"{name:45s} MSE of seed 0: now {mse}, in the file {known.get(name)}", flush=True)
        return
    rows = list(measure())
    base = np.array(rows[0]["mse"])
    for row in rows:
        change = np.array(row["mse"]) - base
        half = T_975 * change.std(ddof=1) / np.sqrt(len(change))
        row["mean_mse"] = round(float(np.mean(row["mse"])), 4)
        row["against_none"] = [round(float(change.mean() + side * half), 4) for side in (-1, 1)]
        print(f"{row['propensity']:45s} MSE {row['mean_mse']:.4f}  {row['against_none']}")
    origins.keep(RESULTS, json.dumps(rows, indent=2) + "\n")
    origins.note("coat")


if __name__ == "__main__":
    main()
