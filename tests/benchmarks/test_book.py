"""The book is in step with the results, and says what falls short."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.book import BOOK, RESULTS, book, markdown
from tests.benchmarks.chapter import Goal, Table
from tests.benchmarks.chapters import CHAPTERS, sasrec_quality


def test_the_book_is_in_step_with_the_results() -> None:
    assert BOOK.read_text() == book(), "run python -m tests.benchmarks.book"


def test_every_result_has_a_chapter() -> None:
    assert {file.stem for file in RESULTS.glob("*.json")} <= set(CHAPTERS)


def test_what_was_not_measured_is_said_not_to_be(tmp_path: Path) -> None:
    told = book(tmp_path)
    for name in CHAPTERS:
        assert f"- {name}: not measured yet" in told


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal("", 3.0, 3.0), "met"),
        (Goal("", 2.99, 3.0), "NOT MET"),
        (Goal("", 3.01, 3.0, at_most=True), "NOT MET"),
        (Goal("", None, 3.0), "not measured"),
        (
            Goal("", 4.0, 3.0, n_seeds=2, wanted_seeds=3),
            "met on 2 of 3 seeds, the others not measured",
        ),
        (Goal("", 2.0, 3.0, n_seeds=2, wanted_seeds=3), "NOT MET"),
        (Goal("", 4.0, 3.0, n_seeds=3, wanted_seeds=3), "met"),
    ],
)
def test_verdicts(goal: Goal, verdict: str) -> None:
    assert goal.verdict == verdict


def test_a_figure_that_falls_short_is_marked(tmp_path: Path) -> None:
    kept = json.loads((RESULTS / "sasrec_quality.json").read_text())
    low = {key: cell | {"full_ndcg_10": 0.01} for key, cell in kept.items()}
    (tmp_path / "sasrec_quality.json").write_text(json.dumps(low))
    told = book(tmp_path)
    line = "- sasrec_quality: amazon-beauty, tuned: mean full_ndcg_10: 0.01 of 0.041, NOT MET"
    assert line in told.partition("## baselines")[0]
    assert "| amazon-beauty, tuned: mean full_ndcg_10 | 0.01 | >= 0.041 | NOT MET |" in told


def test_the_mean_is_that_of_all_seeds() -> None:
    cell = {
        **dict.fromkeys(("sampled_hr_10", "sampled_ndcg_10", "full_hr_10"), 0.5),
        "cpu_seconds": 1,
        "on": "2026-01-01",
        "machine": {"cpu": "A", "cores": 2, "python": "3.11"},
    }
    results = {
        f"amazon-beauty, tuned, seed {seed}": cell | {"seed": seed, "full_ndcg_10": value}
        for seed, value in ((1, 0.04), (2, 0.05), (3, 0.06))
    }
    chapter = sasrec_quality(results)
    (beauty,) = (goal for goal in chapter.goals if goal.what.startswith("amazon-beauty"))
    assert beauty.value == pytest.approx(0.05)
    assert beauty.verdict == "met"
    assert chapter.origin.seeds == "1, 2, 3"


def test_a_bar_in_a_cell_ends_no_cell() -> None:
    assert list(markdown(Table(("a", "b"), [("x|y", None)]))) == [
        "| a | b |",
        "| --- | --- |",
        "| x\\|y |  |",
    ]
