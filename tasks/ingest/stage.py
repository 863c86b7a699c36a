"""Files become typed records, each with a reason if it does not fit, in Parquet beside the lake.

Staged on disk and not in memory, so that a delivery may be of any size; nothing of the lake is
read or written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import count
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.errors import SettingsError
from tasks.ingest.deliveries import Delivery
from tasks.ingest.formats import UNREADABLE, Layout, layout_of
from tasks.ingest.lines import cut_lines, end_lines_alike, has_long_line, lines_of
from tasks.ingest.parse import landed_columns, landed_sql
from tasks.ingest.readers import How
from tasks.lake.literals import identifier, literal
from tasks.lake.session import Session
from tasks.mapping import Source, raw_columns

_PLAIN = "FORMAT parquet, COMPRESSION uncompressed, DICTIONARY_SIZE_LIMIT 100, PARQUET_VERSION v2"
_REJECTED = "file_id VARCHAR, line BIGINT, reason VARCHAR, text VARCHAR"
_DELIVERY = pa.schema(
    [
        ("filename", pa.string()),
        ("path", pa.string()),
        ("file_id", pa.string()),
        ("arrived_at", pa.timestamp("us", tz="UTC")),
        ("snapshot_ds", pa.date32()),
        ("delivered", pa.date32()),
    ]
)


@dataclass
class Batch:
    """New files of one dataset that are read in one go."""

    dataset: str
    source: Source
    landing: Path
    files: Sequence[Delivery]
    night: date | None
    how: How
    layouts: dict[str, Layout] = field(default_factory=dict)  # by file_id
    refused: dict[str, str] = field(default_factory=dict)  # reasons, by file_id
    stand_ins: dict[str, Path] = field(default_factory=dict)  # what is read instead, by file_id
    staged: "_Staged | None" = None

    @property
    def fresh(self) -> list[Delivery]:
        """The files that are read: no repetitions of others."""
        return [delivery for delivery in self.files if delivery.repeats is None]

    def file(self, delivery: Delivery) -> Path:
        """What is read of a delivery."""
        return self.stand_ins.get(delivery.file_id, self.landing / delivery.file.path)


def stage(s: Session, batch: Batch) -> None:
    """Read the batch: views `staged` and `landed`, tables `delivery` and `rejected`.

    Files that cannot be decoded are refused whole, in `batch.refused`.
    """
    s.con.execute(f"CREATE OR REPLACE TEMP TABLE rejected ({_REJECTED})")
    staged = _Staged(s, batch)
    for delivery in batch.fresh:
        try:
            batch.layouts[delivery.file_id] = layout_of(s.con, batch.file(delivery), batch.source)
        except UNREADABLE as error:
            batch.refused[delivery.file_id] = _why(error, batch)
    _cut_long_lines(s, batch)
    _name_deliveries(s, batch)
    _try_mapping(s, batch)
    staged.read(batch.fresh)
    batch.refused.update(_torn(s, batch))
    staged.show()
    batch.staged = staged


def stage_again(batch: Batch, absent: Mapping[str, tuple[str, ...]]) -> None:
    """Read the files of `absent` (by file_id) again; records lacking those columns do not fit."""
    assert batch.staged is not None
    for file_id, columns in absent.items():
        files = [each for each in batch.fresh if each.file_id == file_id]
        batch.staged.read_again(files, replace(batch.how, absent=columns))
    batch.staged.show()


def staged_folder(s: Session) -> Path:
    """The folder of staged records, which goes with the session."""
    folder = s.spill / "staged"
    folder.mkdir(exist_ok=True)
    return folder


def _name_deliveries(s: Session, batch: Batch) -> None:
    rows = [
        {
            "filename": str(batch.file(delivery)),
            "path": delivery.file.path,
            "file_id": delivery.file_id,
            "arrived_at": delivery.arrived_at,
            "snapshot_ds": delivery.file.delivered or min(delivery.ds, batch.night or date.max),
            "delivered": delivery.ds,
        }
        for delivery in batch.fresh
    ]
    s.con.register("delivery_rows", pa.Table.from_pylist(rows, schema=_DELIVERY))
    s.con.execute("CREATE OR REPLACE TEMP TABLE delivery AS SELECT * FROM delivery_rows")
    s.con.unregister("delivery_rows")


def _by_layout(batch: Batch, files: Sequence[Delivery]) -> dict[Layout, list[Delivery]]:
    groups: dict[Layout, list[Delivery]] = {}
    for delivery in files:
        if delivery.file_id in batch.layouts:
            groups.setdefault(batch.layouts[delivery.file_id], []).append(delivery)
    return groups


@dataclass
class _Staged:
    """The Parquet files of one batch; `old` are files of which only the second reading counts."""

    s: Session
    batch: Batch
    parts: list[str] = field(default_factory=list)
    parts_again: list[str] = field(default_factory=list)
    old: set[str] = field(default_factory=set)
    numbers: "count[int]" = field(default_factory=count)

    def read(self, files: Sequence[Delivery]) -> None:
        """Stage files, those of one layout together."""
        for layout, alike in _by_layout(self.batch, files).items():
            self.parts += self._read(layout, alike, self.batch.how)
        _keep_rejects(self.s)

    def read_again(self, files: Sequence[Delivery], how: How | None = None) -> None:
        """Stage files anew, in place of what was staged of them."""
        ids = [each.file_id for each in files]
        self.old |= set(ids)
        self.s.con.execute(f"DELETE FROM rejected WHERE list_contains({literal(ids)}, file_id)")
        for layout, alike in _by_layout(self.batch, files).items():
            self.parts_again += self._read(layout, alike, how or self.batch.how)
        _keep_rejects(self.s)

    def _read(self, layout: Layout, files: Sequence[Delivery], how: How) -> list[str]:
        """The parts made of files of one layout; if reading them together fails, one by one."""
        part = staged_folder(self.s) / f"{next(self.numbers)}.parquet"
        try:
            _copy(self.s, self.batch, layout, files, how, part)
        except duckdb.Error as error:
            part.unlink(missing_ok=True)
            if _is_ours(error):
                raise
            if len(files) == 1 and self._straighten(files[0], layout, error):
                return self._read(replace(layout, compression="none"), files, how)
            if len(files) == 1:
                self.batch.refused[files[0].file_id] = _why(error, self.batch)
                return []
            return [part for each in files for part in self._read(layout, [each], how)]
        return [str(part)]

    def _straighten(self, delivery: Delivery, layout: Layout, error: duckdb.Error) -> bool:
        """Make a copy of JSON lines that end now so, now so, to be read instead."""
        file_id, batch = delivery.file_id, self.batch
        if (
            "state machine" not in str(error)
            or layout.format != "jsonl"
            or batch.source.encoding == "utf-16"
            or file_id in batch.stand_ins
        ):
            return False
        straight = staged_folder(self.s) / f"{file_id}.text"
        end_lines_alike(batch.file(delivery), straight)
        batch.stand_ins[file_id] = straight
        batch.layouts[file_id] = replace(layout, compression="none")
        self.s.con.execute(
            "UPDATE delivery SET filename = ? WHERE file_id = ?", [str(straight), file_id]
        )
        return True

    def show(self) -> None:
        """Make what was read and not refused the view `staged`."""
        types = landed_columns(self.batch.dataset)
        nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in types.items())
        readings = [f"SELECT {nothing} WHERE false"]
        for parts, left_out in ((self.parts, self.old), (self.parts_again, set[str]())):
            if parts:
                ids = literal(sorted({*self.batch.refused, *left_out}))
                fits = f"NOT list_contains({ids}, file_id)" if ids != "[]" else "true"
                read = f"read_parquet({literal(parts)}, hive_partitioning = false)"
                readings.append(f"SELECT {', '.join(types)} FROM {read} WHERE {fits}")
        # Alone where it can be: a union hides how many rows there are from the planner.
        shown = readings[1:] or readings
        self.s.view("staged", " UNION ALL ".join(shown))


def _try_mapping(s: Session, batch: Batch) -> None:
    """Run the mapping's SQL on one empty record, so that no file is blamed for what it lacks.

    Raises SettingsError.
    """
    names = raw_columns(batch.source)
    nothing = ", ".join(f"NULL::VARCHAR AS {identifier(name)}" for name in names)
    probe = staged_folder(s) / "probe.parquet"
    s.con.execute(f"COPY (SELECT {nothing}) TO {literal(str(probe))} (FORMAT parquet)")
    layout = Layout("parquet", columns=tuple((name, "VARCHAR") for name in names))
    try:
        s.con.execute(landed_sql(batch.dataset, batch.source, layout, [str(probe)], batch.how))
    except duckdb.Error as error:
        raise _misread(error, batch.dataset) from error


def _misread(error: duckdb.Error, dataset: str) -> SettingsError:
    return SettingsError(
        f"the SQL of the mapping cannot be run: {str(error).splitlines()[0][:300]}",
        where=f"[{dataset}] expressions, rules or types of the mapping",
        unchanged="no table was changed; what was served stays served",
        fix="mend the SQL; a raw column that only SQL names goes into types, too",
    )


def _is_ours(error: duckdb.Error) -> bool:
    """Errors that are not the file's: memory and disk."""
    text = str(error)
    return isinstance(error, duckdb.OutOfMemoryException) or "No space left" in text


def _copy(
    s: Session, batch: Batch, layout: Layout, files: Sequence[Delivery], how: How, part: Path
) -> None:
    paths = [str(batch.file(delivery)) for delivery in files]
    select = landed_sql(batch.dataset, batch.source, layout, paths, how)
    # Read once and thrown away: packing it well would cost more than it saves.
    s.con.execute(f"COPY ({select}) TO {literal(str(part))} ({_PLAIN})")


def _why(error: Exception, batch: Batch) -> str:
    """One line, and no path of this machine: it stands in ops.files and in reports."""
    if "state machine" in str(error):
        return "its lines do not all end alike: LF, CRLF or CR"
    if batch.how.pseudonymises:  # the words of an error may quote an id
        return f"it cannot be read as the mapping says ({type(error).__name__})"
    text = " ".join(str(error).split()).replace(f"{batch.landing}/", "")
    return text[:300] or type(error).__name__


def _keep_rejects(s: Session) -> None:
    """Lines that DuckDB's reader could not take go to `rejected` (line as it counts)."""
    if s.value("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"):
        s.con.execute(
            "INSERT INTO rejected SELECT delivery.file_id, e.line, "
            "'not a record: ' || lower(replace(min(CAST(e.error_type AS VARCHAR)), '_', ' ')), "
            "trim(min(coalesce(e.csv_line, '')), chr(13) || chr(10)) "
            "FROM reject_errors AS e INNER JOIN reject_scans AS f USING (scan_id, file_id) "
            "INNER JOIN delivery ON delivery.filename = f.file_path "
            "GROUP BY delivery.file_id, e.line"
        )
    for name in ("reject_errors", "reject_scans"):
        s.con.execute(f"DROP TABLE IF EXISTS {name}")


def _cut_long_lines(s: Session, batch: Batch) -> None:
    """Read copies of files with lines that the reader would pass over in silence: cut ones."""
    for delivery in batch.fresh:
        layout = batch.layouts.get(delivery.file_id)
        if layout is None or layout.format == "parquet":
            continue
        try:
            if not has_long_line(batch.file(delivery)):
                continue
            short = staged_folder(s) / f"{delivery.file_id}.text"
            cut_lines(batch.file(delivery), short)
        except UNREADABLE as error:
            batch.refused[delivery.file_id] = _why(error, batch)
            del batch.layouts[delivery.file_id]
            continue
        batch.stand_ins[delivery.file_id] = short
        batch.layouts[delivery.file_id] = replace(layout, compression="none")


def _torn(s: Session, batch: Batch) -> dict[str, str]:
    """CSV files with a quote that is not closed on its line: it swallows records unseen."""
    rows = s.rows(
        "SELECT file_id, min(line) FROM rejected "
        "WHERE contains(reason, 'unquoted value') AND contains(text, chr(10)) GROUP BY file_id"
    )
    torn = {}
    for file_id, row in rows:
        delivery = next(each for each in batch.fresh if each.file_id == file_id)
        delimiter = batch.layouts[file_id].delimiter
        lines = lines_of(batch.file(delivery), batch.source, delimiter, {row}, 0)
        line = lines.rejected.get(row, row)
        torn[file_id] = f"the quote that opens on line {line} is not closed"
    return torn
