"""Read a batch of deliveries into one clean table, its quarantine and its accounting.

The order of writes makes a kill harmless: clean rows, quarantine, then the accounting, which alone
makes a file known. A file that is not known yet is read again, and its rows are made anew.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import sql
from tasks.ingest.deliveries import SNAPSHOTS, Delivery
from tasks.ingest.lines import header, lines_of, refuse_big_endian
from tasks.ingest.parse import landed_columns, landed_sql, raw_columns
from tasks.lake.literals import literal
from tasks.lake.session import Session
from tasks.mapping import Source
from tasks.records import TableVersion

RAW_TEXT = 500  # characters of a misfit's text that quarantine keeps
Refused = dict[str, str]  # file_id: reason


def load_batch(
    s: Session,
    landing: Path,
    dataset: str,
    source: Source,
    batch: Sequence[Delivery],
    *,
    run_id: str,
    night: date | None,
) -> list[TableVersion]:
    """Ingest `batch`, deliveries of one dataset. Raises StorageError or ConflictError."""
    fresh = [delivery for delivery in batch if delivery.repeats is None]
    _name_deliveries(s, landing, fresh, night)
    refused = _read(s, landing, dataset, source, fresh)
    touched = _touched(s, dataset, fresh)
    written = [_write_clean(s, dataset, touched)]
    read = [delivery for delivery in fresh if delivery.file_id not in refused]
    misfits = _find_misfits(s, landing, dataset, source, read)
    written.append(replace_rows_of_files(s, "ops.quarantine", batch, misfits))
    quarantined = Counter(str(row["file_id"]) for row in misfits)
    rows = _accounting(s, dataset, touched, batch, refused, quarantined, run_id)
    written.append(replace_rows_of_files(s, "ops.files", batch, rows))
    return written


def _name_deliveries(
    s: Session, landing: Path, batch: Sequence[Delivery], night: date | None
) -> None:
    rows = pa.Table.from_pylist(
        [
            {
                "filename": str(landing / delivery.file.path),
                "path": delivery.file.path,
                "file_id": delivery.file_id,
                "arrived_at": delivery.arrived_at,
                "snapshot_ds": delivery.file.delivered or min(delivery.ds, night or date.max),
            }
            for delivery in batch
        ],
        schema=pa.schema(
            [
                ("filename", pa.string()),
                ("path", pa.string()),
                ("file_id", pa.string()),
                ("arrived_at", pa.timestamp("us", tz="UTC")),
                ("snapshot_ds", pa.date32()),
            ]
        ),
    )
    s.con.register("delivery_rows", rows)
    s.con.execute("CREATE OR REPLACE TEMP TABLE delivery AS SELECT * FROM delivery_rows")
    s.con.unregister("delivery_rows")


def _read(
    s: Session, landing: Path, dataset: str, source: Source, batch: Sequence[Delivery]
) -> Refused:
    """Fill the table `landed`; files that cannot be decoded are refused whole."""
    for table in ("landed", "reject_errors", "reject_scans"):
        s.con.execute(f"DROP TABLE IF EXISTS {table}")
    refused: Refused = {}
    groups: dict[tuple[str, ...], list[Delivery]] = {}
    for delivery in batch:
        try:
            names = _raw_names(landing / delivery.file.path, source)
        except (OSError, EOFError, ValueError, csv.Error) as error:
            refused[delivery.file_id] = _why(error, landing)
            continue
        groups.setdefault(names, []).append(delivery)
    columns = ", ".join(f"{name} {kind}" for name, kind in landed_columns(dataset).items())
    s.con.execute(f"CREATE TEMP TABLE landed ({columns})")
    for names, files in groups.items():
        refused.update(_read_group(s, landing, dataset, source, files, names))
    refused.update(_torn(s, landing, source, batch))
    s.con.execute(f"DELETE FROM landed WHERE list_contains({literal(list(refused))}, file_id)")
    return refused


def _torn(s: Session, landing: Path, source: Source, batch: Sequence[Delivery]) -> Refused:
    """CSV files with a quote that is not closed on its line: it swallows records unseen."""
    rejected = _rejected(s)
    torn = {}
    for delivery in batch:
        path = landing / delivery.file.path
        for row, reason, text in rejected.get(str(path), []):
            if "unquoted value" in reason and "\n" in text:
                line = lines_of(path, source, {row}, ()).rejected.get(row, row)
                torn[delivery.file_id] = f"the quote that opens on line {line} is not closed"
                break
    return torn


def _read_group(
    s: Session,
    landing: Path,
    dataset: str,
    source: Source,
    files: Sequence[Delivery],
    names: tuple[str, ...],
) -> Refused:
    try:
        paths = [str(landing / delivery.file.path) for delivery in files]
        s.con.execute(f"INSERT INTO landed BY NAME {landed_sql(dataset, source, paths, names)}")
    except duckdb.Error as error:
        if len(files) == 1:
            return {files[0].file_id: _why(error, landing)}
        refused: Refused = {}
        for file in files:
            refused.update(_read_group(s, landing, dataset, source, [file], names))
        return refused
    return {}


def _raw_names(path: Path, source: Source) -> tuple[str, ...]:
    """The raw columns of one file; ValueError where one that the mapping names is missing."""
    refuse_big_endian(path, source)
    if source.format == "jsonl":
        return tuple(raw_columns(source))
    names = tuple(source.names) if not source.header else header(path, source)
    missing = [name for name in raw_columns(source) if name not in names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}; it has {', '.join(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a column name stands twice: {', '.join(names)}")
    return names


def _why(error: Exception, landing: Path) -> str:
    """One line, and no path of this machine: it stands in ops.files and in reports."""
    if "state machine" in str(error):
        return "its lines do not all end alike: LF, CRLF or CR"
    text = " ".join(str(error).split()).replace(f"{landing}/", "")
    return text[:300] or type(error).__name__


def _touched(s: Session, dataset: str, fresh: Sequence[Delivery]) -> list[date]:
    """The dates of the clean table that the batch changes."""
    day = "snapshot_ds" if dataset in SNAPSHOTS else "CAST(occurred_at AS DATE)"
    join = " INNER JOIN delivery USING (file_id)" if dataset in SNAPSHOTS else ""
    found = s.rows(f"SELECT DISTINCT {day} FROM landed{join} WHERE misfit IS NULL")
    return sorted({row[0] for row in found} | _days_before(s, f"clean.{dataset}", fresh))


def _write_clean(s: Session, dataset: str, touched: Sequence[date]) -> TableVersion:
    """Replace the touched dates; a conflict reads the table again."""
    name = f"clean.{dataset}"
    if not touched:
        pinned = s.lake.pin(name)
        return TableVersion(name, pinned.version, 0, 0)

    def merged(pinned: Any) -> Any:
        s.read_pinned(pinned, set(touched))
        return s.stream(sql.read_table(name))

    return s.lake.rewrite(name, {"ds": touched}, merged)


def _days_before(s: Session, name: str, fresh: Sequence[Delivery]) -> set[date]:
    """The dates that hold rows of these files from an earlier reading, with another mapping."""
    s.read("ops.files", newest=True)
    spans = s.rows(
        "SELECT first_ds, last_ds FROM ops.files "
        "WHERE first_ds IS NOT NULL AND list_contains($file_ids, file_id)",
        {"file_ids": [delivery.file_id for delivery in fresh]},
    )
    held = s.lake.pin(name).days() if spans else {}
    return {day for day in held for first, last in spans if first <= day <= last}


def _find_misfits(
    s: Session,
    landing: Path,
    dataset: str,
    source: Source,
    fresh: Sequence[Delivery],
) -> list[dict[str, Any]]:
    """The quarantine's rows: what the reader rejected, and records that do not fit."""
    rejected = _rejected(s)
    misfits = _misfits(s)
    rows: list[dict[str, Any]] = []
    for delivery in fresh:
        path = landing / delivery.file.path
        rejects, found = rejected.get(str(path), []), misfits.get(delivery.file_id, [])
        lines = lines_of(path, source, {row for row, *_ in rejects}, {n for n, *_ in found})
        placed = [(lines.rejected.get(row, row), reason, raw) for row, reason, raw in rejects]
        placed += [(lines.taken.get(n, n), reason, raw) for n, reason, raw in found]
        rows.extend(_quarantined(delivery, dataset, *each) for each in placed)
    return rows


def _rejected(s: Session) -> dict[str, list[tuple[int, str, str]]]:
    """Lines that DuckDB's reader could not take, by file: (line, reason, text)."""
    if not s.value("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"):
        return {}
    found: dict[str, list[tuple[int, str, str]]] = {}
    for path, line, kind, text in s.rows(
        "SELECT file_path, line, any_value(CAST(error_type AS VARCHAR)), any_value(csv_line) "
        "FROM reject_errors INNER JOIN reject_scans USING (scan_id, file_id) "
        "GROUP BY ALL ORDER BY ALL"
    ):
        found.setdefault(path, []).append(
            (line, f"not a record: {kind.lower().replace('_', ' ')}", (text or "").strip("\r\n"))
        )
    return found


def _misfits(s: Session) -> dict[str, list[tuple[int, str, str]]]:
    """Records that do not fit, by file: (number of the record, reason, text)."""
    found: dict[str, list[tuple[int, str, str]]] = {}
    for file_id, number, reason, raw in s.rows(
        "WITH first AS (SELECT file_id, min(n) AS n FROM landed GROUP BY file_id) "
        "SELECT landed.file_id, landed.n - first.n + 1 AS number, misfit, "
        f"left(record, {RAW_TEXT}) "
        "FROM landed INNER JOIN first USING (file_id) WHERE misfit <> '' ORDER BY ALL"
    ):
        found.setdefault(file_id, []).append((number, reason, raw))
    return found


def _quarantined(
    delivery: Delivery, dataset: str, line: int, reason: str, raw: str
) -> dict[str, Any]:
    return {
        "file_id": delivery.file_id,
        "dataset": dataset,
        "path": delivery.file.path,
        "line": line,
        "reason": reason,
        "raw": raw[:RAW_TEXT],
        "ds": delivery.ds,
    }


def _accounting(
    s: Session,
    dataset: str,
    touched: Sequence[date],
    batch: Sequence[Delivery],
    refused: Refused,
    quarantined: Counter[str],
    run_id: str,
) -> list[dict[str, Any]]:
    counts = _counts(s, dataset, touched)
    now = datetime.now(UTC)
    rows = []
    for delivery in batch:
        n_fit, n_clean, first_ds, last_ds = counts.get(delivery.file_id, (0, 0, None, None))
        n_quarantined = quarantined[delivery.file_id]
        state, reason = _state(delivery, refused)
        rows.append(
            {
                "file_id": delivery.file_id,
                "dataset": dataset,
                "path": delivery.file.path,
                "content_hash": delivery.content_hash,
                "n_bytes": delivery.file.n_bytes,
                "modified_at": delivery.file.modified_at,
                "arrived_at": delivery.arrived_at,
                "state": state,
                "reason": reason,
                "n_read": n_fit + n_quarantined,
                "n_clean": n_clean,
                "n_duplicate": n_fit - n_clean,
                "n_quarantined": n_quarantined,
                "first_ds": first_ds,
                "last_ds": last_ds,
                "ingested_at": now,
                "mapping_hash": delivery.mapping_hash,
                "run_id": run_id,
                "ds": delivery.ds,
            }
        )
    _account_for_repeats(s, rows, batch)
    return rows


def _state(delivery: Delivery, refused: Refused) -> tuple[str, str | None]:
    if delivery.file_id in refused:
        return "refused", refused[delivery.file_id]
    if delivery.repeats is not None:
        return "repeated", f"same content as {delivery.repeats}"
    return "ingested", None


def _counts(
    s: Session, dataset: str, touched: Sequence[date]
) -> dict[str, tuple[int, int, date, date]]:
    """Per file: records that fit, rows of it in the clean table now, first and last date."""
    s.read_pinned(s.lake.pin(f"clean.{dataset}"), set(touched))
    rows = s.rows(
        f"""
        WITH fit AS (
            SELECT file_id, count(*) AS n_fit FROM landed WHERE misfit IS NULL GROUP BY file_id
        ),
        clean AS (
            SELECT file_id, count(*) AS n_clean, min(ds) AS first_ds, max(ds) AS last_ds
            FROM clean.{dataset}
            WHERE file_id IN (SELECT file_id FROM delivery)
            GROUP BY file_id
        )
        SELECT fit.file_id, n_fit, coalesce(n_clean, 0), first_ds, last_ds
        FROM fit LEFT JOIN clean USING (file_id)
        """
    )
    return {row[0]: row[1:] for row in rows}


def _account_for_repeats(s: Session, rows: list[dict[str, Any]], batch: Sequence[Delivery]) -> None:
    """Every record of a repeated file is a duplicate of the file that it repeats."""
    n_read = {
        delivery.content_hash: row["n_read"]
        for row, delivery in zip(rows, batch, strict=True)
        if delivery.repeats is None
    }
    s.read("ops.files", newest=True)
    for row, delivery in zip(rows, batch, strict=True):
        if delivery.repeats is None:
            continue
        if delivery.content_hash not in n_read:
            n_read[delivery.content_hash] = s.value(
                "SELECT any_value(n_read) FROM ops.files WHERE dataset = $dataset "
                "AND content_hash = $content_hash AND state <> 'refused'",
                {"dataset": delivery.file.dataset, "content_hash": delivery.content_hash},
            )
        row["n_read"] = row["n_duplicate"] = n_read[delivery.content_hash]


def replace_rows_of_files(
    s: Session, name: str, batch: Sequence[Delivery], rows: list[dict[str, Any]]
) -> TableVersion:
    """Put `rows` in place of whatever the table held of these files; other files stay."""
    days = sorted({delivery.ds for delivery in batch})
    file_ids = sorted({delivery.file_id for delivery in batch})

    def merged(pinned: Any) -> Any:
        s.read_pinned(pinned, set(days))
        s.con.register("new_rows", pa.Table.from_pylist(rows, schema=s.lake.schema(name)))
        return s.stream(
            f"SELECT * FROM {name} WHERE NOT list_contains($file_ids, file_id) "
            "UNION ALL SELECT * FROM new_rows ORDER BY ALL",
            {"file_ids": file_ids},
        )

    return s.lake.rewrite(name, {"ds": days}, merged)
