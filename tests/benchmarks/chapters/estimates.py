"""Chapters of propensities, estimates and the gate, beside what is true."""

from tests.benchmarks.chapter import Chapter, Origin, Results, Table, distinct, means


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
