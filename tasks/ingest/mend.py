"""Mend what was ingested: read quarantined files again, and take a wrong delivery back.

Both change clean tables only; `nightrank status` lists what that makes stale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tasks.errors import UsageError
from tasks.ingest.accounts import (
    add_moves,
    current_accounts,
    known_rows,
    moved,
    put_rows,
    replace_rows_of_files,
)
from tasks.ingest.deliveries import SNAPSHOTS, Delivery, content_hash, mapping_hash
from tasks.ingest.landing import date_in
from tasks.ingest.load import ingest_files
from tasks.ingest.merge import write_clean
from tasks.ingest.readers import How
from tasks.ingest.stage import Batch, stage
from tasks.lake.session import Session, session
from tasks.places import Place, StorePath
from tasks.records import LandedFile
from tasks.shop import Shop

Row = dict[str, Any]


@dataclass(frozen=True)
class Reread:
    """A file that was to be read again; `problem` says why it could not be."""

    dataset: str
    path: str
    n_before: int
    n_now: int
    problem: str | None = None


@dataclass(frozen=True)
class Withdrawal:
    """What taking one delivery back did."""

    dataset: str
    path: str
    n_clean: int
    n_quarantined: int
    restored: tuple[Reread, ...] = ()


def replay(shop: Shop, run_id: str) -> list[Reread]:
    """Read every file again that has records in quarantine or was refused, as the mapping is now.

    Records that fit now go to the clean tables, and ops.row_moves says so. A file that is gone, or
    changed since, is told and left as it is.
    """
    with session(shop.lake, shop.settings.compute) as s:
        for name in ("ops.files", "ops.quarantine"):
            s.read(name)
        found = s.rows(
            "SELECT file_id FROM ops.files WHERE state = 'refused' "
            "OR (state = 'ingested' AND file_id IN (SELECT q.file_id FROM ops.quarantine AS q)) "
            "ORDER BY ds, path, file_id"
        )
        rows = known_rows(s, [row[0] for row in found])
    return _read_again(shop, [rows[row[0]] for row in found], "quarantined", run_id)


def withdraw(shop: Shop, name: str, run_id: str) -> list[Withdrawal]:
    """Take a delivery back: its newest one by path, or any by its file_id.

    Its records leave the clean tables and quarantine; what they superseded counts again, and
    records of other files that were dropped as their duplicates are read again. The file is not
    ingested again as long as it holds the same. Raises UsageError where no such file is known.
    """
    with session(shop.lake, shop.settings.compute) as s:
        chosen = _chosen(s, shop, name)
        for row in chosen:
            put_rows(s, "ops.files", [_delivery(shop, row)], [row | {"state": "withdrawn"}])
    return finish_withdrawals(shop, run_id)


def finish_withdrawals(shop: Shop, run_id: str) -> list[Withdrawal]:
    """Carry out withdrawals that were noted; also those that a killed command left undone."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("ops.files")
        noted = s.rows("SELECT file_id FROM ops.files WHERE state = 'withdrawn' ORDER BY ALL")
        if not noted:
            return []
        ids = [row[0] for row in noted]
        rows, now = known_rows(s, ids), current_accounts(s, ids)
    # Of a dataset that the mapping lost, nothing can be read: they wait until it is back.
    ids = [i for i in ids if rows[i]["dataset"] in shop.mapping.sources()]
    open_ids = [i for i in ids if now[i]["clean"] or now[i]["quarantined"]]
    return [_take_back(shop, rows[i], now[i], run_id) for i in open_ids]


def _take_back(shop: Shop, row: Row, now: dict[str, int], run_id: str) -> Withdrawal:
    delivery = _delivery(shop, row)
    twins = _had_duplicates(shop, row)
    with session(shop.lake, shop.settings.compute) as s:
        _without(s, shop, delivery, row)
        for name in ("ops.quarantine", "ops.columns"):
            replace_rows_of_files(s, name, [delivery], f"SELECT * FROM {name} WHERE false")
    restored = _read_again(shop, twins, "duplicate", run_id)
    with session(shop.lake, shop.settings.compute) as s:
        gone = now["withdrawn"] + now["clean"] + now["quarantined"]
        new = now | {"clean": 0, "quarantined": 0, "withdrawn": gone}
        add_moves(s, moved(row, now, new, "the file was withdrawn"))  # last: it marks the end
    return Withdrawal(
        row["dataset"], row["path"], now["clean"], now["quarantined"], tuple(restored)
    )


def _without(s: Session, shop: Shop, delivery: Delivery, row: Row) -> None:
    """Write the dates of a delivery again, without its records."""
    source = shop.mapping.sources()[delivery.dataset]
    batch = Batch(delivery.dataset, source, Path(), [], None, How())
    stage(s, batch)  # of nothing
    s.con.execute("INSERT INTO delivery (file_id) VALUES (?)", [delivery.file_id])
    held = s.lake.pin(f"clean.{delivery.dataset}").days()
    first, last = row["first_ds"], row["last_ds"]
    days = [day for day in held if first is not None and first <= day <= last]
    write_clean(s, delivery.dataset, [delivery], also=days)


def _had_duplicates(shop: Shop, row: Row) -> list[Row]:
    """Other files whose records may have been dropped as duplicates of this one's; its copies."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("ops.files")
        found = s.rows(
            "SELECT file_id FROM ops.files WHERE dataset = $dataset AND file_id <> $file_id AND "
            "(state = 'ingested' OR (state = 'repeated' AND content_hash = $content_hash)) "
            "ORDER BY ds, path, file_id",
            {key: row[key] for key in ("dataset", "file_id", "content_hash")},
        )
        ids = [each[0] for each in found]
        rows, now = known_rows(s, ids), current_accounts(s, ids)
    return [rows[i] for i in ids if now[i]["duplicate"] and _may_share(rows[i], row)]


def _may_share(one: Row, other: Row) -> bool:
    """Whether dates of their records overlap; of a copy that was not read, none are known."""
    if other["first_ds"] is None:
        return False
    if one["first_ds"] is None:
        return bool(one["state"] == "repeated")
    return bool(one["first_ds"] <= other["last_ds"] and other["first_ds"] <= one["last_ds"])


def _read_again(shop: Shop, rows: Sequence[Row], place: str, run_id: str) -> list[Reread]:
    """Read files again; `place` is the one whose records are hoped to become clean."""
    readable = [row for row in rows if _problem(shop, row) is None]
    before = _counts(shop, rows, place)
    for dataset, night, files in _batches(shop, readable):
        ingest_files(shop, dataset, files, run_id=run_id, night=night)
    now = _counts(shop, rows, place)
    return [
        Reread(
            row["dataset"],
            row["path"],
            before[row["file_id"]],
            now[row["file_id"]],
            _problem(shop, row),
        )
        for row in rows
    ]


def _batches(shop: Shop, rows: Sequence[Row]) -> list[tuple[str, date | None, list[Delivery]]]:
    """Files to read together; a snapshot alone, for its date depends on its night."""
    alone = [row for row in rows if row["dataset"] in SNAPSHOTS]
    batches: list[tuple[str, date | None, list[Delivery]]] = [
        (row["dataset"], row["first_ds"], [_delivery(shop, row)]) for row in alone
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        files = [_delivery(shop, row) for row in rows if row["dataset"] == dataset]
        if dataset not in SNAPSHOTS:
            batches.append((dataset, None, files))
    return batches


def _counts(shop: Shop, rows: Sequence[Row], place: str) -> dict[str, int]:
    ids = [row["file_id"] for row in rows]
    with session(shop.lake, shop.settings.compute) as s:
        accounts = current_accounts(s, ids)
    return {i: accounts[i][place] for i in ids}


def _problem(shop: Shop, row: Row) -> str | None:
    path = shop.landing / row["path"]
    if row["dataset"] not in shop.mapping.sources():
        return "the mapping no longer has its dataset"
    if not path.is_file():
        return "the file is gone"
    if content_hash(path) != row["content_hash"]:
        return "the file was changed since; the night reads it as a new delivery"
    return None


def _delivery(shop: Shop, row: Row) -> Delivery:
    """The delivery that a row of ops.files tells of, to be read as the mapping is now."""
    source = shop.mapping.sources()[row["dataset"]]
    file = LandedFile(
        dataset=row["dataset"],
        path=row["path"],
        n_bytes=row["n_bytes"],
        modified_at=row["modified_at"],
        delivered=date_in(row["path"], row["dataset"], source),
    )
    hash_ = mapping_hash(shop.mapping, row["dataset"])
    return Delivery(
        file=file,
        file_id=row["file_id"],
        content_hash=row["content_hash"],
        arrived_at=row["arrived_at"],
        mapping_hash=hash_,
        noted_ds=row["ds"],
    )


def _below(landing: Place, name: str) -> str:
    """The path below the landing folder that a name means, wherever it was typed."""
    if isinstance(landing, StorePath):
        return name.removeprefix(f"{landing}/")
    path, resolved = Path(name).resolve(), landing.resolve()
    found = path.relative_to(resolved) if path.is_relative_to(resolved) else Path(name)
    return found.as_posix()


def _chosen(s: Session, shop: Shop, name: str) -> list[Row]:
    """The newest delivery of a path in each dataset, or the one of a file_id."""
    s.read("ops.files")
    below = _below(shop.landing, name)
    found = s.rows(
        "SELECT file_id FROM ops.files WHERE (list_contains([$path, $name], path) "
        "OR file_id = $name) "
        "AND state <> 'withdrawn' "
        "QUALIFY row_number() OVER (PARTITION BY dataset ORDER BY ingested_at DESC, file_id) = 1",
        {"path": below, "name": name},
    )
    if not found:
        raise UsageError(
            f"no delivery of {name} is known, or it is withdrawn already",
            where="ops.files",
            unchanged="nothing was withdrawn",
            fix='nightrank query "SELECT path, file_id, state FROM ops.files" lists them',
        )
    rows = known_rows(s, [row[0] for row in found])
    lost = sorted({row["dataset"] for row in rows.values()} - set(shop.mapping.sources()))
    if lost:
        raise UsageError(
            f"{name} is of {', '.join(lost)}, which the mapping no longer has",
            where="the mapping",
            unchanged="nothing was withdrawn",
            fix=f"put [{lost[0]}] back into the mapping, withdraw, and take it out again",
        )
    repeated = [row["path"] for row in rows.values() if row["state"] == "repeated"]
    if repeated:
        raise UsageError(
            f"{repeated[0]} only repeats another file, and none of its records was taken",
            where="ops.files",
            unchanged="nothing was withdrawn",
            fix=f"withdraw the file that it repeats: {next(iter(rows.values()))['reason']}",
        )
    return list(rows.values())
