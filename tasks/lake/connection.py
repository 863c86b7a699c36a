"""One way to open DuckDB: in memory, in UTC, never reaching out for an extension."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb

from tasks.errors import StorageError, on_one_line


@cache
def _in_memory() -> duckdb.DuckDBPyConnection:
    return _set_up(duckdb.connect(":memory:"))


@contextmanager
def reading() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to read few rows with; nothing may be created in it.

    All of a process share one database, for opening one takes ten times as long as such a read.
    """
    con = _set_up(_in_memory().cursor())
    try:
        yield con
    finally:
        con.close()


@contextmanager
def connect(
    database: Path | None = None, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that closes itself; without `database` it lives in memory."""
    con = duckdb.connect(str(database or ":memory:"), read_only=read_only)
    try:
        yield _set_up(con)
    finally:
        con.close()


def _set_up(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")
    return con


@contextmanager
def as_storage_errors(where: str) -> Iterator[None]:
    """Tell what DuckDB could not do as an error of ours."""
    try:
        yield
    except duckdb.Error as error:
        raise StorageError(
            f"DuckDB: {on_one_line(error)}",
            where=where,
            unchanged="no release was made; what was served stays served",
            fix="if memory ran out, raise compute.memory_limit; if a file is missing, restore it",
        ) from error
