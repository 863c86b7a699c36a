"""Chapters of what training and lists cost, beside a peer or a floor."""

from dataclasses import replace

from tests.benchmarks.chapter import (
    Chapter,
    Goal,
    Origin,
    Results,
    Table,
    distinct,
    listed,
    of_cells,
)


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


def causalrec_speed(results: Results) -> Chapter:
    """CausalRec's training beside SASRec's."""
    head = ("length", "SASRec, CPU s", "CausalRec, CPU s", "times", "scores of direction, CPU s")
    names = ("sasrec_cpu_seconds", "causalrec_cpu_seconds", "times", "directions_cpu_seconds")
    of_lengths = {n: each for n, each in results.items() if n.isdigit()}
    rows = [(n, *(each[name] for name in names)) for n, each in of_lengths.items()]
    goal = Goal("length 200: times SASRec's", results["200"]["times"], 1.5, at_most=True)
    return Chapter(of_cells([results]), [Table(head, rows)], [goal])


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
