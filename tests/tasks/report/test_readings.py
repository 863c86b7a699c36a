"""What three readings of a model's recall mean together."""

from typing import Any

import pytest

from tasks.report.readings import all_pairs, of_segments, plain, sentences


def row(evaluation: str, score: float, spread: float | None = 0.01, **other: Any) -> dict[str, Any]:
    bounds = {"low": None, "high": None}
    if spread is not None:
        bounds = {"low": score - spread, "high": score + spread}  # type: ignore[dict-item]
    facts = {"model": "bpr", "average": "pairs", "metric": "recall", "k": 20}
    where = {"segment_kind": "all", "segment": "all"}
    return facts | where | bounds | {"evaluation": evaluation, "score": score} | other


@pytest.mark.parametrize(
    ("split", "slice_", "snips", "said"),
    [
        (0.2, 0.1, 0.1, "finding what was shown anyway"),
        (0.1, 0.2, 0.2, "hides what it finds"),
        (0.1, 0.105, 0.11, "no effect of exposure can be told"),
        (0.2, 0.05, 0.1, "look at the logged probabilities first"),
        (0.2, 0.1, None, "0.1000 had every item"),
        (0.2, None, None, "nothing was logged"),
    ],
)
def test_what_the_difference_means(
    split: float, slice_: float | None, snips: float | None, said: str
) -> None:
    scores = {"time split": split, "random slice": slice_, "snips": snips}
    rows = [row(name, score) for name, score in scores.items() if score is not None]
    (found,) = sentences(rows)
    assert said in found


def test_without_an_interval_nothing_is_claimed() -> None:
    (found,) = sentences([row("time split", 0.2), row("snips", 0.1, None)])
    assert "nothing was logged" in found


def test_only_the_largest_k_stands_side_by_side_and_segments_apart() -> None:
    rows = [
        row("time split", 0.2),
        row("time split", 0.1, k=10),
        row("snips", 0.1),
        row("snips", 0.1, metric="mrr"),
        row("snips", 0.05, segment_kind="popularity", segment="tail"),
        row("time split", 0.3, average="users"),
    ]
    entries = all_pairs(rows)
    assert [(each["metric"], sorted(each["of"])) for each in entries] == [
        ("recall", ["snips", "time split"]),
        ("mrr", ["snips"]),
    ]
    assert [each["segment"] for each in of_segments(rows)] == ["tail"]
    assert [each["score"] for each in plain(rows)] == [0.3]
    assert all_pairs([]) == []
