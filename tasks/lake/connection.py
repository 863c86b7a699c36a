"""Ways to open DuckDB: in UTC, never reaching out for an extension.

All of a process share one instance in memory, for opening one takes ten times as long as attaching
a database to it, and a night would open fifty.
"""

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from threading import Lock

import duckdb

from tasks.errors import StorageError, on_one_line
from tasks.lake.fetched import read_stores
from tasks.lake.literals import literal
from tasks.scratch import scratch
from tasks.stores import told_again

_numbers = count(1)
_opening = Lock()


def _shared() -> duckdb.DuckDBPyConnection:
    # Threads that ask at once would each open one, and look in the last for what is in the first.
    with _opening:
        return _opened()


@cache
def _opened() -> duckdb.DuckDBPyConnection:
    con = _set_up(duckdb.connect(":memory:"))
    until_exit = ExitStack()
    atexit.register(until_exit.close)
    spill = until_exit.enter_context(scratch("spill"))
    con.execute(f"SET temp_directory = {literal(str(spill))}")
    con.execute("SET allocator_flush_threshold = '8MB'")  # the instance outlives its queries
    con.execute("SET allocator_bulk_deallocation_flush_threshold = '8MB'")
    con.execute("SET enable_external_file_cache = false")  # the system caches files already
    return con


@contextmanager
def reading() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to read few rows with; nothing may be created in it."""
    con = _set_up(_shared().cursor())
    try:
        yield con
    finally:
        con.close()


@contextmanager
def attached() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a database of its own, in memory and empty.

    Settings of memory, threads and spilling hold for all of the process.
    """
    name = f"database_{next(_numbers)}"
    with reading() as con:
        con.execute(f"ATTACH ':memory:' AS {name}")
    try:
        with reading() as con:
            con.execute(f"USE {name}")
            yield con
    finally:
        with reading() as con:
            con.execute(f"DETACH {name}")


@contextmanager
def connect(
    database: Path | None = None, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an instance of its own that closes itself; by default it lives in memory."""
    con = duckdb.connect(str(database or ":memory:"), read_only=read_only)
    try:
        yield _set_up(con)
    finally:
        con.close()


def _set_up(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")
    read_stores(con)
    return con


@contextmanager
def as_storage_errors(where: str) -> Iterator[None]:
    """Tell what DuckDB could not do as an error of ours; what a store told it as it was told."""
    try:
        yield
    except duckdb.Error as error:
        if (told := told_again(error)) is not None:
            raise told from None
        raise StorageError(
            f"DuckDB: {on_one_line(error)}",
            where=where,
            unchanged="no release was made; what was served stays served",
            fix="if memory ran out, raise compute.memory_limit; if a file is missing, restore it",
        ) from error
