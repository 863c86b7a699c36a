"""ops.files, and what is noted beside it: columns seen, quarantine, and later moves of records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

import sql
from tasks.ingest.deliveries import SNAPSHOTS, Delivery
from tasks.ingest.readers import named_columns
from tasks.ingest.stage import Batch
from tasks.lake.literals import literal
from tasks.lake.session import Session
from tasks.records import TableVersion

PLACES = ("clean", "duplicate", "quarantined", "withdrawn")
Counts = dict[str, int]  # records by place


@dataclass(frozen=True)
class Account:
    """Where the records of a file are, and the dates on which they occurred."""

    counts: Counts
    first_ds: date | None = None
    last_ds: date | None = None

    @property
    def n_read(self) -> int:
        """All records."""
        return sum(self.counts.values())


def account(
    s: Session, dataset: str, touched: Sequence[date], quarantined: Mapping[str, int]
) -> dict[str, Account]:
    """The accounts of the staged files, by file_id, after the clean table was written."""
    s.read_pinned(s.lake.pin(f"clean.{dataset}"), set(touched))
    rows = s.rows(
        f"""
        WITH fit AS (
            SELECT file_id, count(*) AS n_fit, min(ds) AS first_ds, max(ds) AS last_ds
            FROM staged WHERE misfit IS NULL GROUP BY file_id
        ),
        clean AS (
            SELECT file_id, count(*) AS n_clean
            FROM clean.{dataset}
            WHERE file_id IN (SELECT file_id FROM delivery)
            GROUP BY file_id
        )
        SELECT file_id, coalesce(n_fit, 0), coalesce(n_clean, 0), first_ds, last_ds
        FROM delivery LEFT JOIN fit USING (file_id) LEFT JOIN clean USING (file_id)
        """
    )
    return {
        file_id: Account(
            {
                "clean": n_clean,
                "duplicate": n_fit - n_clean,
                "quarantined": quarantined.get(file_id, 0),
            },
            first_ds,
            last_ds,
        )
        for file_id, n_fit, n_clean, first_ds, last_ds in rows
    }


def write_quarantine(s: Session, batch: Batch) -> TableVersion:
    """The table `misfits` into ops.quarantine; what was there keeps the time it was first seen."""
    now = literal(datetime.now(UTC))
    rows = (
        f"SELECT m.file_id, {literal(batch.dataset)} AS dataset, d.path, m.line, m.reason, m.raw, "
        f"coalesce(q.first_seen_at, {now}) AS first_seen_at, d.delivered AS ds "
        "FROM misfits AS m INNER JOIN delivery AS d USING (file_id) "
        "LEFT JOIN ops.quarantine AS q ON q.file_id = m.file_id AND q.line = m.line"
    )
    return replace_rows_of_files(s, "ops.quarantine", batch.files, rows)


def write_columns(s: Session, batch: Batch) -> TableVersion:
    """The table `seen` into ops.columns."""
    named = literal(sorted(named_columns(batch.source)))
    rows = (
        f"SELECT seen.file_id, {literal(batch.dataset)} AS dataset, raw_column, raw_type, "
        f"list_contains({named}, raw_column) AS is_mapped, sum(n)::BIGINT AS n_records, "
        "max(n_looked_at) AS n_looked_at, d.delivered AS ds "
        "FROM seen INNER JOIN delivery AS d USING (file_id) GROUP BY ALL"
    )
    return replace_rows_of_files(s, "ops.columns", batch.files, rows)


def write_accounts(
    s: Session, batch: Batch, accounts: Mapping[str, Account], run_id: str, key_id: str | None
) -> list[TableVersion]:
    """Rows of ops.files; a file that was accounted for before gets ops.row_moves instead.

    ops.files comes last: it alone makes a file known.
    """
    before = known_rows(s, [delivery.file_id for delivery in batch.files])
    now = current_accounts(s, list(before))
    rows, moves, forgotten = [], [], []
    for delivery in batch.files:
        row = _row(batch, delivery, accounts.get(delivery.file_id), run_id, key_id)
        old = before.get(delivery.file_id)
        if old and _is_same_reading(old, row):
            kept = ("n_clean", "n_duplicate", "n_quarantined", "ingested_at", "run_id")
            new = accounts[delivery.file_id].counts
            moves += moved(old, now[delivery.file_id], new, "read again with another mapping")
            row |= {name: old[name] for name in kept}
        elif old:
            forgotten.append(old)
        rows.append(row)
    _account_for_repeats(s, rows, batch)
    written = [add_moves(s, moves, forgotten)] if moves or forgotten else []
    return [*written, put_rows(s, "ops.files", batch.files, rows)]


def _is_same_reading(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the same records were found: then their account goes on, else it begins anew."""
    read = old["state"] == new["state"] == "ingested"
    return bool(read and old["n_read"] == new["n_read"])


def known_rows(s: Session, file_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of ops.files of these files."""
    s.read("ops.files", newest=True)
    found = s.con.sql(
        f"SELECT * FROM ops.files WHERE list_contains({literal(list(file_ids))}, file_id)"
    ).to_arrow_table()
    return {row["file_id"]: row for row in found.to_pylist()}


def current_accounts(s: Session, file_ids: Sequence[str]) -> dict[str, Counts]:
    """Where the records of these files are now, by what is noted."""
    for name in ("ops.files", "ops.row_moves"):
        s.read(name, newest=True)
    columns = ", ".join(f"n_{place}" for place in PLACES)
    rows = s.rows(
        f"SELECT file_id, {columns} FROM ({sql.read_table('ops.accounts')}) "
        f"WHERE list_contains({literal(list(file_ids))}, file_id)"
    )
    return {row[0]: dict(zip(PLACES, row[1:], strict=True)) for row in rows}


def moved(
    row: Mapping[str, Any], old: Mapping[str, int], new: Mapping[str, int], reason: str
) -> list[dict[str, Any]]:
    """The moves that lead from the old counts of a file to the new ones."""
    change = {place: new.get(place, 0) - old.get(place, 0) for place in PLACES}
    moves = []
    for source in PLACES:
        for target in PLACES:
            n = min(-change[source], change[target])
            if n > 0:
                change[source] += n
                change[target] -= n
                moves.append(
                    {
                        **{name: row[name] for name in ("file_id", "dataset", "path", "ds")},
                        "from_place": source,
                        "to_place": target,
                        "n_rows": n,
                        "reason": reason,
                        "moved_at": datetime.now(UTC),
                    }
                )
    return moves


def add_moves(
    s: Session, moves: list[dict[str, Any]], forgotten: Sequence[Mapping[str, Any]] = ()
) -> TableVersion:
    """Add to ops.row_moves, and drop what is there of files whose account begins anew."""
    days = sorted({*(move["ds"] for move in moves), *(row["ds"] for row in forgotten)})
    old_ids = literal([row["file_id"] for row in forgotten])

    def merged(pinned: Any) -> Any:
        s.read_pinned(pinned, set(days))
        new = pa.Table.from_pylist(moves, schema=s.lake.schema("ops.row_moves"))
        s.con.register("new_moves", new)
        return s.stream(
            f"SELECT * FROM ops.row_moves WHERE NOT list_contains({old_ids}, file_id) "
            "UNION ALL SELECT * FROM new_moves ORDER BY moved_at, file_id, from_place, to_place"
        )

    return s.lake.rewrite("ops.row_moves", {"ds": days}, merged)


def _row(
    batch: Batch, delivery: Delivery, found: Account | None, run_id: str, key_id: str | None
) -> dict[str, Any]:
    state, reason = _state(batch, delivery)
    found = found or Account(dict.fromkeys(PLACES, 0))
    return {
        "file_id": delivery.file_id,
        "dataset": batch.dataset,
        "path": delivery.file.path,
        "content_hash": delivery.content_hash,
        "n_bytes": delivery.file.n_bytes,
        "modified_at": delivery.file.modified_at,
        "arrived_at": delivery.arrived_at,
        "state": state,
        "reason": reason,
        "n_read": found.n_read,
        "n_clean": found.counts["clean"],
        "n_duplicate": found.counts["duplicate"],
        "n_quarantined": found.counts["quarantined"],
        "first_ds": found.first_ds,
        "last_ds": found.last_ds,
        "ingested_at": datetime.now(UTC),
        "mapping_hash": delivery.mapping_hash,
        "key_id": key_id,
        "run_id": run_id,
        "ds": delivery.ds,
    }


def _state(batch: Batch, delivery: Delivery) -> tuple[str, str | None]:
    if delivery.file_id in batch.refused:
        return "refused", batch.refused[delivery.file_id]
    if delivery.repeats is not None:
        return "repeated", f"same content as {delivery.repeats}"
    return "ingested", None


def _account_for_repeats(s: Session, rows: list[dict[str, Any]], batch: Batch) -> None:
    """Every record of a repeated file is a duplicate of the file that it repeats."""
    n_read = {row["content_hash"]: row["n_read"] for row in rows if row["state"] != "repeated"}
    s.read("ops.files", newest=True)
    for row in rows:
        if row["state"] != "repeated":
            continue
        if row["content_hash"] not in n_read:
            n_read[row["content_hash"]] = s.value(
                "SELECT any_value(n_read) FROM ops.files WHERE dataset = $dataset "
                "AND content_hash = $content_hash AND state <> 'refused'",
                {"dataset": batch.dataset, "content_hash": row["content_hash"]},
            )
        row["n_read"] = row["n_duplicate"] = n_read[row["content_hash"]]


def note_superseded(
    s: Session, dataset: str, touched: Sequence[date], batch: Sequence[Delivery]
) -> list[TableVersion]:
    """Earlier snapshots of the touched dates, some of whose rows gave way to newer ones."""
    if dataset not in SNAPSHOTS or not touched:
        return []
    ours = literal([delivery.file_id for delivery in batch])
    s.read("ops.files", newest=True)
    s.read_pinned(s.lake.pin(f"clean.{dataset}"), set(touched))
    rows = s.rows(
        f"SELECT f.file_id, count(c.file_id) FROM ops.files AS f "
        f"LEFT JOIN clean.{dataset} AS c USING (file_id) "
        f"WHERE f.dataset = $dataset AND f.state = 'ingested' AND NOT list_contains({ours}, "
        "f.file_id) AND list_contains($days, f.first_ds) GROUP BY f.file_id",
        {"dataset": dataset, "days": list(touched)},
    )
    n_clean = dict(rows)
    known, now = known_rows(s, list(n_clean)), current_accounts(s, list(n_clean))
    moves = []
    for file_id, n in n_clean.items():
        gone = now[file_id]["clean"] - n
        new = now[file_id] | {"clean": n, "duplicate": now[file_id]["duplicate"] + gone}
        moves += moved(known[file_id], now[file_id], new, "a newer snapshot of the date has them")
    return [add_moves(s, moves)] if moves else []


def put_rows(
    s: Session, name: str, files: Sequence[Delivery], rows: list[dict[str, Any]]
) -> TableVersion:
    """Put rows in place of whatever the table held of these files."""
    s.con.register("put_rows", pa.Table.from_pylist(rows, schema=s.lake.schema(name)))
    return replace_rows_of_files(s, name, files, "SELECT * FROM put_rows")


def replace_rows_of_files(
    s: Session, name: str, files: Sequence[Delivery], select: str
) -> TableVersion:
    """Put a SELECT's rows in place of what the table held of these files; other files stay."""
    file_ids = literal(sorted({delivery.file_id for delivery in files}))
    days = sorted({day for each in files for day in (each.ds, each.noted_ds or each.ds)})

    def merged(pinned: Any) -> Any:
        s.read_pinned(pinned, set(days))
        return s.stream(
            f"SELECT * FROM {name} WHERE NOT list_contains({file_ids}, file_id) "
            f"UNION ALL BY NAME ({select}) ORDER BY ALL"
        )

    return s.lake.rewrite(name, {"ds": days}, merged)
