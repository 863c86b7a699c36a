"""A DuckDB session of one stage: its inputs are views over pinned versions, its output a stream."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from expectations.catalogue import LAYERS
from tasks.errors import StorageError
from tasks.lake.connection import attached, connect
from tasks.lake.literals import Value, identifier, literal, render
from tasks.lake.tables import Lake, Pinned
from tasks.scratch import scratch
from tasks.settings import Compute

T = TypeVar("T")

BATCH_ROWS = 65_536
_OUT_OF_MEMORY = "Out of Memory Error"  # how DuckDB begins to say so


class Session:
    """A connection, the versions that it reads, and the parameters of its SQL."""

    def __init__(
        self, lake: Lake, con: duckdb.DuckDBPyConnection, spill: Path, compute: Compute
    ) -> None:
        self.lake = lake
        self.con = con
        self.spill = spill
        self.compute = compute
        self.pins: dict[str, Pinned] = {}

    def read(
        self,
        name: str,
        *,
        since: date | None = None,
        upto: date | None = None,
        newest: bool = False,
    ) -> Pinned:
        """Make `name` a view over its `ds` partitions since..upto.

        The version that the session read first stays its version, unless `newest`.
        """
        pinned = self.pins.get(name)
        if pinned is None or newest:
            pinned = self.lake.pin(name)
        self.pins[name] = pinned
        self.view(name, pinned.select(pinned.files(_between(since, upto))))
        return pinned

    def read_pinned(self, pinned: Pinned, days: Collection[date]) -> None:
        """Make the table a view over the `ds` partitions of these days, at this version."""
        self.pins[pinned.table.name] = pinned
        wanted = {str(day) for day in days}
        files = pinned.files(lambda partition: partition["ds"] in wanted)
        self.view(pinned.table.name, pinned.select(files))

    @contextmanager
    def at_most(self, mib: int) -> Iterator[None]:
        """Hold DuckDB to less memory for a while, for work that fills whatever it is given."""
        self.con.execute(f"SET memory_limit = '{min(mib, self.compute.memory_mib)}MiB'")
        try:
            yield
        finally:
            self.con.execute(f"SET memory_limit = {literal(self.compute.memory_limit)}")

    def in_half(self, work: Callable[[], T]) -> T:
        """Do some work in half of the memory; anew in all of it where half is too little.

        For sorts, which hardly ask for more: it spares what stands beside DuckDB in the process.
        """
        try:
            with self.at_most(self.compute.memory_mib // 2):
                return work()
        except (duckdb.OutOfMemoryException, StorageError) as error:
            # Found while rows are written, it comes as the writer's error, and only its words tell.
            if _OUT_OF_MEMORY not in str(error):
                raise
        return work()

    def view(self, name: str, select: str) -> None:
        """Make `layer.name` a view of a SELECT."""
        self.con.execute(f"CREATE OR REPLACE VIEW {name} AS {select}")

    def stream(self, sql: str, parameters: Mapping[str, Value] | None = None) -> Any:
        """Run a SELECT and hand its rows on as Arrow batches."""
        return self.con.sql(render(sql, parameters or {})).to_arrow_reader(BATCH_ROWS)

    def streams(self, queries: Sequence[str]) -> pa.RecordBatchReader:
        """Run SELECTs of the same columns one after another, as one stream of Arrow batches."""
        first = self.con.sql(queries[0]).to_arrow_reader(BATCH_ROWS)

        def batches() -> Iterator[pa.RecordBatch]:
            yield from first
            for query in queries[1:]:
                yield from self.stream(query)

        return pa.RecordBatchReader.from_batches(first.schema, batches())

    def rows(self, sql: str, parameters: Mapping[str, Value] | None = None) -> list[Any]:
        """Run a SELECT that gives few rows."""
        return self.con.sql(render(sql, parameters or {})).fetchall()

    def value(self, sql: str, parameters: Mapping[str, Value] | None = None) -> Any:
        """Run a SELECT that gives one value."""
        return self.rows(sql, parameters)[0][0]


def _between(since: date | None, upto: date | None) -> Callable[[dict[str, str]], bool]:
    first, last = str(since or date.min), str(upto or date.max)
    return lambda partition: "ds" not in partition or first <= partition["ds"] <= last


@contextmanager
def session(lake: Lake, compute: Compute) -> Iterator[Session]:
    """Open a session that stays within its memory and spills into a folder of its own."""
    with scratch("session") as spill, attached() as con:
        con.execute(f"SET memory_limit = {literal(compute.memory_limit)}")
        con.execute(f"SET threads = {compute.threads}" if compute.threads else "RESET threads")
        for layer in LAYERS:
            con.execute(f"CREATE SCHEMA {layer}")
        yield Session(lake, con, spill, compute)


def write_views(target: Path, views: Mapping[str, str]) -> None:
    """Write a DuckDB file that holds nothing but views; `views` maps `schema.name` to a SELECT.

    Written in an older storage version, so that clients older than ours can read it.
    """
    target.unlink(missing_ok=True)
    # Not in the instance of the process: there the file would stay open, its views in a log beside
    # it, as long as another thread has a look at all databases.
    with connect() as con:
        con.execute(f"ATTACH {literal(str(target))} AS made (STORAGE_VERSION 'v1.5.0')")
        con.execute("USE made")
        for schema in sorted({name.split(".", 1)[0] for name in views}):
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
        for name, select in views.items():
            schema, short_name = name.split(".", 1)
            con.execute(f"CREATE VIEW {identifier(schema)}.{identifier(short_name)} AS {select}")
        con.execute("USE memory")
        con.execute("DETACH made")
