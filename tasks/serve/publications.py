"""What is served: the history of decisions, and the list that shows the last of them."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.errors import StorageError
from tasks.lake.connection import reading
from tasks.lake.literals import literal
from tasks.lake.session import Session, session
from tasks.lake.tables import Lake, Pinned, scan
from tasks.lake.warehouse import NO_ROWS, SLOTS, current_folder, current_pointer
from tasks.scratch import replacing
from tasks.settings import Compute

SERVING = ("publish", "force", "rollback")
# A query that opened the slot before the new list was in it must not see the new pointer.
SETTLE_SECONDS = 1.0
ROW_GROUP = 20_480  # rows; a look-up of one user reads one group


@dataclass(frozen=True)
class Publication:
    """One row of serve.publications."""

    release_id: str
    ds: date
    action: str
    reason: str
    who: str
    decided_at: datetime
    model: str
    n_users: int
    n_rows: int
    run_id: str


def history(s: Session) -> list[Publication]:
    """Every decision, oldest first."""
    s.read("serve.publications", newest=True)
    columns = ", ".join(Publication.__dataclass_fields__)
    rows = s.rows(f"SELECT {columns} FROM serve.publications ORDER BY decided_at, release_id")
    return [Publication(*row) for row in rows]


def served(decisions: list[Publication]) -> Publication | None:
    """The release that is served: the last publish, force or rollback."""
    return next((each for each in reversed(decisions) if each.action in SERVING), None)


def serving(lake: Lake, compute: Compute) -> Publication | None:
    """What is served now."""
    with session(lake, compute) as s:
        return served(history(s))


def note(lake: Lake, decision: Publication) -> None:
    """Add a decision to the history."""
    lake.append("serve.publications", {"ds": decision.ds}, [vars(decision)])


def note_once(lake: Lake, before: Publication | None, decision: Publication) -> Publication:
    """Add a decision about a release after `before`, its last; returns what stands then.

    Two runs of one night at once decide about the same release: the second keeps to the first.
    """
    stands = decision

    def with_decision(pinned: Pinned) -> pa.Table:
        nonlocal stands
        old = lake.rows(pinned, {"ds": decision.ds})
        same = [row for row in old.to_pylist() if row["release_id"] == decision.release_id]
        last = max(same, key=lambda row: row["decided_at"], default=None)
        if last is not None and (before is None or last["decided_at"] != before.decided_at):
            stands = Publication(**last)
            return old
        new = pa.Table.from_pylist([vars(decision)], schema=old.schema)
        return pa.concat_tables([old, new])

    lake.rewrite("serve.publications", {"ds": decision.ds}, with_decision)
    return stands


def reconcile(lake: Lake, compute: Compute) -> Publication | None:
    """Make the current list show what the history says is served; returns that publication."""
    with session(lake, compute) as s:
        serving = served(history(s))
        if serving is not None and _shown(lake) != serving.release_id:
            _show(s, serving)
    return serving


def _shown(lake: Lake) -> str | None:
    """The release that readers see; None where there is none, or its list is damaged."""
    pointer = current_pointer(lake)
    release = pointer.read_text() if pointer.exists() else None
    return release if release in [_release_in(lake, slot) for slot in SLOTS] else None


def _release_in(lake: Lake, slot: str) -> str | None:
    """The release whose list a slot holds; None where it holds none, or is damaged."""
    path = current_folder(lake) / slot
    query = f"SELECT any_value(release_id) FROM read_parquet({literal(str(path))})"
    try:
        with reading() as con:
            found = con.sql(query).fetchall()
    except duckdb.Error:
        return None  # damaged: it is made anew from the release
    return None if found[0][0] is None else str(found[0][0])


def _show(s: Session, serving: Publication) -> None:
    """Write the release's list, sorted by user, into the slot that is not shown; then show it."""
    pinned = s.lake.pin("serve.recommendations")
    files = pinned.files(lambda found: found["release_id"] == serving.release_id)
    if not files:
        raise StorageError(
            f"the served release {serving.release_id} is not in serve.recommendations",
            where=str(s.lake.path("serve.recommendations")),
            unchanged="the current list stays as it is",
            fix="restore the folder, or publish another night",
        )
    current_folder(s.lake).mkdir(parents=True, exist_ok=True)
    shown = _shown(s.lake)
    for name in (NO_ROWS, *SLOTS):
        if not (current_folder(s.lake) / name).exists():
            _write_list(s, scan(pinned.table, []), name)
    slot = next(name for name in SLOTS if shown is None or _release_in(s.lake, name) != shown)
    s.in_half(lambda: _write_list(s, scan(pinned.table, files), slot))
    if shown is not None:
        time.sleep(SETTLE_SECONDS)
    _point(s.lake, serving.release_id)


def _write_list(s: Session, select: str, name: str) -> None:
    target = current_folder(s.lake) / name
    with replacing(target) as beside:
        s.con.execute(
            f"COPY (SELECT * FROM ({select}) ORDER BY user_id, rank) TO {literal(str(beside))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        )
        _to_disk(beside)


def _point(lake: Lake, release: str) -> None:
    with replacing(current_pointer(lake)) as beside:
        beside.write_text(release)
        _to_disk(beside)


def _to_disk(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def time_after(decisions: list[Publication]) -> datetime:
    """The time of the next decision: after all before it, though the clock was set back since."""
    last = max((each.decided_at for each in decisions), default=None)
    time_now = datetime.now(UTC)
    return time_now if last is None else max(time_now, last + timedelta(microseconds=1))
