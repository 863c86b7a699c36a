"""The book is in step with the results, and says what falls short."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmarks import sasrec_speed, whole_night
from tests.benchmarks.book import BOOK, RESULTS, book, markdown
from tests.benchmarks.chapter import Goal, Table
from tests.benchmarks.chapters import CHAPTERS, models, speed
from tests.benchmarks.origins import keep


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


def test_what_a_gpu_gave_is_a_chapter() -> None:
    of = {"seconds": 0.02, "floor_seconds": 0.01, "times_the_floor": 2.0}
    told = speed.gpu(
        {
            **{"date": "2026-01-01", "device": "A card", "torch": "2.13.0"},
            **{"bytes_a_second": 1e12, "operations_a_second": 1e13},
            "agreement": {"share_of_ranks_with_the_same_item": 0.999},
            "lightgcn_200k_x_100k": of | {"edges": 9},
            "lists_1m_x_100k_x_128": of,
        }
    )
    assert told.origin.machine == "A card"
    assert told.tables[0].rows == [
        ("lightgcn_200k_x_100k", 0.02, 0.01, 0.5),
        ("lists_1m_x_100k_x_128", 0.02, 0.01, 0.5),
    ]
    assert [(goal.what, goal.verdict) for goal in told.goals] == [
        ("lists_1m_x_100k_x_128, share of the floor's rate", "NOT MET")
    ]


def test_results_that_could_not_be_written_whole_take_the_place_of_none(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    keep(file, "before")
    with pytest.raises(UnicodeEncodeError):
        keep(file, "half of it \ud800")
    assert file.read_text() == "before"
    keep(file, "after")
    assert file.read_text() == "after"


@pytest.mark.parametrize("beside", [sasrec_speed, whole_night])
def test_what_was_measured_beside_a_peer_stays_where_there_is_none(
    beside: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("figures of both")
    (tmp_path / "amazon-beauty").mkdir()
    for name, other in {"RESULTS": kept, "FOLDER": tmp_path, "measure": lambda *_: {}}.items():
        monkeypatch.setattr(beside, name, other, raising=False)
    monkeypatch.setattr("sys.argv", ["benchmark"])
    beside.main()
    assert kept.read_text() == "figures of both"


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
    chapter = models.sasrec_quality(results)
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


def test_an_arm_stands_beside_sasrec_of_the_seeds_that_both_have() -> None:
    names = ("sampled_hr_10", "full_hr_10", "full_ndcg_10", "chooser_ndcg_20", "cpu_seconds")
    cell = {
        **dict.fromkeys(names, 0.5),
        "on": "2026-01-01",
        "machine": {"cpu": "A", "cores": 2, "python": "3.11"},
    }
    found = {("sasrec", 1): 0.4, ("sasrec", 2): 0.8, ("gram", 1): 0.5, ("free", 3): 0.5}
    chapter = models.causalrec_quality(
        {
            f"amazon-beauty, {arm}, seed {seed}": cell | {"seed": seed, "sampled_ndcg_10": value}
            for (arm, seed), value in found.items()
        }
    )
    shares = {row[1]: row[-1] for row in chapter.tables[0].rows}
    assert shares == {"sasrec": 1.0, "gram": 1.25, "free": None}


def test_the_file_that_a_peer_was_is_told_where_it_is_known() -> None:
    kept = json.loads((RESULTS / "sasrec_speed.json").read_text())
    known = speed.sasrec_speed({**kept, "peer_sha256": "0123456789abcdef" * 4})
    unknown = speed.sasrec_speed({k: v for k, v in kept.items() if k != "peer_sha256"})
    assert str(known.origin.versions).endswith("; pmixer's model.py: SHA-256 0123456789ab")
    assert str(unknown.origin.versions).endswith("; pmixer's model.py: which one is not recorded")
