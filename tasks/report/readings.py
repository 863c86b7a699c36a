"""The readings of ranking quality side by side, and what their difference means."""

from collections.abc import Sequence
from typing import Any

from tasks.report.questions import Row

NAMES = {"time split": "time split", "random slice": "random slice", "snips": "SNIPS"}
METRICS = ("recall", "ndcg", "mrr")
EVEN = ("snips", "random slice")  # of even exposure, the one with more pairs first


def plain(rows: Sequence[Row]) -> list[Row]:
    """What the page lists at every K: the time split by users, and what lists are like."""
    shown = (("time split", "users"), ("lists", "users"), ("lists", "lists"))
    return [row for row in _of_all(rows) if (row["evaluation"], row["average"]) in shown]


def side_by_side(rows: Sequence[Row], metrics: Sequence[str] = METRICS) -> list[dict[str, Any]]:
    """One entry per model, segment and metric at the largest K: the row of each reading."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    k = max((row["k"] for row in rows), default=0)
    for row in rows:
        if row["average"] == "pairs" and row["k"] == k and row["metric"] in metrics:
            key = (row["model"], row["segment_kind"], row["segment"], row["metric"])
            facts = dict(zip(("model", "kind", "segment", "metric"), key, strict=True))
            found.setdefault(key, facts | {"k": k, "of": {}})["of"][row["evaluation"]] = row
    order = sorted(found, key=lambda key: (*key[:3], metrics.index(key[3])))
    return [found[key] for key in order]


def all_pairs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same, without segments."""
    return side_by_side(_of_all(rows))


def of_segments(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Recall of the segments alone."""
    return side_by_side([row for row in rows if row["segment_kind"] != "all"], ("recall",))


def sentences(rows: Sequence[Row]) -> list[str]:
    """What the readings of each model's recall say together."""
    entries = [entry for entry in all_pairs(rows) if entry["metric"] == "recall"]
    return [f"{entry['model']}: {_meaning(entry['of'])}" for entry in entries]


def _meaning(of: dict[str, Row]) -> str:
    split = of.get("time split")
    even = next((of[name] for name in EVEN if name in of and of[name]["low"] is not None), None)
    if split is None or even is None or split["low"] is None:
        return "nothing was logged that would tell how much of it is exposure."
    numbers = (
        f"recall {split['score']:.4f} on the time split, {even['score']:.4f} had every item been "
        "as likely to be shown"
    )
    if _apart(*(of.get(name) for name in EVEN)):
        return (
            f"{numbers}; but SNIPS and the random slice disagree, so look at the logged "
            "probabilities first."
        )
    if not _apart(split, even):
        return f"{numbers}: the intervals meet, so no effect of exposure can be told."
    if split["score"] > even["score"]:
        return f"{numbers}: the time split credits it with finding what was shown anyway."
    return f"{numbers}: the time split hides what it finds beyond what was shown."


def _apart(one: Row | None, other: Row | None) -> bool:
    """Whether two intervals do not meet."""
    if one is None or other is None or one["low"] is None or other["low"] is None:
        return False
    return bool(one["high"] < other["low"] or other["high"] < one["low"])


def _of_all(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["segment_kind"] == "all"]
