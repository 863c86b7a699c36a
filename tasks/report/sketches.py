"""From rows to pictures: which lists each picture of the page is drawn from."""

from collections.abc import Callable

from markupsafe import Markup

from tasks.report import pictures, readings
from tasks.report.questions import Row

Rows = dict[str, list[Row]]


def sketches(rows: Rows) -> dict[str, Markup]:
    """The pictures that can be drawn; one with nothing to draw is left out."""
    drawn = {name: draw(rows[asked]) for name, (asked, draw) in _DRAWN.items() if rows[asked]}
    # Every text in a picture went through Matplotlib's or our own escaping.
    return {name: Markup(picture) for name, picture in drawn.items() if picture}


def _traffic(rows: list[Row]) -> str:
    days = [row["ds"] for row in rows]
    shown = ("events", "users", "requests", "impressions")
    series = {name: [row[f"n_{name}"] for row in rows] for name in shown}
    drawn = {name: values for name, values in series.items() if any(values)}
    return pictures.by_day("traffic", "Traffic by day, logarithmic", days, drawn)


def _behaviours(rows: list[Row]) -> str:
    days = sorted({row["ds"] for row in rows})
    counts = {(row["behaviour"], row["ds"]): row["n_events"] for row in rows}
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["behaviour"]] = totals.get(row["behaviour"], 0) + row["n_events"]
    names = sorted(totals, key=lambda name: (-totals[name], name))
    series = {name: [counts.get((name, day)) for day in days] for name in names}
    return pictures.by_day("behaviours", "Behaviours by day, logarithmic", days, series)


def _concentration(rows: list[Row]) -> str:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row["kind"], []).append((row["share_items"], row["share_counts"]))
    return pictures.lorenz("concentration", "Lorenz curves of items", curves)


def _propensities(rows: list[Row]) -> str:
    counts: dict[int, int] = {}
    for row in rows:
        counts[min(row["eighth"], -1)] = counts.get(min(row["eighth"], -1), 0) + row["n_items"]
    edges = [(10 ** (e / 8), 10 ** ((e + 1) / 8), n) for e, n in sorted(counts.items())]
    return pictures.histogram("propensities", "Items by estimated propensity", edges)


def _causes(rows: list[Row]) -> str:
    """Each pair once, by the model that has it strongest; items of one title stay apart."""
    edges: dict[tuple[str, str], float] = {}
    for row in rows:
        pair = (
            _named(row["cause"], row["cause_title"]),
            _named(row["effect"], row["effect_title"]),
        )
        edges.setdefault(pair, row["strength"])
    drawn = [(cause, effect, strength) for (cause, effect), strength in edges.items()]
    return pictures.graph("causes", "Which item seems to cause which", drawn)


def _named(item: str, title: str | None) -> str:
    return f"{item} {title}" if title else item


def _diagnostics(rows: list[Row]) -> str:
    """Balance before and after weighting, by covariate and kind of weight."""
    balance = [row for row in rows if row["measure"] == "balance"]
    if not balance:
        return ""
    names = sorted({row["about"] for row in balance})
    series: dict[str, dict[str, float]] = {"before": {}}
    for row in balance:
        series["before"][row["about"]] = abs(row["before"])
        series.setdefault(f"after, {row['weight']}", {})[row["about"]] = abs(row["found"])
    heights = {label: [found.get(name) for name in names] for label, found in series.items()}
    groups = [name.replace("_", " ") for name in names]
    return pictures.bars("diagnostics", "Standardised mean differences", groups, heights)


def _policies(rows: list[Row]) -> str:
    """Of the behaviour that is most common: the naive mean, SNIPS and DR of each policy."""
    naive = [row for row in rows if row["estimator"] == "naive"]
    behaviour = max(naive, key=lambda row: row["estimate"] or 0)["behaviour"]
    series: dict[str, dict[str, pictures.Interval]] = {}
    for row in rows:
        if row["behaviour"] == behaviour and row["estimator"] in _SHOWN and row["low"] is not None:
            interval = (row["low"], row["estimate"], row["high"])
            series.setdefault(_SHOWN[row["estimator"]], {})[row["policy"]] = interval
    if not series:
        return ""
    title = f"{behaviour} per slot under stated policies, with 95 % intervals"
    return pictures.intervals("policies", title, f"{behaviour} per slot", series)


def _comparisons(rows: list[Row]) -> str:
    """The night's models against what was served, by what they would earn and by the time split."""
    newest = [row for row in rows if row["ds"] == rows[0]["ds"] and row["low"] is not None]
    series: dict[str, dict[str, pictures.Interval]] = {}
    for row in newest:
        label = "NDCG on the time split" if row["reward"] == "ndcg" else f"{row['reward']} per slot"
        interval = (row["low"], row["change"], row["high"])
        series.setdefault(label, {})[row["model"]] = interval
    if not series:
        return ""
    title = "Models against what is served, with 95 % intervals"
    return pictures.intervals("comparisons", title, "relative change", series)


def _metrics(rows: list[Row]) -> str:
    k = max(row["k"] for row in rows)
    shares = [row for row in readings.plain(rows) if row["k"] == k and row["metric"] != "novelty"]
    values = {(row["model"], row["metric"]): row["score"] for row in shares}
    metrics = sorted({metric for _, metric in values})
    models = sorted({model for model, _ in values})
    series = {model: [values.get((model, metric)) for metric in metrics] for model in models}
    groups = [metric.replace("_", " ") for metric in metrics]
    return pictures.bars("metrics", f"Metrics at {k} by model", groups, series)


def _readings(rows: list[Row]) -> str:
    """Recall of each model under each reading, with intervals."""
    entries = [entry for entry in readings.all_pairs(rows) if entry["metric"] == "recall"]
    series: dict[str, dict[str, pictures.Interval]] = {}
    for name, label in readings.NAMES.items():
        for entry in entries:
            row = entry["of"].get(name)
            if row is not None and row["low"] is not None:
                interval = (row["low"], row["score"], row["high"])
                series.setdefault(label, {})[entry["model"]] = interval
    if not series:
        return ""
    k = entries[0]["k"]
    title = f"Recall at {k} under three readings, with 95 % intervals"
    return pictures.intervals("readings", title, f"recall @{k} of positive pairs", series)


_SHOWN = {"naive": "naive: what was shown", "snips": "SNIPS", "dr": "DR"}
_DRAWN: dict[str, tuple[str, Callable[[list[Row]], str]]] = {
    "traffic": ("traffic", _traffic),
    "behaviours": ("behaviours", _behaviours),
    "concentration": ("concentration", _concentration),
    "propensities": ("propensities", _propensities),
    "metrics": ("metrics", _metrics),
    "readings": ("metrics", _readings),
    "policies": ("policies", _policies),
    "comparisons": ("comparisons", _comparisons),
    "diagnostics": ("diagnostics", _diagnostics),
    "causes": ("causes", _causes),
}
