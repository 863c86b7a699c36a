"""What goes wrong between the shop and the landing folder, one kind at most per row."""

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import polars as pl

from tasks.sample.settings import DirtRates
from tasks.sample.visits import DAY_MS

Required = tuple[str, ...]  # fields that a row cannot do without

CLEAN = "clean"
KINDS = tuple(asdict(DirtRates()))  # in the order of the cumulated rates


def soiled(
    rows: pl.DataFrame, required: Required, rates: DirtRates, n_items: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Rows of a dataset as lines with their delivery: (line, kind, deliver_ms, occurred_ms).

    A duplicate is one line more beside the first; a re-sent line comes again 1 to 3 days later.
    `kind` names what the line is counted as; the first copy of either stays clean.
    """
    kind = _kinds(rows.height, rates, rng)
    later = pl.col("ts") + pl.Series(rng.integers(DAY_MS, 3 * DAY_MS, rows.height))
    rows = rows.with_columns(
        kind=kind,
        occurred_ms="ts",
        deliver_ms=pl.when(kind == "late").then(later).otherwise("ts"),
        again_ms=pl.when(kind == "resent").then(later).otherwise("ts"),
    )
    rows = _wrong_values(rows, n_items, rng)
    facts = ("kind", "occurred_ms", "deliver_ms", "again_ms")
    lines = rows.select(*facts, line=pl.struct(pl.exclude(facts)).struct.json_encode())
    lines = _broken_lines(lines, required, rng)
    again = lines.filter(pl.col("kind").is_in(["duplicate", "resent"]))
    again = again.with_columns(deliver_ms="again_ms")
    first = lines.with_columns(kind=pl.col("kind").replace(["duplicate", "resent"], CLEAN))
    return pl.concat([first, again]).sort("deliver_ms", maintain_order=True)


def _kinds(n: int, rates: DirtRates, rng: np.random.Generator) -> pl.Series:
    upto = np.cumsum(list(asdict(rates).values()))
    nth = np.searchsorted(upto, rng.random(n), side="right")
    return pl.Series("kind", [*KINDS, CLEAN]).gather(nth)


def _wrong_values(rows: pl.DataFrame, n_items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Items that are in no catalogue, and times 2 to 30 days after the delivery."""
    stranger = pl.Series(n_items + rng.integers(1, 1000, rows.height))
    ahead = pl.Series(rng.integers(2 * DAY_MS, 30 * DAY_MS, rows.height))
    return rows.with_columns(
        item_id=pl.when(pl.col("kind") == "unknown_item")
        .then(pl.format("i{}", stranger.cast(pl.String).str.zfill(5)))
        .otherwise("item_id"),
        ts=pl.when(pl.col("kind") == "future").then(pl.col("ts") + ahead).otherwise("ts"),
    )


def _broken_lines(
    lines: pl.DataFrame, required: Required, rng: np.random.Generator
) -> pl.DataFrame:
    nth = lines.select(pl.col("kind").is_in(list(BREAKERS)).arg_true()).to_series()
    broken = lines[nth].select("line", "kind").rows()
    text = [BREAKERS[kind](line, required, rng) for line, kind in broken]
    return lines.with_columns(lines["line"].scatter(nth, text))


def _truncated(line: str, required: Required, rng: np.random.Generator) -> str:
    # the id at its head stays, so that no two broken lines are the same
    return line[: rng.integers(len(line) // 2, len(line))]


def _with_wrong_type(line: str, required: Required, rng: np.random.Generator) -> str:
    record = json.loads(line)
    wrong = {
        "ts": "yesterday",
        "user_id": {"id": record["user_id"]},
        "item_id": [record["item_id"]],
    }
    name = ("ts", "user_id", "item_id")[rng.integers(3)]
    return _compact(record | {name: wrong[name]})


def _with_missing_field(line: str, required: Required, rng: np.random.Generator) -> str:
    record = json.loads(line)
    del record[required[rng.integers(len(required))]]
    return _compact(record)


def _compact(record: dict[str, object]) -> str:
    return json.dumps(record, separators=(",", ":"))


Breaker = Callable[[str, Required, np.random.Generator], str]
BREAKERS: dict[str, Breaker] = {
    "malformed": _truncated,
    "wrong_type": _with_wrong_type,
    "missing_field": _with_missing_field,
}
