"""Pictures from plain lists."""

import re
from collections.abc import Callable
from datetime import date

import matplotlib as mpl
import pytest

from tasks.report import pictures

DAYS = [date(2026, 1, day) for day in (3, 4, 5)]
DRAWN: dict[str, Callable[[str], str]] = {
    "by_day": lambda title: pictures.by_day("p", title, DAYS, {"a": [1, 20, None]}),
    "lorenz": lambda title: pictures.lorenz("p", title, {"a": [(0.5, 0.1), (1.0, 1.0)]}),
    "histogram": lambda title: pictures.histogram("p", title, [(0.01, 0.1, 7), (0.1, 1.0, 2)]),
    "intervals": lambda title: pictures.intervals(
        "p", title, "x", {"a": {"one": (0.1, 0.2, 0.3), "two": (0.2, 0.2, 0.2)}}
    ),
    "graph": lambda title: pictures.graph("p", title, [("a", "b", 2.0), ("a", "c", 1.0)]),
    "bars": lambda title: pictures.bars("p", title, ["x"], {"a": [0.25], "b": [None]}),
}  # fmt: skip

every_picture = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())


@every_picture
def test_it_is_one_svg_with_a_title(draw: Callable[[str], str]) -> None:
    svg = draw("A & B")
    assert svg.startswith('<svg role="img" aria-label="A &amp; B"')
    assert "<title>A &amp; B</title>" in svg
    assert svg.count("<svg") == svg.count("</svg>") == 1


@every_picture
def test_it_follows_the_pages_colours(draw: Callable[[str], str]) -> None:
    svg = draw("t")
    assert "var(--muted)" in svg
    assert "var(--c1)" in svg
    assert not set(re.findall(r"#[0-9a-f]{6}\b", svg))


@every_picture
def test_it_is_the_same_each_time_and_names_no_date_or_address(draw: Callable[[str], str]) -> None:
    assert draw("t") == draw("t")
    assert "http" not in draw("t")
    assert "metadata" not in draw("t")


def test_labels_are_text_and_neither_markup_nor_formulas() -> None:
    svg = pictures.bars("p", "t", ["$x^2$", "<i>"], {"<b>&": [0.1, 0.2]})
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "$x^2$" in svg


def test_one_day_is_a_dot_with_its_date() -> None:
    svg = pictures.by_day("p", "t", DAYS[:1], {"a": [5]})
    assert "01-03" in svg
    assert "2026" in svg


def test_days_without_counts_leave_an_empty_picture() -> None:
    assert "<svg" in pictures.by_day("p", "t", DAYS, {"a": [None, 0, None]})


@pytest.mark.parametrize("n_series", [1, 2, 4, 6])
@pytest.mark.parametrize("length", [5, 17, 28])
def test_a_legend_is_no_wider_than_its_picture(n_series: int, length: int) -> None:
    """Else it would squeeze the axes to nothing."""
    with mpl.rc_context(pictures._STYLE):
        figure, axes = pictures._canvas()
        for number in range(n_series):
            axes.plot([0, 1], [0, 1], label=f"{number} after, impression propensity"[:length])
        pictures._legend(axes, n_series)
        figure.draw_without_rendering()
    assert axes.get_window_extent().width > 0.8 * figure.bbox.width


def test_a_graph_shows_each_name_once_and_cuts_long_ones() -> None:
    edges = [
        ("tea", "milk", 3.0),
        ("tea", "cup", 2.0),
        ("kettle", "cup", 1.0),
        ("x" * 99, "y", 1.0),
    ]
    svg = pictures.graph("p", "t", edges)
    for name in ("tea", "milk", "cup", "kettle", "x" * 29 + "…"):
        assert svg.count(f">{name}</text>") == 1, name
    assert "x" * 30 not in svg
