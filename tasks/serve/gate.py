"""The gate: whether a release may take the place of what is served. One verdict per rule.

The rule of the value is one of non-inferiority: with change = value / served value - 1 and its
standard error se, a release is held unless

    change - z(confidence) se >= -margin

so one that is worse by the margin is held with that confidence. An equal one is held by chance
where se is large: with a probability below 1 - power only if

    (z(confidence) + z(power)) se <= margin

Where a loss cannot be ruled out and that fails too, the log cannot tell: the rule is not judged,
and the night rests on the guardrails and the time split. These hold only what is surely worse:
change + z(confidence) se < -margin; segments each at (1 - confidence) / number of segments.

S. Wellek, "Testing statistical hypotheses of equivalence and noninferiority", 2010, chapter 2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from tasks.settings import Settings

Ruling = Literal["pass", "hold", "not judged"]
Comparison = Mapping[str, Any]  # a row of serve.comparisons


@dataclass(frozen=True)
class Facts:
    """What the guardrails ask of a list: a row of queries/release_facts.sql."""

    n_users: int
    n_rows: int
    n_items: int  # that stand in any list
    top_item_share: float  # of the users, who have the item that most have

    @property
    def rows_per_user(self) -> float:
        """Mean length of a list."""
        return self.n_rows / max(self.n_users, 1)


@dataclass(frozen=True)
class Verdict:
    """One rule about one release."""

    rule: str
    observed: float | None
    bound: float | None
    verdict: Ruling
    sentence: str


def verdicts(
    settings: Settings,
    facts: Facts,
    served: Facts | None,
    comparisons: Sequence[Comparison],
    *,
    stands_in: bool = False,
) -> list[Verdict]:
    """Every rule about a release; `comparisons` are those of the model whose lists it holds.

    The cold model, where it stands in for one that could not be trained, is narrow by nature: its
    width is not judged.
    """
    if served is None:
        return [Verdict("value", None, None, "not judged", "nothing is served to compare it with")]
    found = [*_of_size(settings, facts, served)]
    found += [] if stands_in else _of_width(settings, facts, served)
    value = _of_value(settings, comparisons)
    found.append(value)
    if value.verdict == "not judged" and settings.gate.estimator != "time_split":
        found.append(_of_time_split(settings, comparisons))
    return [*found, *_of_segments(settings, comparisons)]


def _of_size(settings: Settings, facts: Facts, served: Facts) -> Iterator[Verdict]:
    max_shrink = settings.publish.max_shrink
    # Shorter lists are no loss where K was made smaller.
    rows_served = min(served.n_rows, served.n_users * settings.publish.k)
    for rule, new, old in (
        ("users", facts.n_users, served.n_users),
        ("rows", facts.n_rows, rows_served),
    ):
        least = (1 - max_shrink) * old
        is_held = new < least
        said = f": more than {max_shrink:.0%} went missing" if is_held else ""
        yield Verdict(rule, new, least, _ruling(is_held), f"{new:,} {rule} against {old:,}{said}")


def _of_width(settings: Settings, facts: Facts, served: Facts) -> Iterator[Verdict]:
    gate = settings.gate
    longer = facts.rows_per_user / max(served.rows_per_user, 1e-9)  # K may have changed
    least = (1 - gate.max_coverage_loss) * served.n_items * min(longer, 1.0)
    is_held = facts.n_items < least
    said = f": more than {gate.max_coverage_loss:.0%} went missing" if is_held else ""
    sentence = f"{facts.n_items:,} items are listed against {served.n_items:,}{said}"
    yield Verdict("coverage", facts.n_items, least, _ruling(is_held), sentence)
    most = served.top_item_share * max(longer, 1.0) + gate.max_top_item_rise
    is_held = facts.top_item_share > most
    said = f": it rose by more than {gate.max_top_item_rise:.0%}" if is_held else ""
    sentence = (
        f"{facts.top_item_share:.0%} of the users have the top item "
        f"against {served.top_item_share:.0%}{said}"
    )
    yield Verdict("top item", facts.top_item_share, most, _ruling(is_held), sentence)


def _of_value(settings: Settings, comparisons: Sequence[Comparison]) -> Verdict:
    gate = settings.gate
    row = _overall(comparisons, gate.estimator)
    if row is None:
        why = "no lists, or no impressions with a logged probability and a reward, to compare by"
        return Verdict("value", None, -gate.margin, "not judged", f"too little data: {why}")
    if row["change"] is None or row["se"] is None or row["verdict"] == "no overlap":
        return Verdict("value", None, -gate.margin, "not judged", f"too little data: {_lack(row)}")
    z, z_power = _z(gate.confidence), _z(gate.power)
    bound, said = row["change"] - z * row["se"], _said(row)
    if bound >= -gate.margin:
        return Verdict("value", bound, -gate.margin, "pass", said)
    surely = _surely("value", row, gate.margin, 1 - gate.confidence)
    if surely.verdict == "hold":
        return surely
    if (z + z_power) * row["se"] > gate.margin:
        why = f"{said}; equal lists would be held too often at a margin of {gate.margin:.0%}"
        return Verdict("value", bound, -gate.margin, "not judged", f"too little data: {why}")
    sentence = f"{said}: a loss of {gate.margin:.0%} or more cannot be ruled out"
    return Verdict("value", bound, -gate.margin, "hold", sentence)


def _of_time_split(settings: Settings, comparisons: Sequence[Comparison]) -> Verdict:
    row = _overall(comparisons, "time_split")
    if row is not None and row["change"] is None and row["verdict"] != "no overlap":
        return Verdict("time split", None, None, "not judged", _lack(row))
    if row is None or row["verdict"] == "no overlap":
        sentence = "too few users with something to find after the cut"
        return Verdict("time split", None, None, "not judged", sentence)
    return _surely("time split", row, settings.gate.margin, 1 - settings.gate.confidence)


def _of_segments(settings: Settings, comparisons: Sequence[Comparison]) -> Iterator[Verdict]:
    gate = settings.gate
    rows = [
        row
        for row in comparisons
        if row["segment_kind"] != "all"
        and row["estimator"] == gate.estimator
        and row["change"] is not None
    ]
    for row in rows:
        error = (1 - gate.confidence) / len(rows)
        rule = f"{row['segment_kind'].replace('_', ' ')} {row['segment']}"
        yield _surely(rule, row, gate.max_segment_loss, error)


def _surely(rule: str, row: Comparison, most: float, error: float) -> Verdict:
    """Held only where the loss is surely larger than `most`: by chance with probability `error`."""
    if row["se"] is None:
        return Verdict(rule, None, -most, "not judged", "one user has no spread")
    bound = row["change"] - _z(error) * row["se"]
    is_held = bound < -most
    sentence = _said(row) + (f": surely a loss of more than {most:.0%}" if is_held else "")
    return Verdict(rule, bound, -most, _ruling(is_held), sentence)


def _overall(comparisons: Sequence[Comparison], estimator: str) -> Comparison | None:
    return next(
        (
            row
            for row in comparisons
            if row["segment_kind"] == "all" and row["estimator"] == estimator
        ),
        None,
    )


def _lack(row: Comparison) -> str:
    """Why a comparison has no change or is not counted."""
    if row["change"] is None and row["verdict"] != "no overlap":
        return "what is served earns nothing there, and of nothing no share can be lost"
    return f"{row['ess']:,.0f} effective slots of {row['n_users']:,} users"


def _said(row: Comparison) -> str:
    what = "NDCG" if row["reward"] == "ndcg" else f"{row['reward']}s per slot"
    low, high = row["lower"], row["upper"]
    return f"{what} {row['change']:+.1%} ({low:+.1%} to {high:+.1%}) against what is served"


def _ruling(is_held: bool) -> Ruling:
    return "hold" if is_held else "pass"


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)
