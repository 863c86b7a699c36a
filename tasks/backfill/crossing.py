"""What crosses over from a plan's folder into the lake: a release, and how it compares."""

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

import sql
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.lake.tables import Lake
from tasks.records import TableVersion
from tasks.serve.decisions import NO_ROWS
from tasks.serve.gate import Facts
from tasks.settings import Compute
from tasks.shop import Shop

RELEASE = ("serve.trials", "serve.shortfalls", "serve.recommendations")  # the lists last


def cross_over(
    there: Shop, lake: Lake, ds: date, release: str, names: Sequence[str]
) -> list[TableVersion]:
    """Write the partitions of a release as they are in the plan's folder into the lake."""
    written = []
    with session(there.lake, there.settings.compute) as s:
        for name in names:
            rows = _of_release(s, there.lake, name, [release])

            def stream(_: object, rows: str = rows) -> pa.RecordBatchReader:
                return s.stream(rows)

            written.append(lake.rewrite(name, {"ds": ds, "release_id": release}, stream))
    return written


def _of_release(s: Session, lake: Lake, name: str, releases: Sequence[str]) -> str:
    """Make the table a view over some releases; returns the SELECT of its rows as they lie."""
    pinned = lake.pin(name)
    select = pinned.select(pinned.files(lambda found: found["release_id"] in releases))
    s.view(name, select)
    return select


def facts_of(lake: Lake, compute: Compute, release: str) -> Facts:
    """How long, wide and concentrated the lists of a release are."""
    columns = ", ".join(Facts.__dataclass_fields__)
    with session(lake, compute) as s:
        _of_release(s, lake, "serve.recommendations", [release])
        found = s.rows(f"SELECT {columns} FROM ({sql.read('queries/release_facts')})")
    return Facts(*found[0]) if found else NO_ROWS


def overlap_of(lake: Lake, compute: Compute, release: str, other: str) -> float | None:
    """Mean share of a user's list that stands in that of another release; None: no common user."""
    with session(lake, compute) as s:
        _of_release(s, lake, "serve.recommendations", [release, other])
        query = sql.read("queries/release_overlap")
        found: float | None = s.value(render(query, {"release_id": release, "other": other}))
    return found
