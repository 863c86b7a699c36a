"""Rows in, rows out: every case of every `<table>.json` in this folder.

A case gives `parameters`, the tables that the SELECT reads, and the rows that it must make, in
order. Columns that a row does not name are null, or plain where the catalogue wants a value.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import sql
from expectations.catalogue import catalogue
from tests.sql.worlds import catalogue_name, empty_world, fill, filled, make_table, run, types_of

HERE = Path(__file__).parent
LAYERS = {
    "1_clean": "clean",
    "2_features": "features",
    "3_train": "train",
    "4_serve": "serve",
    "5_ops": "ops",
}
SELECTS = sorted(
    f"{layer}.{path.stem}"
    for folder, layer in LAYERS.items()
    for path in (sql.ROOT / folder).glob("*.sql")
)


def cases() -> list[Any]:
    return [
        pytest.param(path.stem, case, id=f"{path.stem}: {name}")
        for path in sorted(HERE.glob("*.json"))
        for name, case in json.loads(path.read_text(encoding="utf-8")).items()
    ]


def test_every_select_has_cases_and_every_case_a_select() -> None:
    assert sorted(path.stem for path in HERE.glob("*.json")) == SELECTS


def test_every_select_makes_a_table_of_the_catalogue() -> None:
    assert {catalogue_name(name) for name in SELECTS} <= set(catalogue())


@pytest.mark.parametrize(("name", "case"), cases())
def test_rows_in_rows_out(name: str, case: dict[str, Any]) -> None:
    table, ds = catalogue()[catalogue_name(name)], case["parameters"].get("ds", "2026-01-05")
    with empty_world() as con:
        fill(con, case["given"], ds, dataset=table.short_name)
        made = run(con, sql.read_table(name), case["parameters"])
        make_table(con, "expected", types_of(table.name), filled(table.name, case["expect"], ds))
        expected = con.table("expected")
        assert list(zip(made.columns, made.types, strict=True)) == list(
            zip(expected.columns, expected.types, strict=True)
        )
        rows, wanted = made.fetchall(), expected.fetchall()
    if table.kind == "view" or not table.sort_by:
        rows, wanted = sorted(rows, key=str), sorted(wanted, key=str)
    assert rows == wanted
