"""What the book tells of each benchmark: functions from a result file's JSON to a Chapter."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
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


def sasrec_speed(results: Results) -> Chapter:
    """Beside pmixer's."""
    rows: list[tuple[object, ...]] = [
        (name, *spent, results["least"][name])
        for name, spent in results["cpu_seconds_an_epoch"].items()
    ]
    n_epochs = len(rows[0]) - 2
    head = ("CPU s an epoch", *(f"epoch {n + 1}" for n in range(n_epochs)), "least")
    least = results["least"]
    times = round(least["pmixer"] / least["nightrank"], 2) if "pmixer" in least else None
    goals = [Goal("pmixer's epoch, as a multiple of ours", times, 1.5)]
    origin = of_cells([results])
    if "pmixer" in least:
        digest = results.get("peer_sha256", "")[:12]
        which = f"SHA-256 {digest}" if digest else "which one is not recorded"
        origin = replace(origin, versions=f"{origin.versions}; pmixer's model.py: {which}")
    return Chapter(origin, [Table(head, rows)], goals)


def recbole_speed(results: Results) -> Chapter:
    """Beside RecBole's."""
    rows: list[tuple[object, ...]] = []
    goals = []
    for name, cell in results.items():
        rows.append((name, "nightrank", "as chosen", *_spent(cell["nightrank"])))
        rows += [
            (name, "RecBole", listed(run["settings"]) or "its defaults", *_spent(run))
            for run in cell["recbole"]
        ]
        word = "" if cell["is_reached"] else " at least, it did not get there"
        goals.append(Goal(f"{name}: RecBole's CPU s as a multiple of ours{word}", cell["times"], 3))
    head = (
        *("what", "whose", "settings", "epochs", "CPU s of training", "of evaluation"),
        *("reached", "looked at after epoch"),
    )
    origin = of_cells(results.values())
    peers = (run["versions"] for cell in results.values() for run in cell["recbole"])
    versions = f"{origin.versions}; RecBole's: {distinct(map(listed, peers))}"
    return Chapter(replace(origin, versions=versions), [Table(head, rows)], goals)


def _spent(run: Results) -> tuple[object, ...]:
    """Epochs, CPU seconds of both, the NDCG@20 on validation pairs and when that was looked at."""
    spent = run["cpu_seconds"]
    if spent is None:
        spent = f"not there within {run['cpu_seconds_trained']}"
    curve = run.get("valid_ndcg", {})
    best = run["valid"][1] if "valid" in run else max(curve.values(), default=None)
    epochs = run.get("epochs", "mean of the later ones")
    looked = "each" if "valid" in run else " ".join(curve)
    return epochs, spent, run.get("evaluation_cpu_seconds"), best, looked


def gpu(results: Results) -> Chapter:
    """Steps and lists on a GPU."""
    measured = {
        name: each
        for name, each in results.items()
        if isinstance(each, dict) and "times_the_floor" in each
    }
    rows: list[tuple[object, ...]] = [
        (name, *(float(f"{each[of]:.3g}") for of in ("seconds", "floor_seconds")), _share(each))
        for name, each in measured.items()
    ]
    agreement: list[tuple[object, ...]] = [*results["agreement"].items()]
    tables = [
        Table(("what", "seconds", "floor", "share of the floor's rate"), rows),
        Table(("lists beside the CPU's", "figure"), agreement),
    ]
    goals = [
        Goal(f"{name}, share of the floor's rate", _share(each), 0.6)
        for name, each in measured.items()
        if name.startswith("lists")
    ]
    return Chapter(
        Origin(results["device"], f"torch {results['torch']}", results["date"]), tables, goals
    )


def _share(figures: Results) -> float:
    return round(1 / float(figures["times_the_floor"]), 3)


def topk(results: Results) -> Chapter:
    """Exact lists."""
    rows: list[tuple[object, ...]] = [
        (name, cell["users_per_cpu_second"], cell["seconds"], cell["mb_beside_the_arrays"])
        for name, cell in results["cells"].items()
    ]
    shares: list[tuple[object, ...]] = [
        (name, each["share_of_product"], " ".join(map(str, each["by_turn"])))
        for name, each in results["shares"].items()
    ]
    tables = [
        Table(("shape: way", "share of the bare product's rate", "by turn"), shares),
        Table(("measurement", "users per CPU s", "seconds", "MB beside the arrays"), rows),
    ]
    goals = [
        Goal(f"{name}, share of the product", each["share_of_product"], 0.65)
        for name, each in results["shares"].items()
        if name.endswith("ours")
    ]
    most = max(
        cell["mb_beside_the_arrays"] for name, cell in results["cells"].items() if "ours" in name
    )
    goals.append(Goal("ours, MB beside the arrays at most", most, 600, True))
    versions = {"python": results["python"], **results["versions"]}
    where = f"{results['cpu']}, {results['cores']} cores"
    return Chapter(Origin(where, listed(versions), results["date"]), tables, goals)


def whole_night(results: Results) -> Chapter:
    """A night of a large shop."""
    columns = ("cpu_seconds", "seconds", "peak_mb")
    sides = {name: results[name] for name in ("nightrank", "cicerone")}
    told = {name: side for name, side in sides.items() if isinstance(side, dict)}
    rows = [(name, *(side[each] for each in columns)) for name, side in told.items()]
    goals = []
    if len(told) == 2:
        ours, theirs = told.values()
        goals = [
            Goal(f"{each} as a share of cicerone's", round(ours[each] / theirs[each], 2), 0.5, True)
            for each in ("cpu_seconds", "peak_mb")
        ]
    of = results["machine"]
    machine = f"{of['processor']}, {of['cores']} cores, load {of['load']}"
    origin = Origin(machine, listed(results["versions"]), results["date"])
    return Chapter(origin, [Table(("whose", *columns), rows)], goals)


def coat(results: Results) -> Chapter:
    """Propensities on ratings."""
    rows: list[tuple[object, ...]] = [
        (row["propensity"], row["mean_mse"], row["penalty"], row["factors"], *row["against_none"])
        for row in results
    ]
    head = ("propensity", "mean MSE", "penalty", "factors", "against none, low", "high")
    n_seeds = len(results[0]["mse"])
    return Chapter(Origin(seeds=f"{n_seeds}"), [Table(head, rows)])


def gate_power(results: Results) -> Chapter:
    """How often the gate holds."""
    columns = ("aimed at", "mean true change", "n_nights", "held", "not judged", "mean se")
    rows = [tuple(row[each] for each in columns) for row in results["curve"]]
    seeds = {night["seed"] for night in results["nights"]}
    return Chapter(Origin(seeds=f"{min(seeds)} to {max(seeds)}"), [Table(columns, rows)])


def growth(results: Results) -> Chapter:
    """Features and estimates of a growing log."""
    columns = ("cpu_seconds", "seconds", "peak_mb", "temporary_mb")
    rows = [(f"{int(n):,}", *(cell[each] for each in columns)) for n, cell in results.items()]
    return Chapter(Origin(), [Table(("impressions", *columns), rows)])


def ingest(results: Results) -> Chapter:
    """Ingest against its floor."""
    columns = ("cpu_seconds", "seconds", "peak_mb", "n_clean")
    rows = [
        (name, *(cell[each] for each in columns))
        for name, cell in results.items()
        if name != "ratio"
    ]
    ratio = ("ours over floor, medians", results["ratio"]["times"], "", "", "")
    return Chapter(Origin(), [Table(("run", *columns), [*rows, ratio])])


def known_truth(results: Results) -> Chapter:
    """Estimates and intervals where the truth is known."""
    columns = ("worlds", "estimates", "naive off by 0.05 or more")
    errors: list[tuple[object, ...]] = [
        (kind, *(told[each] for each in columns), *told["largest error of those"].values())
        for kind, told in results["summary"].items()
    ]
    covered: list[tuple[object, ...]] = [
        (kind, estimator, min(found.values()), max(found.values()))
        for kind, told in results["summary"].items()
        for estimator, found in told["coverage"].items()
    ]
    seeds = [f"{kind} {each['seed']}" for kind, each in results["settings"].items()]
    tables = [
        Table(("kind of world", *columns, "largest error, SNIPS", "DR"), errors),
        Table(("kind of world", "95 % intervals of", "least coverage", "most"), covered),
    ]
    return Chapter(Origin(seeds="; ".join(seeds)), tables)


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


def causalrec_speed(results: Results) -> Chapter:
    """CausalRec's training beside SASRec's."""
    head = ("length", "SASRec, CPU s", "CausalRec, CPU s", "times", "scores of direction, CPU s")
    names = ("sasrec_cpu_seconds", "causalrec_cpu_seconds", "times", "directions_cpu_seconds")
    of_lengths = {n: each for n, each in results.items() if n.isdigit()}
    rows = [(n, *(each[name] for name in names)) for n, each in of_lengths.items()]
    goal = Goal("length 200: times SASRec's", results["200"]["times"], 1.5, at_most=True)
    return Chapter(of_cells([results]), [Table(head, rows)], [goal])


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


def night(results: Results) -> Chapter:
    """One night of the sample shop."""
    columns = ("stage", "n_rows", "seconds", "cpu_seconds", "peak_mb")
    rows = [tuple(stage[each] for each in columns) for stage in results["stages"]]
    whole = ("whole night", "", results["night_seconds"], "", "")
    lookup = ("one user's list, ms", results["lookup_ms"]["n"], results["lookup_ms"]["median"])
    where = results["machine"]
    machine = f"{where['processor']}, {where['cores']} cores"
    tables = [
        Table(columns, [*rows, whole]),
        Table(("read", "look-ups", "median"), [lookup]),
    ]
    return Chapter(Origin(machine, listed(results["versions"]), results["date"]), tables)


def nights(results: Results) -> Chapter:
    """Ninety nights in a row."""
    compared = [name for name in results if name.startswith("night ")]
    rows: list[tuple[object, ...]] = [(each, results[each]["cpu_seconds"]) for each in compared]
    ratio = ("the second over the first", results["ratio"])
    return Chapter(Origin(), [Table(("which", "CPU s"), [*rows, ratio])])


def backfills(results: Results) -> Chapter:
    """Fourteen nights of the past, by the command and as plain function calls."""
    columns = ("cpu_seconds", "seconds", "peak_mb")
    rows: list[tuple[object, ...]] = [
        (n, name, *(each[name][column] for column in columns))
        for n, each in enumerate(results["rounds"], 1)
        for name in ("plain", "command")
    ]
    head = ("round", "how", "CPU s", "s", "MB at most")
    goal = Goal("CPU s of the command over plain calls", results["cpu_seconds_ratio"], 1.1, True)
    wall = Goal("s of the command over plain calls", results["seconds_ratio"], 1.1, True)
    return Chapter(Origin(), [Table(head, rows)], [goal, wall])


def store(results: Results) -> Chapter:
    """A night on an object store and on disk, by turns."""
    columns = ("cpu_seconds", "seconds", "peak_mb")
    rows: list[tuple[object, ...]] = [
        (n, where, *(each[where][column] for column in columns))
        for n, each in enumerate(results["rounds"], 1)
        for where in ("disk", "store")
    ]
    where = results["machine"]
    machine = f"{where['processor']}, {where['cores']} cores"
    origin = Origin(machine, listed(results["versions"]), results["date"])
    goal = Goal("CPU s on the store over disk, medians", results["ratio"], 1.5, True)
    return Chapter(origin, [Table(("round", "where", "CPU s", "s", "MB at most"), rows)], [goal])


def propensities(results: Results) -> Chapter:
    """Estimators of propensities against the truth: means over shops."""
    columns = ("naive", "ips", "snips", "mean_weight", "ess", "clipped", "mae")
    names = list(dict.fromkeys(row["estimator"] for row in results))
    rows: list[tuple[object, ...]] = []
    for name in names:
        own = [row for row in results if row["estimator"] == name]
        rows.append((name, len(own), *(means([row.get(at) for row in own], 4) for at in columns)))
    seeds = distinct(row["seed"] for row in results)
    return Chapter(Origin(seeds=seeds), [Table(("estimator", "shops", *columns), rows)])


_EDGES = ("succ", "theme", "other")
_SHORT = ("HR@10 of 101", "NDCG@10 of 101", "HR@10 of all", "NDCG@10 of all")
_CELL = (
    *("sampled_hr_10", "sampled_ndcg_10", "full_hr_10", "full_ndcg_10"),
    *("chooser_ndcg_20", "cpu_seconds"),
)

CHAPTERS: dict[str, Callable[[Results], Chapter]] = {
    each.__name__: each
    for each in (
        *(baselines, sasrec_quality, sasrec_speed, recbole_speed, topk, gpu),
        *(known_causes, causalrec_quality, causalrec_speed),
        *(known_truth, propensities, coat, gate_power),
        *(night, nights, whole_night, ingest, growth, backfills, store),
    )
}
