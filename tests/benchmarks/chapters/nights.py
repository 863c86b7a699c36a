"""Chapters of nights and their stages."""

from tests.benchmarks.chapter import Chapter, Goal, Origin, Results, Table, listed


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


def growth(results: Results) -> Chapter:
    """Features and estimates of a growing log."""
    columns = ("cpu_seconds", "seconds", "peak_mb", "temporary_mb")
    rows = [(f"{int(n):,}", *(cell[each] for each in columns)) for n, cell in results.items()]
    return Chapter(Origin(), [Table(("impressions", *columns), rows)])


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
