from pathlib import Path
from typing import Any

import pytest

from tasks.errors import SettingsError
from tasks.ingest.deliveries import mapping_hash
from tasks.mapping import SHIPPED, Mapping, load_mapping
from tasks.settings import check


def least() -> dict[str, Any]:
    """The smallest mapping that is one."""
    return {
        "name": "tiny",
        "behaviours": {"positives": {"click": 1}, "seen": ["click"]},
        "events": {
            "files": "*.jsonl",
            "format": "jsonl",
            "columns": {"user_id": "u", "item_id": "i"},
            "time": {"column": "t", "unit": "s"},
            "behaviour": {"always": "click"},
        },
    }


def with_(path: str, value: object) -> dict[str, Any]:
    table = least()
    at = table
    *parents, last = path.split(".")
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = value
    return table


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_shipped_mappings_are_valid(name: str) -> None:
    assert load_mapping(name).name == name


def with_impressions(**fields: object) -> dict[str, Any]:
    source = {
        "files": "shown/*.jsonl",
        "columns": {"request_id": "r", "user_id": "u", "item_id": "i"},
        "time": {"column": "t", "unit": "s"},
    }
    return with_("impressions", source | fields)


def test_random_policies_are_values_of_a_mapped_policy() -> None:
    assert check(Mapping, with_impressions(), where="here").impressions is not None
    named = {"request_id": "r", "user_id": "u", "item_id": "i", "policy": "p"}
    mapping = check(
        Mapping, with_impressions(random_policies=["dice"], columns=named), where="here"
    )
    assert mapping.impressions is not None
    assert mapping.impressions.random_policies == ("dice",)
    with pytest.raises(SettingsError, match="need it mapped"):
        check(Mapping, with_impressions(random_policies=["dice"]), where="here")


def test_naming_random_policies_reads_no_file_again() -> None:
    columns = {"request_id": "r", "user_id": "u", "item_id": "i", "policy": "p"}
    before, after = (
        check(Mapping, with_impressions(columns=columns, random_policies=named), where="here")
        for named in ([], ["dice"])
    )
    assert mapping_hash(before, "impressions") == mapping_hash(after, "impressions")


def test_the_least_mapping() -> None:
    mapping = check(Mapping, least(), where="here")
    assert list(mapping.sources()) == ["events"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("events.columns", {"user_id": "u"}, "item_id"),
        ("events.columns", {"user_id": "u", "item_id": "i", "colour": "c"}, "colour"),
        ("events.expressions", {"user_id": "1"}, "given twice"),
        ("events.time.unit", "fortnights", "unit"),
        ("events.time.zone", "Atlantis/Poseidonis", "no such time zone"),
        ("events.time.format", "%Y", "iso"),
        ("events.behaviour", {"column": "b"}, "exactly one"),
        ("events.behaviour", {"values": {"x": "click"}}, "column"),
        ("events.behaviour", {"always": "Click It"}, "behaviour"),
        ("events.arrived", {"path": "dt=(.*"}, "regular expression"),
        ("events.arrived", {"path": "dt="}, "one group"),
        ("events.arrived", {"path": "(a)", "column": {"column": "x"}}, "not both"),
        ("events.header", False, "csv only"),
        ("behaviours.seen", ["purchase"], "never gives"),
        ("behaviours.positives", {}, "positives"),
        ("behaviours.positives", {"click": 0}, "positives"),
        ("behaviours.holdout_days", 400, "shorter"),
        ("surprise", 1, "surprise"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        check(Mapping, with_(path, value), where="here")


def test_a_csv_without_header_needs_names() -> None:
    table = with_("events.format", "csv")
    table["events"]["header"] = False
    with pytest.raises(SettingsError, match="names"):
        check(Mapping, table, where="here")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="sample_shop"):
        load_mapping("nonsense")
    with pytest.raises(SettingsError, match="cannot read"):
        load_mapping(str(tmp_path / "absent.toml"))
