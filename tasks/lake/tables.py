"""Delta tables through delta-rs. One verb writes: replace partitions, through the version read.

By path alone, two read-modify-writes of one partition would both succeed and one be lost; through
the pinned version the second raises ConflictError, reads again and computes again.
"""

import hashlib
import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from expectations.catalogue import Table, catalogue
from tasks.errors import ConflictError, NightrankError, StorageError, on_one_line
from tasks.lake import opened
from tasks.lake.connection import reading
from tasks.lake.known import Known
from tasks.lake.literals import identifier, literal
from tasks.lake.opened import Opened
from tasks.places import Place, StorePath, entries
from tasks.records import TableVersion
from tasks.stores import UnclearError, refusal, told_again

Partition = dict[str, str | date | Sequence[str] | Sequence[date]]
ATTEMPTS = 8
_MARK = "writer"  # in the log: which writing made a version
_LOOKED_AT = 20  # versions that others may have made meanwhile
ABSENT = -1  # version of a table that nobody has made yet
_ROOM = "check memory, and space and permissions under paths.lake"
_NO_FILES = pa.table(
    {
        "path": pa.array([], pa.string()),
        "size_bytes": pa.array([], pa.int64()),
        "num_records": pa.array([], pa.int64()),
    }
)


@cache
def arrow_schema(name: str) -> pa.Schema:
    """The Arrow schema of a catalogue table; DuckDB's types decide."""
    table = catalogue()[name]
    columns = ", ".join(f"NULL::{column.type} AS {column.name}" for column in table.columns)
    with reading() as con:
        return con.sql(f"SELECT {columns} LIMIT 0").to_arrow_table().schema


@dataclass(frozen=True)
class Pinned:
    """One version of one table: what is read, and what a write must still find."""

    table: Table
    folder: Place
    version: int
    actions: pa.Table = field(compare=False)  # what the log says of every file
    known: Known | None = None  # of a borrowed table: what of it is shown

    def __str__(self) -> str:
        name = f"{self.table.name}@{self.version}"
        return name if self.known is None else f"{name}{self.known}"

    def files(self, keep: Callable[[dict[str, str]], bool] | None = None) -> list[str]:
        """Paths of the Parquet files, those of the partitions that `keep` takes."""
        # The log writes them relative to the folder, and escaped as a URL is.
        found = sorted(unquote(path) for path in self.actions.column("path").to_pylist())
        return [
            f"{self.folder}/{path}"
            for path in found
            if self._is_shown(path) and (keep is None or keep(partition_of(path)))
        ]

    def _is_shown(self, path: str) -> bool:
        return self.known is None or self.known.has_day(partition_of(path).get("ds"))

    def select(self, files: Sequence[str]) -> str:
        """A SELECT over these of its files, as far as their rows are shown."""
        text = scan(self.table, files)
        return text if self.known is None else self.known.select(text, self.table.column_names)

    def inputs(self) -> dict[date, list[str]]:
        """What the rows of each `ds` partition come from: equal texts, equal rows."""
        # Below their table: a lake that was moved is made of the same files.
        return {
            day: [
                *(path.removeprefix(str(self.folder)) for path in paths),
                *([] if self.known is None else self.known.marks(day)),
            ]
            for day, paths in self.days().items()
        }

    def partition(self, path: str) -> dict[str, str]:
        """The partition values of one of its files."""
        return partition_of(path.removeprefix(str(self.folder)))

    def days(self) -> dict[date, list[str]]:
        """The files of each `ds` partition."""
        by_day: dict[date, list[str]] = {}
        for path in self.files():
            by_day.setdefault(date.fromisoformat(self.partition(path)["ds"]), []).append(path)
        return by_day


def partition_of(path: str) -> dict[str, str]:
    """The partition values that a file's path below its table states."""
    parts = (part.split("=", 1) for part in path.split("/") if "=" in part)
    return {name: unquote(value) for name, value in parts}


def fingerprint(parts: Iterable[str]) -> str:
    """A short hash over texts, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


class Lender(Protocol):
    """Another lake, some of whose tables stand in for those of a lake: to read, never to write."""

    def lent(self, name: str) -> Pinned | None:
        """The table as it is lent; None where the borrower has its own."""


@dataclass(frozen=True)
class Lake:
    """The folder of tables. Nothing else builds a path to one.

    One that is `only_read` makes no table: an absent one is empty and has version -1.
    """

    root: Place
    lender: Lender | None = None
    only_read: bool = False

    def path(self, name: str) -> Place:
        """Where a table lies."""
        return self.root.absolute().joinpath(*name.split(".", 1))

    @staticmethod
    def schema(name: str) -> pa.Schema:
        """The Arrow schema of a table."""
        return arrow_schema(name)

    def pin(self, name: str) -> Pinned:
        """The newest version of a table, or the one that is lent; an absent one is made, empty."""
        lent = None if self.lender is None else self.lender.lent(name)
        if lent is not None:
            return lent
        table, folder = catalogue()[name], self.path(name)
        try:
            found = opened.newest(folder)
        except TableNotFoundError as error:
            if any(entries(folder, "**/*.parquet")):
                raise self._unreadable(name, error) from self._cause(error)
            found = Opened(ABSENT, _NO_FILES) if self.only_read else self._create(table)
        except (DeltaError, OSError) as error:
            raise self._unreadable(name, error) from self._cause(error)
        return Pinned(table, folder, found.version, found.actions)

    def _create(self, table: Table) -> Opened:
        folder = self.path(table.name)
        try:
            return opened.keep(folder, self._create_empty(table))
        except CommitFailedError:
            return opened.newest(folder)  # somebody else made it meanwhile
        except (DeltaError, OSError) as error:
            raise self._unwritable(table.name, error) from self._cause(error)

    def _create_empty(self, table: Table) -> DeltaTable:
        self.path(table.name).mkdir(parents=True, exist_ok=True)
        # No statistics on ids: min and max would keep an erased user's id in the log. Opening a
        # table replays its log since the last checkpoint: a short one keeps every night as cheap.
        measured = [c.name for c in table.columns if c.type in ("DATE", "TIMESTAMPTZ")]
        return DeltaTable.create(
            str(self.path(table.name)),
            storage_options=opened.options(self.path(table.name)),
            schema=arrow_schema(table.name),
            mode="ignore",
            partition_by=list(table.partition_by),
            configuration={
                "delta.dataSkippingStatsColumns": ",".join(measured),
                "delta.checkpointInterval": "10",
            },
        )

    def replace(self, pinned: Pinned, where: Partition, rows: Any) -> TableVersion:
        """Replace the partitions `where` names with `rows` (Arrow stream), all or nothing.

        Rows outside those partitions are refused. Raises ConflictError when another writer was
        first, StorageError when the table cannot be written, and an error of ours that the stream
        itself raised as it is.
        """
        table = pinned.table
        if pinned.known is not None:
            raise StorageError(
                f"{table.name} is borrowed: it is read and never written",
                where=str(self.root),
                unchanged=f"{table.name} is as it was",
                fix="report this as a defect of nightrank",
            )
        counter, mark = _Counter(), uuid.uuid4().hex
        try:
            delta = opened.taken(pinned.folder, pinned.version)
            write_deltalake(
                delta,
                counter.watch(rows, arrow_schema(table.name)),
                mode="overwrite",
                predicate=_predicate(where),
                partition_by=list(table.partition_by),
                writer_properties=writing(table.name),
                commit_properties=CommitProperties(custom_metadata={_MARK: mark}),
            )
        except CommitFailedError as error:
            ours = self._committed(table.name, mark)
            if ours is None:
                raise ConflictError(
                    f"another writer changed {table.name} first",
                    where=str(self.path(table.name)),
                    unchanged=f"{table.name} is as the other writer left it",
                    fix="run the command again",
                ) from self._cause(error)
            delta = ours
        except (DeltaError, OSError) as error:
            if counter.stopped_by is not None:
                raise self._stopped(table.name, counter.stopped_by) from None
            raise self._unwritable(table.name, error) from self._cause(error)
        written = opened.keep(pinned.folder, delta)
        return TableVersion(table.name, written.version, counter.rows, counter.bytes)

    def _committed(self, name: str, mark: str) -> DeltaTable | None:
        """The version that a writer made, whom a store then told that it had come too late.

        So it is where the answer to a commit was lost, and the commit was sent again. Without this
        rows that are appended would be there twice.
        """
        folder = self.path(name)
        if not isinstance(folder, StorePath):
            return None
        try:
            history = opened.table(folder).history(_LOOKED_AT)
            made = [entry["version"] for entry in history if entry.get(_MARK) == mark]
            return opened.table(folder, made[0]) if made else None
        except (DeltaError, OSError) as error:
            raise self._unwritable(name, error) from None

    def rewrite(self, name: str, where: Partition, make: Callable[[Pinned], Any]) -> TableVersion:
        """Read-modify-write: `make` turns the pinned version into rows; a conflict reads again."""
        for attempt in range(1, ATTEMPTS + 1):
            pinned = self.pin(name)
            try:
                return self.replace(pinned, where, make(pinned))
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2**attempt))
        raise AssertionError("unreachable")

    def put(self, name: str, partition: Partition, rows: list[dict[str, Any]]) -> TableVersion:
        """Replace one partition with a few rows."""
        table = pa.Table.from_pylist(rows, schema=arrow_schema(name))
        return self.rewrite(name, partition, lambda _: table)

    def append(self, name: str, partition: Partition, rows: list[dict[str, Any]]) -> TableVersion:
        """Add a few rows to one partition of a log; the partition stays one file."""

        def with_new_rows(pinned: Pinned) -> pa.Table:
            old = self.rows(pinned, partition)
            new = pa.Table.from_pylist(rows, schema=arrow_schema(name))
            return pa.concat_tables([old, new])

        return self.rewrite(name, partition, with_new_rows)

    def rows(self, pinned: Pinned, partition: Partition) -> pa.Table:
        """The rows of one partition of a small table."""
        schema = arrow_schema(pinned.table.name)
        wanted = {name: str(value) for name, value in partition.items()}
        files = pinned.files(lambda found: all(found[name] == wanted[name] for name in wanted))
        if not files:
            return schema.empty_table()
        with reading() as con:
            return con.sql(pinned.select(files)).to_arrow_table().cast(schema)

    def _unreadable(self, name: str, error: Exception) -> StorageError:
        refused = self._refused(name, error)
        if refused is not None and not isinstance(refused, UnclearError):
            return refused
        words = _words(error)
        if refused is not None:
            words = f"its log is not whole, or {refused.what}"
        return StorageError(
            f"cannot read {name}: {words}",
            where=str(self.path(name)),
            unchanged="nothing was written",
            fix="check that the folder can be read and holds a whole Delta table, _delta_log too; "
            "restore it from a copy, or remove the whole folder of a table of features or train: "
            "the next night makes it anew",
        )

    def _cause(self, error: Exception) -> Exception | None:
        """What a traceback may quote: nothing that a store answered."""
        return None if isinstance(self.root, StorePath) else error

    def _refused(self, name: str, error: Exception) -> StorageError | None:
        """What a store refused, if the lake is on one; none of its own words."""
        folder = self.path(name)
        told = error if isinstance(error, StorageError) else told_again(error)
        if told is not None or not isinstance(folder, StorePath):
            return told
        return refusal(error, folder.reached, str(folder))

    def _stopped(self, name: str, error: Exception) -> NightrankError:
        """What stopped the rows of a write: no words of the writer's, nor of the store's."""
        told = error if isinstance(error, NightrankError) else told_again(error)
        return told or self._unwritten(name, _words(error))

    def _unwritable(self, name: str, error: Exception) -> StorageError:
        refused = self._refused(name, error)
        if refused is not None and not isinstance(refused, UnclearError):
            return refused
        if refused is None:
            return self._unwritten(name, _words(error))
        words = f"memory or open files ran out here, or {refused.what}"
        return self._unwritten(name, words, f"look at this machine's limits; {refused.fix}")

    def _unwritten(self, name: str, words: str, fix: str = _ROOM) -> StorageError:
        return StorageError(
            f"cannot write {name}: {words}",
            where=str(self.path(name)),
            unchanged=f"{name} keeps its last version, and what was served stays served",
            fix=f"{fix}, then run the command again",
        )


def _words(error: Exception) -> str:
    """What it says, or its kind where it says nothing."""
    return on_one_line(error) or type(error).__name__


def scan(table: Table, files: Sequence[str]) -> str:
    """A SELECT over exactly these files; without files, an empty relation of the same columns."""
    if not files:
        columns = ", ".join(f"NULL::{c.type} AS {identifier(c.name)}" for c in table.columns)
        return f"SELECT {columns} WHERE false"
    types = {column.name: column.type for column in table.columns}
    hive = ", ".join(f"{identifier(name)}: {types[name]}" for name in table.partition_by)
    columns = ", ".join(identifier(name) for name in table.column_names)
    return (
        f"SELECT {columns} FROM read_parquet({literal(list(files))}, "
        f"hive_partitioning = true, hive_types = {{{hive}}})"
    )


@cache
def writing(name: str) -> WriterProperties:
    """How a table's files are written."""
    table = catalogue()[name]
    # A dictionary of values that hardly repeat costs half the time of a write and saves nothing,
    # and the smallest and largest of ids help no reader.
    number = ColumnProperties(dictionary_enabled=False)
    text = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    varied = {
        column.name: text if column.type == "VARCHAR" else number
        for column in table.columns
        if column.is_varied
    }
    return WriterProperties(compression="ZSTD", column_properties=varied or None)


def _predicate(where: Partition) -> str:
    clauses = []
    for name, value in where.items():
        values = [value] if isinstance(value, str | date) else list(value)
        listed = ", ".join("'" + str(each).replace("'", "''") + "'" for each in values)
        clauses.append(f"{name} IN ({listed})")
    return " AND ".join(clauses)


class _Counter:
    """Counts rows and bytes of a stream while it passes by."""

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.stopped_by: Exception | None = None  # the writer would tell its words alone

    def watch(self, rows: Any, schema: pa.Schema) -> pa.RecordBatchReader:
        reader = rows.to_reader() if isinstance(rows, pa.Table) else rows
        return pa.RecordBatchReader.from_batches(schema, self._pass_by(reader, schema))

    def _pass_by(
        self, reader: Iterable[pa.RecordBatch], schema: pa.Schema
    ) -> Iterable[pa.RecordBatch]:
        try:
            for batch in reader:
                self.rows += batch.num_rows
                self.bytes += batch.nbytes
                yield batch.select(schema.names).cast(schema)
        except Exception as error:
            self.stopped_by = error
            raise
