"""What is served: the history of decisions, and the list that shows the last of them."""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.errors import StorageError
from tasks.lake.connection import reading
from tasks.lake.leases import Lease, Terms, ensure, leased
from tasks.lake.literals import literal
from tasks.lake.session import Session, session
from tasks.lake.tables import Lake, Pinned, scan
from tasks.lake.warehouse import NO_ROWS, SLOTS, current_folder, current_pointer
from tasks.places import Place, StorePath, known
from tasks.progress import watcher
from tasks.scratch import replacing
from tasks.settings import Compute
from tasks.stores import told_again

SERVING = ("publish", "force", "rollback")
BY_BACKFILL = "backfill "  # how `who` begins where a plan of a backfill decided
DECIDING = "what is served"  # the lease of who decides about it
SETTLE_SECONDS = 1.0  # in which a query has opened the slots and read the pointer
STORE_SETTLE_SECONDS = 2.0  # the same where it opens them over a network
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


def is_of_its_date(decision: Publication) -> bool:
    """Whether it made a release that of its date: served, or judged and swapped in by a backfill.

    A night of an old date that is run again is not judged: its release is kept aside.
    """
    is_swapped_in = decision.action == "backfill" and decision.who.startswith(BY_BACKFILL)
    return decision.action in SERVING or is_swapped_in


def serving(lake: Lake, compute: Compute) -> Publication | None:
    """What is served now."""
    with session(lake, compute) as s:
        return served(history(s))


def list_is_whole(lake: Lake, publication: Publication) -> bool:
    """Whether all rows of a release's list are still there."""
    pinned = lake.pin("serve.recommendations")
    files = pinned.files(lambda found: found["release_id"] == publication.release_id)
    try:
        with reading() as con:
            found = con.sql(f"SELECT count(*) FROM ({scan(pinned.table, files)})").fetchall()
    except duckdb.Error as error:
        _refuse_silence(error)
        return False  # a file is away or damaged
    return bool(found[0][0] == publication.n_rows > 0)


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


@contextmanager
def deciding(
    lake: Lake, what: str, also: Callable[[], None] = lambda: None
) -> Iterator[Callable[[], None]]:
    """Alone decide what is served, and show it; others wait.

    Two at once could move what is served backwards, or write into the slot that the other is about
    to show. Yields what to call before each step that others would see: it raises LeaseError where
    this process fell silent for so long that another may have begun. It asks `also` too, which is
    asked at once: whoever waited may have lost what it is to decide about.
    """
    run_id = uuid.uuid4().hex

    def still_ours() -> None:
        ensure(lake, DECIDING, run_id)
        also()

    with leased(lake, DECIDING, run_id, Terms(what, on_wait=_tell)):
        also()
        yield still_ours


def _tell(living: list[Lease]) -> None:
    watcher().said(f"waiting for {'; '.join(map(str, living))}")


def reconcile(lake: Lake, compute: Compute) -> Publication | None:
    """Make the current list show what the history says is served; returns that publication."""
    with session(lake, compute) as s:
        serving = served(history(s))
    if serving is None or _shown(lake) == serving.release_id:
        return serving
    with deciding(lake, "showing what is served") as still_ours:
        return show(lake, compute, still_ours)


def show(lake: Lake, compute: Compute, still_ours: Callable[[], None]) -> Publication | None:
    """The same, for who is deciding."""
    with session(lake, compute) as s:
        serving = served(history(s))
        if serving is not None and _shown(lake) != serving.release_id:
            make_ready(s, serving, still_ours)
            still_ours()
            point(lake, serving.release_id)
    return serving


def _shown(lake: Lake) -> str | None:
    """The release that readers see; None where there is none, or its list is damaged."""
    pointer = current_pointer(lake)
    release = pointer.read_text() if pointer.exists() else None
    return release if release in [_release_in(lake, slot) for slot in SLOTS] else None


def _release_in(lake: Lake, slot: str) -> str | None:
    """The release whose list a slot holds; None where it holds none, or is damaged."""
    try:
        return _read_release(lake, slot)
    except duckdb.Error as error:
        _refuse_silence(error)
        return None  # damaged: it is made anew from the release


def _is_damaged(lake: Lake, slot: str) -> bool:
    try:
        _read_release(lake, slot)
    except duckdb.Error as error:
        _refuse_silence(error)
        return True
    return False


def _refuse_silence(error: duckdb.Error) -> None:
    """Raise what a store told where it gave no file: the file is not damaged for that."""
    if (told := told_again(error)) is not None:
        raise told from None


def _read_release(lake: Lake, slot: str) -> str | None:
    path = current_folder(lake) / slot
    query = f"SELECT any_value(release_id) FROM read_parquet({literal(str(path))})"
    with reading() as con:
        found = con.sql(query).fetchall()
    return None if found[0][0] is None else str(found[0][0])


def make_ready(s: Session, publication: Publication, still_ours: Callable[[], None]) -> None:
    """Have the release's list, sorted by user, in the slot that is not shown.

    To show it then is one rename. A slot that holds it since it was served last is left as it is,
    and so is all where it is shown already.
    """
    pinned = s.lake.pin("serve.recommendations")
    release = publication.release_id
    files = pinned.files(lambda found: found["release_id"] == release)
    if not files:
        raise StorageError(
            f"the served release {release} is not in serve.recommendations",
            where=str(s.lake.path("serve.recommendations")),
            unchanged="the current list stays as it is",
            fix="restore the folder, or publish another night",
        )
    current_folder(s.lake).mkdir(parents=True, exist_ok=True)
    for name in (NO_ROWS, *SLOTS):
        if not (current_folder(s.lake) / name).exists():
            _write_list(s, scan(pinned.table, []), name)
    shown, held = _shown(s.lake), {name: _release_in(s.lake, name) for name in SLOTS}
    if shown == release:
        return
    # never a list in both slots: readers would see it twice
    slot = next((name for name in SLOTS if held[name] == release), None)
    slot = slot or next(name for name in SLOTS if shown is None or held[name] != shown)
    if held[slot] != release or not _is_newer(current_folder(s.lake) / slot, files):
        if shown is not None:
            _settle(current_pointer(s.lake))
        still_ours()
        s.in_half(lambda: _write_list(s, scan(pinned.table, files), slot))
    for name in SLOTS:  # readers open both
        if name != slot and _is_damaged(s.lake, name):
            _write_list(s, scan(pinned.table, []), name)
    if shown is not None:
        _settle(current_folder(s.lake) / slot)


def _is_newer(slot: Place, files: list[str]) -> bool:
    """Whether a slot was written after the files of its release: nothing was erased since."""
    made_of: list[Place] = [
        known(path) if isinstance(slot, StorePath) else Path(path) for path in files
    ]
    return slot.stat().st_mtime > max(each.stat().st_mtime for each in made_of)


def _settle(changed: Place) -> None:
    """Wait until no query is left that knows what stood here before, and has not read all of it.

    A query that opened a slot before the new list was in it must not see a pointer to it, and one
    that read the pointer must find its slot as it was.
    """
    if isinstance(changed, StorePath):  # its times are whole seconds of another clock
        time.sleep(STORE_SETTLE_SECONDS)
        return
    seen = changed.stat()
    age = time.time() - max(seen.st_mtime, seen.st_ctime)  # a rename changes the latter alone
    if age < SETTLE_SECONDS:
        time.sleep(min(SETTLE_SECONDS, SETTLE_SECONDS - age))


def _write_list(s: Session, select: str, name: str) -> None:
    target = current_folder(s.lake) / name
    with replacing(target) as beside:
        s.con.execute(
            f"COPY (SELECT * FROM ({select}) ORDER BY user_id, rank) TO {literal(str(beside))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        )
        _to_disk(beside)


def point(lake: Lake, release: str) -> None:
    """Let readers see a release that is ready."""
    with replacing(current_pointer(lake)) as beside:
        beside.write_text(release)
        _to_disk(beside)


def _to_disk(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def time_after(times: Iterable[datetime]) -> datetime:
    """The time of the next decision: after all before it, though the clock was set back since."""
    last = max(times, default=None)
    time_now = datetime.now(UTC)
    return time_now if last is None else max(time_now, last + timedelta(microseconds=1))
