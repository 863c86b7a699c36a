"""Pictures as inline SVG: plain lists in, the same bytes out for the same lists.

Colours are written as names of the page's CSS variables, so that they follow light and dark.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from html import escape
from math import ceil, floor, log10
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

Points: TypeAlias = Sequence[tuple[float, float]]
Interval: TypeAlias = tuple[float, float, float]
"""Lower end, estimate, upper end."""

# Stand-ins that Matplotlib accepts; each becomes a CSS variable.
_LETTERS = 72  # of labels and keys that fit beside each other
_NODE_LETTERS = 30  # of a name in a graph
_CURVE = (Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4)
_INK, _MUTED, _GRID = "#010101", "#010102", "#010103"
_SERIES = tuple(f"#0203{place:02x}" for place in range(1, 7))
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(_SERIES, 1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "nightrank",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _GRID,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


def by_day(
    name: str, title: str, days: Sequence[date], series: Mapping[str, Sequence[float | None]]
) -> str:
    """Counts per day on a logarithmic scale, one line each; a day without a count is a gap."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas()
        places = [day.toordinal() for day in days]
        for place, (label, values) in enumerate(series.items()):
            heights = [value if value else float("nan") for value in values]
            axes.plot(
                places, heights, label=label, color=_colour(place), marker="o", markersize=2.5
            )
        axes.set_yscale("log")
        axes.set_ylim(bottom=_decade_below(series.values()))
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        axes.yaxis.set_minor_formatter(NullFormatter())
        # Counted from the last day backwards, so that the night itself has a tick.
        ticks = days[::-1][:: ceil(len(days) / 6)]
        axes.set_xticks([day.toordinal() for day in ticks], [f"{day:%m-%d}" for day in ticks])
        axes.set_xlabel("–".join(sorted({f"{day:%Y}" for day in days})))
        _legend(axes, len(series))
        return _svg(figure, name, title)


def lorenz(name: str, title: str, curves: Mapping[str, Points]) -> str:
    """Lorenz curves: share of items, the rarest first, against their share of all counts."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas()
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=(0, (3, 3)))
        for place, (label, points) in enumerate(curves.items()):
            x, y = zip((0.0, 0.0), *points, strict=True)
            axes.plot(x, y, label=label, color=_colour(place))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="items, the rarest first")
        _legend(axes, len(curves))
        return _svg(figure, name, title)


def histogram(name: str, title: str, edges: Sequence[tuple[float, float, int]]) -> str:
    """Bars between two edges on a logarithmic axis, as high as their count."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas()
        lefts = [left for left, _, _ in edges]
        widths = [right - left for left, right, _ in edges]
        heights = [height for _, _, height in edges]
        axes.bar(lefts, heights, width=widths, align="edge", color=_SERIES[0], linewidth=0)
        axes.set_xscale("log")
        axes.set(xlim=(min(lefts), 1), xlabel="estimated propensity", ylabel="items")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        return _svg(figure, name, title)


def bars(
    name: str, title: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]]
) -> str:
    """Bars side by side, one group per name, one colour per series."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas()
        width = 0.8 / max(len(series), 1)
        for place, (label, values) in enumerate(series.items()):
            left = [group - 0.4 + width * (place + 0.5) for group in range(len(groups))]
            heights = [value or 0.0 for value in values]
            drawn = axes.bar(left, heights, width * 0.92, label=label, color=_colour(place))
            if len(groups) * len(series) <= 12:
                axes.bar_label(drawn, fmt="%.3f", fontsize=8, color=_MUTED, padding=2)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.margins(y=0.12)
        _legend(axes, len(series))
        return _svg(figure, name, title)


def intervals(
    name: str, title: str, axis: str, series: Mapping[str, Mapping[str, Interval]]
) -> str:
    """Estimates as points with their intervals, a row per name, one colour per series."""
    with mpl.rc_context(_STYLE | {"axes.grid.axis": "x"}):
        figure, axes = _canvas()
        names = sorted({each for found in series.values() for each in found})
        for place, (label, found) in enumerate(series.items()):
            rows = [names.index(each) + 0.18 * (place - (len(series) - 1) / 2) for each in found]
            lows, middles, highs = zip(*found.values(), strict=True)
            spread = [
                [middle - low for low, middle in zip(lows, middles, strict=True)],
                [high - middle for middle, high in zip(middles, highs, strict=True)],
            ]
            axes.errorbar(
                middles, rows, xerr=spread, label=label, color=_colour(place), fmt="o",
                markersize=4, capsize=3,
            )  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=axis, ylim=(len(names) - 0.5, -0.5))
        _legend(axes, len(series))
        return _svg(figure, name, title)


def graph(name: str, title: str, edges: Sequence[tuple[str, str, float]]) -> str:
    """Arrows from causes on the left to effects on the right, as wide as they are strong."""
    with mpl.rc_context(_STYLE | {"axes.grid": False, "axes.spines.bottom": False}):
        causes = list(dict.fromkeys(cause for cause, _, _ in edges))
        met: dict[str, list[int]] = {}
        for cause, effect, _ in edges:
            met.setdefault(effect, []).append(causes.index(cause))
        # an effect stands beside its causes, so that few arrows cross
        effects = sorted(met, key=lambda effect: sum(met[effect]) / len(met[effect]))
        n = max(len(causes), len(effects))
        figure = Figure(figsize=(6, 0.6 + 0.24 * n), layout="constrained")
        axes = figure.add_subplot()
        strongest = max(strength for _, _, strength in edges)
        for cause, effect, strength in edges:
            left, right = _rows(causes, n)[cause], _rows(effects, n)[effect]
            curve = Path([(0, left), (0.5, left), (0.5, right), (1, right)], _CURVE)
            axes.add_patch(
                FancyArrowPatch(
                    path=curve,
                    color=_colour(causes.index(cause)),
                    linewidth=0.6 + 2 * strength / strongest,
                    arrowstyle="-|>",
                    mutation_scale=8,
                    fill=False,
                )
            )
        sides = ((-0.02, "cause", causes, "right"), (1.02, "effect", effects, "left"))
        for side, head, names, align in sides:
            axes.text(side, -1, head, ha=align, va="center", fontsize=8.5, color=_MUTED)
            for each, row in _rows(names, n).items():
                axes.text(side, row, _cut(each), ha=align, va="center", fontsize=8.5)
        axes.set(xlim=(-0.9, 1.9), ylim=(n - 0.4, -1.4), xticks=[], yticks=[])
        return _svg(figure, name, title)


def _rows(names: Sequence[str], n: int) -> dict[str, float]:
    """Where each stands among n rows, evenly."""
    step = n / len(names)
    return {name: step * (place + 0.5) - 0.5 for place, name in enumerate(names)}


def _cut(text: str) -> str:
    return text if len(text) <= _NODE_LETTERS else text[: _NODE_LETTERS - 1] + "…"


def _decade_below(series: Iterable[Sequence[float | None]]) -> float:
    smallest = min((value for values in series for value in values if value), default=1)
    return float(10 ** floor(log10(smallest)))


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    return figure, figure.add_subplot()


def _colour(place: int) -> str:
    return _SERIES[place % len(_SERIES)]


def _legend(axes: Axes, n_series: int) -> None:
    if not n_series:
        return
    # A legend that is wider than the picture would squeeze what it explains.
    longest = max(len(label) for label in axes.get_legend_handles_labels()[1])
    fits = max(_LETTERS // (longest + 5), 1)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=min(n_series, fits), borderaxespad=0.2,
        borderpad=0, handlelength=1.2, columnspacing=1.4,
    )  # fmt: skip


def _short(value: float, _: int | None = None) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _svg(figure: Figure, name: str, title: str) -> str:
    """The picture without prologue, date and addresses; its ids are unique to `name`."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::xlink)?|width|height|version)="[^"]*"', "", text, count=5)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    label = escape(title, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).replace(
        ">", f"><title>{escape(title)}</title>", 1
    )
