"""Databases attached to the one instance of the process keep to themselves."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import duckdb
import pytest

from tasks.lake import connection
from tasks.lake.connection import attached, reading


def databases() -> set[str]:
    with reading() as con:
        return {
            row[0] for row in con.sql("SELECT database_name FROM duckdb_databases()").fetchall()
        }


def test_what_is_made_in_one_is_in_no_other() -> None:
    before = databases()
    with attached() as one, attached() as two:
        for number, con in enumerate((one, two)):
            con.execute("CREATE SCHEMA clean")
            con.execute(f"CREATE VIEW clean.events AS SELECT {number} AS n")
            con.execute(f"CREATE TEMP TABLE sums AS SELECT {number} AS n")
        for number, con in enumerate((one, two)):
            assert con.sql("SELECT n FROM clean.events JOIN sums USING (n)").fetchall() == [
                (number,)
            ]
        with reading() as other, pytest.raises(duckdb.CatalogException):
            other.sql("SELECT * FROM clean.events").fetchall()
    assert databases() == before


def half_read(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE numbers AS SELECT range AS n FROM range(100000)")
    con.sql("SELECT * FROM numbers").to_arrow_reader(10).read_next_batch()
    raise ZeroDivisionError


def half_done(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("BEGIN")
    con.execute("CREATE TABLE a AS SELECT 1 AS n")
    con.execute("SELECT * FROM nowhere")


@pytest.mark.parametrize("work", [half_read, half_done])
def test_it_goes_whatever_became_of_the_work(
    work: Callable[[duckdb.DuckDBPyConnection], None],
) -> None:
    before = databases()
    with pytest.raises((ZeroDivisionError, duckdb.Error)), attached() as con:
        work(con)
    assert databases() == before


def test_threads_have_theirs() -> None:
    def work(number: int) -> int:
        with attached() as con:
            con.execute(f"CREATE TABLE t AS SELECT range AS n FROM range({number})")
            return int(con.sql("SELECT count(*) FROM t").fetchall()[0][0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(40))) == list(range(40))


def test_threads_that_are_the_first_of_a_process_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    n_threads, opened = 4, []
    at_once = Barrier(n_threads)

    def slowly(database: str) -> duckdb.DuckDBPyConnection:
        opened.append(database)
        time.sleep(0.1)  # until the others ask for one too
        return connect_to(database)

    connect_to = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", slowly)
    monkeypatch.setattr(connection, "_opened", cache(connection._opened.__wrapped__))

    def work(number: int) -> int:
        at_once.wait()
        with attached() as con:
            return int(con.sql(f"SELECT {number}").fetchall()[0][0])

    with ThreadPoolExecutor(n_threads) as pool:
        assert list(pool.map(work, range(n_threads))) == list(range(n_threads))
    assert len(opened) == 1
