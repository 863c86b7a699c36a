"""Housekeeping: what is old and in nobody's history goes, files are put together, logs shortened.

Safe beside nights and readers, safe to run twice, safe to kill: each step is one commit, or the
removal of files that no table has needed for `housekeeping.keep_hours`, nor a plan of a backfill
that goes on or may be resumed (PLANS_KEPT). The file of views is
rebuilt first, so whoever opens it reads files that stay; a connection that was open for longer than
that must open it again.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from expectations.catalogue import catalogue, stored
from tasks.backfill import ledger
from tasks.backfill.apart import Pins
from tasks.backfill.driving import sweep
from tasks.backfill.plan import plans_folder
from tasks.estimate.propensities import steps
from tasks.lake.session import session
from tasks.lake.tables import Lake, Partition, Pinned, partition_of
from tasks.lake.upkeep import keep_up
from tasks.lake.warehouse import MODEL_MARK, checkpoints_path, models_path, reports_path
from tasks.night import refresh
from tasks.places import Entry, Place, StorePath, entries, remove, size
from tasks.serve.publications import history, served
from tasks.shop import Shop
from tasks.stores import StoreError

OF_MODELS = ("serve.candidates", "serve.causal_edges")  # lists and reasons are made from them
PLANS_KEPT = timedelta(days=30)  # since it was planned; the logs of tables keep versions as long
LEFT_BY_KILLED = ("*/.training-*", "*/.making-*")


@dataclass(frozen=True)
class Chore:
    """What was done to one table or folder; bytes on disk."""

    what: str
    did: str
    bytes_before: int
    bytes_after: int


def housekeep(shop: Shop, now: datetime | None = None) -> Iterator[Chore]:
    """Do every chore, one after another, and tell each; those that found nothing to do too.

    `now` decides which files are old enough; which dates are, the newest date of the data does.
    Raises StorageError where the lake cannot be read or written.
    """
    now, lake = now or datetime.now(UTC), shop.lake
    keep = timedelta(hours=shop.settings.housekeeping.keep_hours)
    refresh(shop)
    yield _sweep_plans(lake)
    yield from _drop_old(shop, now, keep)
    yield _drop_pages(shop)
    yield _drop_left(lake, now, keep)
    yield from _drop_uploads(lake, now - keep)
    inputs = _inputs_of_increments(shop)
    pinned = _pinned(lake, now)
    for name in stored():
        versions = pinned.get(name, ())
        done = keep_up(lake, name, keep, compacts=name not in inputs, pinned=versions)
        did = f"{done.n_compacted} files fewer, {done.n_removed} removed"
        yield Chore(name, did, done.bytes_before, done.bytes_after)
    refresh(shop)


def _pinned(lake: Lake, now: datetime) -> Mapping[str, set[int]]:
    """Versions of tables that plans of backfills read which have not ended."""
    found: dict[str, set[int]] = {}
    for nights in ledger.by_plan(lake).values():
        is_over = all(each.has_ended for each in nights)
        if not is_over and nights[0].planned_at > now - PLANS_KEPT:
            for name, version in Pins.read(nights[0].pins).versions:
                found.setdefault(name, set()).add(version)
    return found


def _inputs_of_increments(shop: Shop) -> set[str]:
    """Tables of which others are made by the day. Their partitions are written whole, as one file.

    What a day was made from is told by its files (ops.builds): put together anew, they would make
    every day after them stale for nothing.
    """
    made_by = steps(shop)
    found: set[str] = set()
    for name, table in catalogue().items():
        if table.kind == "increment":
            found |= {*table.reads, *(made_by[name].reads if name in made_by else ())}
    return found


def _sweep_plans(lake: Lake) -> Chore:
    """What dead runs of backfills left: their nights wait again, folders nobody needs go."""
    before = size(plans_folder(lake))[0]
    said = sweep(lake)
    after = size(plans_folder(lake))[0]
    return Chore("plans of backfills", f"{len(said)} put right", before, after)


def _drop_old(shop: Shop, now: datetime, keep: timedelta) -> Iterator[Chore]:
    """What belongs to releases of dates that are older than `housekeeping.release_days`.

    Releases go of which nothing was ever decided: runs that died, or failed. Candidates and edges
    go, and weights, of whichever release: its lists are what is served and compared.
    """
    newest = max(shop.lake.pin("clean.events").days(), default=None)
    if newest is None:
        return
    oldest = newest - timedelta(days=shop.settings.housekeeping.release_days)
    with session(shop.lake, shop.settings.compute) as s:
        decisions = history(s)
        named = {each.release_id for each in decisions}
        s.read("ops.backfills")  # a long plan is judged when all of its nights are made
        named |= {row[0] for row in s.rows("SELECT release_id FROM ops.backfills")}
    for name, table in stored().items():
        if "release_id" in table.partition_by or name in OF_MODELS:
            yield _drop_from(shop.lake, name, oldest, named, now - keep)
    serving = served(decisions)
    yield _drop_weights(shop.lake, oldest, serving.release_id if serving else "", now - keep)


def _drop_from(
    lake: Lake, name: str, oldest: date, named: set[str], written_before: datetime
) -> Chore:
    old = _old_partitions(lake.pin(name), oldest, named, written_before)
    for partition in sorted(old):
        where: Partition = dict(partition)
        lake.rewrite(name, where, lambda _: lake.schema(name).empty_table())
    n_bytes = sum(old.values())
    return Chore(f"{name}: old dates", f"{len(old)} dropped", n_bytes, 0)


def _old_partitions(
    pinned: Pinned, oldest: date, named: set[str], written_before: datetime
) -> Mapping[tuple[tuple[str, str], ...], int]:
    """Bytes of the partitions of dates before `oldest` of no release that is named.

    Those that a run may be writing are left.
    """
    columns = ("path", "size_bytes", "modification_time")
    found: dict[tuple[tuple[str, str], ...], int] = {}
    for path, n_bytes, written_ms in zip(
        *(pinned.actions.column(each).to_pylist() for each in columns), strict=True
    ):
        at = partition_of(path)
        is_old = at["ds"] < str(oldest) and written_ms < written_before.timestamp() * 1000
        if is_old and at.get("release_id") not in named:
            key = tuple(at.items())
            found[key] = found.get(key, 0) + n_bytes
    return found


def _drop_weights(lake: Lake, oldest: date, serving: str, written_before: datetime) -> Chore:
    """Versions of models, but those of nights from `oldest` on, of what is served, and each last.

    The last version of a model is where the next may begin.
    """
    kept = _versions(lake, oldest, serving)
    n_gone, n_bytes = 0, 0
    for path, found in _models(lake):
        if max(each.modified_at for each in found) < written_before and path not in kept:
            n_bytes += sum(each.n_bytes for each in found)
            n_gone += 1
            remove(path)
    return Chore("weights of models", f"{n_gone} versions removed", n_bytes, 0)


def _models(lake: Lake) -> Iterator[tuple[Place, list[Entry]]]:
    """The folders of versions of models, each with its files."""
    models = models_path(lake)
    if not isinstance(models, StorePath):
        for path in models.glob("*/*"):
            if path.is_dir() and not path.name.startswith("."):
                made_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield path, [Entry("", size(path)[0], made_at)]
        return
    by_folder: dict[str, list[Entry]] = {}
    for entry in entries(models):
        by_folder.setdefault(entry.path.rpartition("/")[0], []).append(entry)
    yield from ((models / path, found) for path, found in by_folder.items())


def _versions(lake: Lake, oldest: date, serving: str) -> set[Place]:
    pinned, folder = lake.pin("ops.models"), models_path(lake)
    rows = [row for day in pinned.days() for row in lake.rows(pinned, {"ds": day}).to_pylist()]
    last = {row["model"]: row for row in sorted(rows, key=lambda row: (row["ds"], row["kept_at"]))}
    kept = [row for row in rows if row["ds"] >= oldest or row["release_id"] == serving]
    return {folder / row["model"] / row["model_version"] for row in (*kept, *last.values())}


def _drop_pages(shop: Shop) -> Chore:
    """Pages of old dates; `nightrank report --ds` makes one anew."""
    newest = max(shop.lake.pin("ops.nights").days(), default=None)
    folder, n_gone = reports_path(shop.lake), 0
    before = size(folder)[0]
    pages: list[Place] = [*folder.glob("*.html")]
    for page in pages:
        with suppress(ValueError):  # not a page of a night
            day = date.fromisoformat(page.stem)
            if newest and (newest - day).days > shop.settings.housekeeping.report_days:
                page.unlink(missing_ok=True)
                n_gone += 1
    return Chore("pages", f"{n_gone} removed", before, size(folder)[0])


def _drop_left(lake: Lake, now: datetime, keep: timedelta) -> Chore:
    """What trainings that were killed left beside the models, and nobody has gone on from."""
    n_gone, n_bytes = 0, 0
    for pattern in LEFT_BY_KILLED:
        for left in checkpoints_path(lake).glob(pattern):
            if now.timestamp() - left.stat().st_mtime > keep.total_seconds():
                n_bytes += size(left)[0] if left.is_dir() else left.stat().st_size
                n_gone += 1
                remove(left)
    for half, found in _half_models(lake):
        if max(each.modified_at for each in found) < now - keep:
            n_bytes += sum(each.n_bytes for each in found)
            n_gone += 1
            remove(half)
    return Chore("left by killed trainings", f"{n_gone} removed", n_bytes, 0)


def _drop_uploads(lake: Lake, begun_before: datetime) -> Iterator[Chore]:
    """Parts of large files in a store whose writers were killed."""
    if not isinstance(lake.root, StorePath):
        return
    try:
        did = f"{lake.root.drop_uploads(begun_before)} given up"
    except StoreError as error:  # not every store lets every user look for them
        did = f"not looked for: {error.what}"
    yield Chore("files that were never put whole", did, 0, 0)


def _half_models(lake: Lake) -> Iterator[tuple[Place, list[Entry]]]:
    """Versions of models of which a store has a part, with their files."""
    if not isinstance(models_path(lake), StorePath):  # on disk they are hidden until they are whole
        return
    for path, found in _models(lake):
        if not any(each.path.endswith(f"/{MODEL_MARK}") for each in found):
            yield path, found
