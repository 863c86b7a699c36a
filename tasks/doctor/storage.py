"""The lake: whether it can be written as nights write it, and what lies in it.

What is tried is tried with the lake's own verbs, in a lake of its own in a hidden folder of the
same file system, which goes again.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from expectations.catalogue import stored
from tasks.doctor.findings import Case, Finding, fine, warning, wrong
from tasks.errors import ConflictError, NightrankError
from tasks.lake import opened
from tasks.lake.session import session
from tasks.lake.tables import ABSENT, Lake, Pinned
from tasks.lake.warehouse import current_pointer
from tasks.places import Place, StorePath, entries, size, try_store
from tasks.scratch import left_by_killed, probing
from tasks.serve.publications import history, served
from tasks.shop import refuse_unfit_lake

SKEW = 60.0  # seconds that storage's clock may be off
SPARE = 3  # nights that there should be room for
LOOKED_AT = 10  # nights whose needs are looked at
PROBED = "ops.nights"  # the table whose schema the trial has
_DERIVED = ("features", "train")  # layers that a night makes anew


def folder(case: Case) -> Iterator[Finding]:
    """Its path can be a lake's, and a file there can be written, renamed and kept."""
    root = case.settings.paths.lake
    refuse_unfit_lake(root)
    if isinstance(root, StorePath):
        yield from store(root)
        return
    try:
        skew = _write_and_rename(_there(root))
    except OSError as error:
        yield wrong(
            f"{root} cannot be written: {error.strerror or error}",
            f"paths.lake: make {root} a folder that its user may write (chmod u+rwx), on a file "
            "system that is mounted to be written; or name another: --lake",
        )
        return
    yield _of_clock(skew, "the file system", "the file server") or fine(
        f"{root} can be written, synced, renamed over and read"
    )


def store(root: StorePath) -> Iterator[Finding]:
    """Keys, bucket, writing, the conditional put, removing, and the store's clock."""
    skew = try_store(root)
    yield _of_clock(skew, root.reached.address, "the store") or fine(
        f"{root} can be listed, written, read and removed, and put to conditionally"
    )


def _of_clock(skew: float, whose: str, other: str) -> Finding | None:
    """A warning where storage's clock is too far from ours."""
    if abs(skew) <= SKEW:
        return None
    way = "ahead" if skew > 0 else "behind"
    return warning(
        f"the clock of {whose} is {abs(skew):,.0f} s {way}",
        f"set the clock of this machine and of {other} by NTP",
    )


def _there(root: Path) -> Path:
    """The lake's folder, or the nearest that there is above where it will be."""
    return next(each for each in (root.absolute(), *root.absolute().parents) if each.exists())


def _write_and_rename(where: Path) -> float:
    """Do what every write of a night rests on; returns by how much its clock is ahead, seconds."""
    with probing(where) as probe:
        target, beside = probe / "target", probe / "beside"
        target.write_bytes(b"old")
        began = time.time()
        with beside.open("wb") as handle:
            handle.write(b"new")
            handle.flush()
            os.fsync(handle.fileno())
        skew = beside.stat().st_mtime - began
        with target.open("rb") as open_reader:
            beside.replace(target)
            seen = open_reader.read(), target.read_bytes()
        if seen != (b"old", b"new"):
            raise OSError("a rename did not replace the file, or changed it under its reader")
    return skew


def commits(case: Case) -> Iterator[Finding]:
    """Of two writers of one version, the second is refused."""
    root = case.settings.paths.lake
    try:
        with _probing(root) as probe:
            is_refused = _second_is_refused(Lake(probe))
    except (OSError, NightrankError) as error:
        what = error.what if isinstance(error, NightrankError) else str(error)
        fix = (
            "paths.lake: lay the lake on a local disk, or on a file system with exclusive creation"
        )
        yield wrong(f"no Delta table could be written: {what}", fix)
        return
    if is_refused:
        yield fine("a Delta table commits, and the second of two writers is refused")
    else:
        yield wrong(
            "two writers of one version both succeeded: one of them would be lost",
            "paths.lake: lay the lake on a local disk, or on a file system with exclusive creation",
        )


@contextmanager
def _probing(root: Place) -> Iterator[Place]:
    if not isinstance(root, StorePath):
        with probing(_there(root)) as folder:
            yield folder
        return
    place = root / f".probing-{uuid.uuid4().hex}"
    try:
        yield place
    finally:
        place.remove()


def _second_is_refused(lake: Lake) -> bool:
    day, now = date(1970, 1, 1), datetime.now(UTC)
    row = {"run_id": "doctor", "outcome": "failed", "reason": "a trial", "ds": day}
    row |= {"started_at": now, "ended_at": now}
    rows = pa.Table.from_pylist([row], schema=lake.schema(PROBED))
    pinned = lake.pin(PROBED)
    lake.replace(pinned, {"ds": day}, rows)
    try:
        lake.replace(pinned, {"ds": day}, rows)
    except ConflictError:
        return True
    return False


def room(case: Case) -> Iterator[Finding]:
    """There is disk for some more nights such as the last, in the lake and for what spills."""
    lake = case.shop.lake
    need = _largest_night(lake)
    said = f"the largest of the last nights wrote {_size(need)}"
    if not need:
        need = size(case.shop.landing)[0]
        said = f"{_size(need)} have landed"
    places = [("what spills", Path(os.environ.get("TMPDIR") or "/tmp"), "TMPDIR")]
    if isinstance(lake.root, Path):  # a store does not tell
        places.insert(0, ("the lake", _there(lake.root), "paths.lake"))
    for name, where, key in places:
        free = shutil.disk_usage(where).free
        tell = wrong if free < need else warning
        if free < SPARE * need:
            yield tell(
                f"{_size(free)} are free for {name}, and {said}",
                f"make room under {where}, or let {key} name a larger disk",
            )
        else:
            yield fine(f"{_size(free)} are free for {name}; {said}")


def _largest_night(lake: Lake) -> int:
    """Bytes, not compressed, that the largest of the last nights wrote."""
    pinned = lake.pin("ops.stages")
    sums: dict[str, int] = {}
    for day in sorted(pinned.days())[-LOOKED_AT:]:
        for row in lake.rows(pinned, {"ds": day}).to_pylist():
            sums[row["run_id"]] = sums.get(row["run_id"], 0) + row["n_bytes"]
    return max(sums.values(), default=0)


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}" if unit == "bytes" else f"{n_bytes:,.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"


def tables(case: Case) -> Iterator[Finding]:
    """Each table can be read, has the columns of the catalogue, and all of its files."""
    lake, n_tables = case.shop.lake, 0
    for name in stored():
        try:
            pinned = lake.pin(name)
        except NightrankError as error:
            yield wrong(error.what, f"{lake.path(name)}: {error.fix}")
            continue
        if pinned.version != ABSENT:
            n_tables += 1
            yield from _table(lake, pinned)
    yield fine(f"{n_tables} tables of {len(stored())} are there")


def _table(lake: Lake, pinned: Pinned) -> Iterator[Finding]:
    name, place = pinned.table.name, lake.path(pinned.table.name)
    mend = (
        f"{'rm -r' if isinstance(place, Path) else 'remove'} {place}: the next night makes it anew"
        if pinned.table.layer in _DERIVED
        else f"restore {place} from a copy; or make a new lake from all landed files: --lake"
    )
    held = {field.name for field in opened.table(place).schema().fields}
    differ = sorted(held ^ set(pinned.table.column_names))
    if differ:
        yield wrong(f"{name} has other columns than this version: {', '.join(differ)}", mend)
    there = {f"{place}/{each.path}" for each in entries(place, "**/*.parquet")}
    lost = [path for path in pinned.files() if path not in there]
    if lost:
        yield wrong(f"{name} lost {len(lost):,} of its {len(pinned.files()):,} files", mend)


def what_is_served(case: Case) -> Iterator[Finding]:
    """Readers see the release that was decided on."""
    lake = case.shop.lake
    with session(lake, case.settings.compute) as s:
        serving = served(history(s))
    pointer = current_pointer(lake)
    shown = pointer.read_text() if pointer.exists() else None
    if serving is None and shown is None:
        yield fine("nothing is served yet")
    elif serving is None:
        yield wrong(
            f"readers see {shown}, and no decision about it is left",
            f"restore {lake.path('serve.publications')} from a copy",
        )
    elif shown != serving.release_id:
        yield wrong(f"readers see {shown}, decided was {serving.release_id}", "nightrank run")
    else:
        yield fine(f"readers see {shown}")


def clocks(case: Case) -> Iterator[Finding]:
    """No decision was made later than now."""
    with session(case.shop.lake, case.settings.compute) as s:
        decisions = history(s)
    ahead = max((each.decided_at for each in decisions), default=None)
    now = datetime.now(UTC)
    if ahead is not None and (ahead - now).total_seconds() > SKEW:
        yield wrong(
            f"the last decision is of {ahead:%Y-%m-%d %H:%M} UTC and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M}",
            "set the clock of this machine by NTP, such as timedatectl set-ntp true",
        )
    else:
        yield fine(f"it is {now:%Y-%m-%d %H:%M} UTC, after all decisions")


def leftovers(case: Case) -> Iterator[Finding]:
    """Nothing lies about that a killed writer left."""
    root = case.shop.lake.root.absolute()
    if isinstance(root, StorePath):
        yield from _left_in_store(root)
        return
    found = sorted(left_by_killed(root)) if root.exists() else []
    for each in found[:3]:
        what = "folder" if each.is_dir() else "file"
        yield warning(
            f"a killed run left the {what} {each.relative_to(root)}",
            f"rm -r {each}: nothing reads it, and the next night that writes there removes it too",
        )
    if not found:
        yield fine("killed runs left nothing behind")


def _left_in_store(root: StorePath) -> Iterator[Finding]:
    """Trials of a doctor that was killed; all else is put whole or is not there."""
    found = sorted({each.path.split("/")[0] for each in root.listed(".probing-")})
    for each in found[:3]:
        yield warning(f"a killed trial left {root}/{each}", f"remove {root}/{each}")
    if not found:
        yield fine("killed runs left nothing behind")


CHECKS = (folder, commits, room, tables, what_is_served, clocks, leftovers)
