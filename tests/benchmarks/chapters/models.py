"""Chapters of how good lists, graphs and models are."""

import statistics
from collections.abc import Iterator
from functools import partial
from itertools import groupby

from tests.benchmarks.chapter import (
    Chapter,
    Goal,
    Origin,
    Results,
    Table,
    distinct,
    listed,
    means,
    of_cells,
)

PUBLISHED_SHARE = 0.99  # of a published figure that a mean must reach: no more than 1 % below
_EDGES = ("succ", "theme", "other")
_SHORT = ("HR@10 of 101", "NDCG@10 of 101", "HR@10 of all", "NDCG@10 of all")
_CELL = (
    *("sampled_hr_10", "sampled_ndcg_10", "full_hr_10", "full_ndcg_10"),
    *("chooser_ndcg_20", "cpu_seconds"),
)


def baselines(results: Results) -> Chapter:
    """Amazon Baby."""
    cells, summary, published = (results[key] for key in ("cells", "summary", "published"))
    rows: list[tuple[object, ...]] = []
    goals = []
    for name, told in summary.items():
        own = [
            cell for cell in cells if (cell["model"], cell["settings"]) == (name, told["settings"])
        ]
        there = published.get(name, [None, None])
        spent = means([cell.get("cpu_seconds_to_published") for cell in own], 1)
        rows.append(
            (
                *(name, listed(told["settings"]), told["seeds"], told["recall"], told["ndcg"]),
                *(*there, told["cpu_seconds"], spent),
            )
        )
        goals += [
            Goal(
                f"{name}: mean {metric}@20, share of published",
                told["of_published"][at],
                PUBLISHED_SHARE,
                n_seeds=told["seeds"],
                wanted_seeds=3,
            )
            for at, metric in enumerate(("Recall", "NDCG"))
            if name in published
        ]
    head = (
        *("model", "settings", "seeds", "Recall@20", "NDCG@20"),
        *("published Recall@20", "published NDCG@20"),
        *("CPU s of training", "CPU s to published NDCG@20 on validation"),
    )
    where = results["environment"]
    origin = Origin(
        where["machine"],
        listed({key: where[key] for key in ("python", "torch", "numpy", "implicit")}),
        distinct(cell["date"] for cell in cells),
        distinct(cell["seed"] for cell in cells),
    )
    return Chapter(origin, [Table(head, rows)], goals)


def sasrec_quality(results: Results) -> Chapter:
    """MovieLens-1M and Amazon Beauty."""
    metrics = ("sampled_hr_10", "sampled_ndcg_10", "full_hr_10", "full_ndcg_10")
    rows: list[tuple[object, ...]] = []
    means: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for name, grouped in groupby(sorted(results), key=lambda key: key.partition(", seed")[0]):
        cells = [results[key] for key in grouped]
        of = {metric: statistics.fmean(cell[metric] for cell in cells) for metric in metrics}
        means[name], counts[name] = of, len(cells)
        rows += [
            (name, cell["seed"], *(round(cell[each], 4) for each in metrics), cell["cpu_seconds"])
            for cell in cells
        ]
        rows.append((name, "mean", *(round(of[each], 4) for each in metrics), ""))
    bounds = {
        ("ml-1m, tuned", "sampled_hr_10"): 0.82,
        ("ml-1m, tuned", "sampled_ndcg_10"): 0.59,
        ("amazon-beauty, tuned", "full_ndcg_10"): 0.041,
    }
    goals = [
        Goal(
            f"{name}: mean {metric}",
            means.get(name, {}).get(metric),
            bound,
            n_seeds=counts.get(name, 0),
            wanted_seeds=3,
        )
        for (name, metric), bound in bounds.items()
    ]
    head = (
        *("data, settings", "seed", "HR@10 of 101", "NDCG@10 of 101", "HR@10 of all"),
        *("NDCG@10 of all", "CPU s of training"),
    )
    return Chapter(of_cells(results.values()), [Table(head, rows)], goals)


def causalrec_quality(results: Results) -> Chapter:
    """Means over seeds of each arm, and what the boost gains over SASRec and its control.

    The last column is of the seeds that both have.
    """
    head = (
        "data",
        "arm",
        "seeds",
        *_SHORT,
        "validation NDCG@20",
        "CPU s",
        "NDCG@10 of 101 / SASRec",
    )
    arms: dict[str, dict[str, list[Results]]] = {}
    for key, each in results.items():
        data, arm, _ = key.split(", ")
        arms.setdefault(data, {}).setdefault(arm, []).append(each)
    rows: list[tuple[object, ...]] = []
    goals: list[Goal] = []
    for data, of_data in arms.items():
        means = {
            arm: {name: statistics.mean(each[name] for each in cells) for name in _CELL}
            for arm, cells in of_data.items()
        }
        for arm, mean in means.items():
            # SASRec of the same loss and heads, where it was measured with them
            base = f"sasrec {arm}" if f"sasrec {arm}" in of_data else "sasrec"
            _, times = _times(of_data, arm, base, "sampled_ndcg_10")
            shown = (round(mean[name], 4) for name in _CELL[:-1])
            spent = round(mean["cpu_seconds"])
            rows.append((data, arm, len(of_data[arm]), *shown, spent, times))
        goals += _gains(data, of_data)
    return Chapter(of_cells(results.values()), [Table(head, rows)], goals)


def _gains(data: str, arms: dict[str, list[Results]]) -> Iterator[Goal]:
    """Of the alpha that the validation of the first seed chooses, over the seeds of both."""
    first = {
        arm: cell["chooser_ndcg_20"]
        for arm, cells in arms.items()
        for cell in cells
        if _is_tuned(arm) and cell["seed"] == 1
    }
    if not first:
        return
    best = max(first, key=lambda arm: first[arm])
    bounds = (("sasrec", "sampled_ndcg_10", 1.07), ("sasrec", "full_ndcg_10", 1.07))
    for other, name, bound in (*bounds, ("shuffled", "sampled_ndcg_10", 1.02)):
        n_seeds, times = _times(arms, best, other, name)
        if n_seeds:
            what = f"{data}: mean {name} of {best}, as a multiple of that of {other}"
            yield Goal(what, times, bound, n_seeds=n_seeds, wanted_seeds=3)


def _times(
    arms: dict[str, list[Results]], arm: str, other: str, name: str
) -> tuple[int, float | None]:
    """How many seeds both have, and the mean of the one over that of the other on these."""
    of_both = [{c["seed"]: c[name] for c in arms.get(each, [])} for each in (arm, other)]
    seeds = of_both[0].keys() & of_both[1].keys()
    if not seeds:
        return 0, None
    ours, theirs = (statistics.mean(each[seed] for seed in seeds) for each in of_both)
    return len(seeds), round(ours / theirs, 4)


def _is_tuned(arm: str) -> bool:
    return arm.startswith("alpha=") and float(arm.partition("=")[2]) > 0


def known_causes(results: Results) -> Chapter:
    """The graph beside recency and attention, and what its strongest edges are."""
    head = (
        "seed",
        "AUPRC of R",
        "recency",
        "attention",
        "R untrained",
        "least difference",
        *_EDGES,
    )
    rows, ratios, least = [], [], []
    for seed, each in sorted(results.items(), key=lambda of: int(of[0])):
        r, *others = each["auprc"].values()
        ratios.append(r / max(others))
        least.append(min(low for _, low, _ in each["difference"].values()))
        counts = (each[kind] for kind in _EDGES)
        rows.append((seed, r, *others, each["untrained"], least[-1], *counts))
    kinds = {kind: [each[kind] for each in results.values()] for kind in _EDGES}
    goal = partial(Goal, n_seeds=len(results), wanted_seeds=5)
    goals = [
        goal("AUPRC of R as a multiple of the better other, least", min(ratios), 1.2),
        goal("its difference, lower end of the 95 % interval, least", min(least), 1e-4),
        goal("of 100 edges, of types that follow, least", min(kinds["succ"]), 80),
        goal("of 100 edges, of a theme alone, most", max(kinds["theme"]), 5, at_most=True),
    ]
    return Chapter(Origin(seeds=f"1 to {len(results)}"), [Table(head, rows)], goals)
