import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest

from expectations.catalogue import catalogue
from tasks.lake.connection import connect
from tasks.lake.session import write_views
from tasks.lake.tables import Lake
from tasks.lake.warehouse import is_fresh, no_window, rebuild, views, warehouse_path
from tests.disk import on_disk
from tests.tasks.lake.test_tables import MONDAY, night


def test_every_table_of_the_catalogue_is_a_view_of_its_columns(tmp_path: Path) -> None:
    """But those that change while runs go on: the file of views would be behind them at once."""
    lake = Lake(tmp_path)
    rebuild(lake, no_window())
    with connect(on_disk(warehouse_path(lake)), read_only=True) as con:
        for name, table in catalogue().items():
            if table.kind != "state":
                assert con.sql(f"FROM {name}").columns == list(table.column_names), name
        assert con.sql("FROM duckdb_views() WHERE view_name = 'leases'").fetchall() == []
        assert con.sql("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def test_views_are_fresh_until_a_table_or_the_window_changes(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert not is_fresh(lake, no_window())
    rebuild(lake, no_window())
    assert is_fresh(lake, no_window())
    assert not is_fresh(lake, {"ds": date(2026, 1, 6), "since": MONDAY})
    lake.append("ops.nights", {"ds": MONDAY}, [night("a")])
    assert not is_fresh(lake, no_window())


def test_a_damaged_file_of_views_is_not_fresh(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rebuild(lake, no_window())
    warehouse_path(lake).write_bytes(b"not a database")
    assert not is_fresh(lake, no_window())
    rebuild(lake, no_window())
    assert is_fresh(lake, no_window())


def test_a_reader_keeps_its_version_while_the_file_is_swapped(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append("ops.nights", {"ds": MONDAY}, [night("a")])
    rebuild(lake, no_window())
    with connect(on_disk(warehouse_path(lake)), read_only=True) as old:
        lake.append("ops.nights", {"ds": MONDAY}, [night("b")])
        rebuild(lake, no_window())
        assert old.sql("SELECT count(*) FROM ops.nights").fetchall() == [(1,)]
    with connect(on_disk(warehouse_path(lake)), read_only=True) as new:
        assert new.sql("SELECT count(*) FROM ops.nights").fetchall() == [(2,)]


def test_two_processes_read_it_at_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rebuild(lake, no_window())
    question = (
        f"import duckdb; print(duckdb.connect({str(warehouse_path(lake))!r}, read_only=True)"
        ".sql('SELECT count(*) FROM serve.current').fetchall())"
    )
    with duckdb.connect(str(warehouse_path(lake)), read_only=True) as con:
        assert con.sql("SELECT count(*) FROM serve.current").fetchall() == [(0,)]
        told = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
        assert told.stdout.strip() == "[(0,)]", told.stderr


# Two files take the name in turn. Not forked: that would take over locks of threads of this one.
SWAPS = """
import itertools, os, sys
for turn in itertools.count(1):
    os.link(f"{turn % 2}", "next")
    os.replace("next", sys.argv[1])
"""


def test_it_opens_whole_while_files_take_its_name(tmp_path: Path) -> None:
    """Of sizes that differ: blocks that the header of the one tells of are not in the other."""
    lake, sizes = Lake(tmp_path), (3, 400)
    target = on_disk(warehouse_path(lake))
    for turn, n in enumerate(sizes):
        made = {f"s.v{each}": f"SELECT '{'x' * 900}' AS a" for each in range(n)}
        write_views(target.with_name(f"{turn}"), made)
    os.link(target.with_name("0"), target)
    swapping = subprocess.Popen([sys.executable, "-c", SWAPS, target.name], cwd=target.parent)
    try:
        for _ in range(25):
            with views(lake) as con:
                found = con.sql("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
            assert found[0][0] in sizes
        assert swapping.poll() is None
    finally:
        swapping.kill()
        swapping.wait()


def test_it_cannot_be_written_through(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rebuild(lake, no_window())
    with (
        connect(on_disk(warehouse_path(lake)), read_only=True) as con,
        pytest.raises(duckdb.InvalidInputException),
    ):
        con.execute("CREATE TABLE x (y INTEGER)")


def test_a_lake_that_was_moved_is_not_fresh(tmp_path: Path) -> None:
    rebuild(Lake(tmp_path / "here"), no_window())
    (tmp_path / "here").rename(tmp_path / "there")
    assert not is_fresh(Lake(tmp_path / "there"), no_window())
