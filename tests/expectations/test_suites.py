"""The suite files themselves: complete, well formed, and true to the catalogue."""

import json
import re
from typing import Any, get_args

import pytest

from expectations.catalogue import stored
from tasks.errors import SettingsError
from tasks.records import Severity
from tasks.validate import read_suite, suite_names
from tasks.validate.suites import FOLDER, SQL, Check

EMPTY_STOPS_THE_NIGHT = [
    "clean.events", "clean.items", "clean.users", "features.behaviours_daily",
    "features.item_propensities", "train.examples", "serve.active_users", "serve.eligible_items",
    "serve.candidates", "serve.recommendations",
]  # fmt: skip

every_suite = pytest.mark.parametrize("table", suite_names())


def columns_of(check: Check) -> set[str]:
    named = check.arguments.get("column_list") or check.arguments.get("column_set") or []
    return {*named, *([check.arguments["column"]] if "column" in check.arguments else [])}


def entries(table: str) -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / f"{table}.json").read_text()))


def test_every_stored_table_has_a_suite() -> None:
    assert set(suite_names()) == set(stored())


@every_suite
def test_entries_say_what_must_hold_and_how_bad_it_is(table: str) -> None:
    for check in read_suite(table):
        assert check.what[0].islower()
        assert not check.what.endswith(".")
        assert check.severity in get_args(Severity)


@every_suite
def test_what_must_hold_is_said_once(table: str) -> None:
    said = [check.what for check in read_suite(table)]
    assert sorted(set(said)) == sorted(said)


@every_suite
def test_it_starts_with_a_row_count(table: str) -> None:
    first = read_suite(table)[0]
    assert first.type == "ExpectTableRowCountToBeBetween"
    assert first.check_id == 1


@pytest.mark.parametrize("table", EMPTY_STOPS_THE_NIGHT)
def test_an_empty_table_stops_the_night(table: str) -> None:
    first = read_suite(table)[0]
    assert (first.severity, first.arguments["min_value"]) == ("critical", 1)


@every_suite
def test_columns_exist(table: str) -> None:
    known = set(stored()[table].column_names)
    for check in read_suite(table):
        assert columns_of(check) <= known, check.what


@every_suite
def test_the_column_set_is_the_catalogues(table: str) -> None:
    (check,) = [c for c in read_suite(table) if c.type == "ExpectTableColumnsToMatchSet"]
    assert check.arguments["column_set"] == list(stored()[table].column_names)
    assert check.arguments["exact_match"]
    assert check.severity == "critical"


@every_suite
def test_required_columns_are_checked(table: str) -> None:
    checked = {
        check.arguments["column"]
        for check in read_suite(table)
        if check.type == "ExpectColumnValuesToNotBeNull" and check.severity == "critical"
    }
    assert {c.name for c in stored()[table].columns if c.required} <= checked


@pytest.mark.parametrize("table", [name for name in suite_names() if stored()[name].key])
def test_the_key_is_checked(table: str) -> None:
    unique = [
        columns_of(check)
        for check in read_suite(table)
        if "Unique" in check.type and check.severity == "critical"
    ]
    assert set(stored()[table].key) in unique


@every_suite
def test_queries_name_views_of_the_nights_database(table: str) -> None:
    tables = set(stored())
    upto = {f"upto.{name.replace('.', '_')}" for name in tables}
    for check in read_suite(table):
        text = re.sub(r"'[^']*'", "", str(check.arguments.get(SQL, "")))
        named = set(re.findall(r"(?:FROM|JOIN)\s+([a-z]+\.[a-z_]+)", text))
        assert named <= tables | upto | {"night.facts", "upto.ops_drift"}, check.what


@every_suite
def test_queries_show_no_raw_value_as_observed(table: str) -> None:
    for check in read_suite(table):
        text = str(check.arguments.get(SQL, ""))
        counts_only = re.findall(r"(?:printf\('[^']*%d[^']*'[^']*\)|'no row') AS observed", text)
        assert len(counts_only) == text.count("AS observed")
        assert "%s" not in text


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        '{"what": "x"}',
        '[{"what": "x", "type": "T"}]',
        '[{"what": "x", "type": "T", "severity": "deadly"}]',
    ],
)
def test_a_malformed_suite_is_refused(
    text: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.validate.suites.FOLDER", tmp_path)
    (tmp_path / "clean.events.json").write_text(text)
    with pytest.raises(SettingsError, match="suite of clean"):
        read_suite("clean.events")


def test_a_table_without_a_suite_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"serve\.nothing"):
        read_suite("serve.nothing")
