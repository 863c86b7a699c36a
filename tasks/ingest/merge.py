"""Staged records into the clean table: the dates that they touch, a few at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import sql
from tasks.ingest.deliveries import SNAPSHOTS, Delivery
from tasks.lake.literals import literal
from tasks.lake.session import Session
from tasks.lake.tables import Pinned
from tasks.records import TableVersion

GROUP_ROWS = 2_000_000  # rows merged in one go; bounds memory, and few commits are made


def write_clean(
    s: Session, dataset: str, fresh: Sequence[Delivery], *, also: Iterable[date] = ()
) -> tuple[list[date], list[TableVersion]]:
    """Replace the dates that `staged` or an earlier reading of the files touches, and `also`.

    Returns the dates and what was written. A conflict reads the table again.
    """
    name = f"clean.{dataset}"
    n_new = dict(s.rows("SELECT ds, count(*) FROM staged WHERE misfit IS NULL GROUP BY ds"))
    touched = sorted({*n_new, *days_before(s, name, fresh), *also})
    n_rows = _rows_by_day(s.lake.pin(name))
    for day, n in n_new.items():
        n_rows[day] = n_rows.get(day, 0) + n
    groups = [touched] if dataset in SNAPSHOTS and touched else list(_groups(touched, n_rows))
    return touched, [_write_group(s, name, days) for days in groups]


def _write_group(s: Session, name: str, days: Sequence[date]) -> TableVersion:
    s.view("landed", f"SELECT * FROM staged WHERE ds IN ({', '.join(map(literal, days))})")

    def merged(pinned: Pinned) -> Any:
        s.read_pinned(pinned, set(days))
        return s.stream(sql.read_table(name))

    return s.lake.rewrite(name, {"ds": days}, merged)


def _groups(days: Sequence[date], n_rows: Mapping[date, int]) -> Iterator[list[date]]:
    """Dates in order, together up to GROUP_ROWS; a date is never divided."""
    group: list[date] = []
    size = 0
    for day in days:
        n = n_rows.get(day, 0)
        if group and size + n > GROUP_ROWS:
            yield group
            group, size = [], 0
        group.append(day)
        size += n
    if group:
        yield group


def _rows_by_day(pinned: Pinned) -> dict[date, int]:
    """Rows of each date, from the table's log alone."""
    actions = pinned.actions
    found: dict[date, int] = {}
    days = actions.column("partition.ds").to_pylist()
    for day, n in zip(days, actions.column("num_records").to_pylist(), strict=True):
        found[day] = found.get(day, 0) + int(n or 0)
    return found


def days_before(s: Session, name: str, fresh: Sequence[Delivery]) -> set[date]:
    """The dates that hold rows of these files from an earlier reading."""
    s.read("ops.files", newest=True)
    spans = s.rows(
        "SELECT first_ds, last_ds FROM ops.files "
        "WHERE first_ds IS NOT NULL AND list_contains($file_ids, file_id)",
        {"file_ids": [delivery.file_id for delivery in fresh]},
    )
    held = s.lake.pin(name).days() if spans else {}
    return {day for day in held for first, last in spans if first <= day <= last}
