"""Contracts per column: new, missing and changed ones; what is seen, and how it drifts."""

from typing import Any

import pytest

import sql
from tasks.errors import SourceError
from tasks.ingest import columns
from tests.tasks.ingest.conftest import DATED, NewShop, Row, TinyShop, event, jsonl_events, lines

WITH_VALUE = {"event_id": "id", "user_id": "u", "item_id": "i", "value": "v"}


def with_contract(new_shop: NewShop, contract: Row, **source: Any) -> TinyShop:
    events = jsonl_events(columns=WITH_VALUE, contract=contract, files="events/**/*", format="auto")
    return new_shop(sources={"events": events | source})


def stopped(tiny: TinyShop) -> str:
    """What the contract says when it stops; nothing may have been written."""
    with pytest.raises(SourceError) as caught:
        tiny.ingest()
    assert tiny.events() == []
    assert tiny.counts() == {}
    return caught.value.what


def test_new_columns_are_ignored_by_default(new_shop: NewShop) -> None:
    tiny = with_contract(new_shop, {})
    tiny.land("events/a.jsonl", lines(event(1, colour="red")))
    tiny.ingest()
    assert tiny.events("event_id, extra") == [("e1", None)]


def test_new_columns_can_be_kept(new_shop: NewShop) -> None:
    tiny = with_contract(new_shop, {"new": "evolve"}, ignored=["secret"])
    tiny.land(
        "events/a.jsonl", lines(event(1, colour="red", secret="s"), event(2), event(3, x=[1]))
    )
    tiny.land("events/b.csv", "id,u,i,b,t,size,none\ne4,anna,tea,click,1767614400,XL,\n")
    tiny.ingest()
    assert tiny.events("event_id, extra") == [
        ("e1", '{"colour":"red"}'), ("e2", None), ("e3", '{"x":[1]}'), ("e4", '{"size":"XL"}'),
    ]  # fmt: skip
    assert tiny.query("SELECT extra->>'colour' FROM clean.events WHERE event_id = 'e1'") == [
        ("red",)
    ]


def test_new_columns_can_stop_the_night(new_shop: NewShop) -> None:
    tiny = with_contract(new_shop, {"new": "stop"}, ignored=["secret"])
    tiny.land("events/a.jsonl", lines(event(1, secret=1), event(2, colour="red")))
    assert "new column colour in 1 record(s) of 1 file(s)" in stopped(tiny)


@pytest.mark.parametrize("path", ["events/a.jsonl", "events/a.csv"])
def test_a_missing_column_is_null_or_stops_or_sends_its_file_to_quarantine(
    new_shop: NewShop, path: str
) -> None:
    content = {
        "events/a.jsonl": lines(event(1), event(2)),
        "events/a.csv": "id,u,i,b,t\ne1,anna,tea,click,1767614400\ne2,anna,tea,click,1767614400\n",
    }[path]
    good = lines(event(3, v=1), event(4))
    for contract, n_clean in (({}, 4), ({"missing": {"value": "quarantine"}}, 2)):
        tiny = with_contract(new_shop, contract)
        tiny.land(path, content)
        tiny.land("events/good.jsonl", good)
        tiny.ingest()
        assert len(tiny.events()) == n_clean
        assert {row[2] for row in tiny.misfits()} <= {"missing column: v"}
        assert tiny.counts()[path][0] == "ingested"
    tiny = with_contract(new_shop, {"missing": {"value": "stop"}})
    tiny.land(path, content)
    assert f"{path} has no column v (value)" in stopped(tiny)


def test_a_column_that_is_null_everywhere_is_not_missing(new_shop: NewShop) -> None:
    tiny = with_contract(new_shop, {"missing": {"value": "stop"}})
    tiny.land("events/a.jsonl", '{"id":"e1","u":"a","i":"b","b":"click","t":1767614400,"v":null}\n')
    tiny.ingest()
    assert len(tiny.events()) == 1


def test_a_changed_type_goes_to_quarantine_or_stops(new_shop: NewShop) -> None:
    for contract in ({}, {"changed": {"value": "stop"}}):
        tiny = with_contract(new_shop, contract)
        tiny.land("events/a.jsonl", lines(event(1, v="dear"), event(2, v=1)))
        if contract:
            assert "v changed its type in 1 record(s) of 1 file(s)" in stopped(tiny)
        else:
            tiny.ingest()
            assert [row[2] for row in tiny.misfits()] == ["wrong type: v is no DOUBLE"]


def seen(tiny: TinyShop) -> list[Any]:
    return tiny.query(
        "SELECT raw_column, raw_type, is_mapped, n_records, n_looked_at FROM ops.columns "
        "ORDER BY ALL"
    )


def test_columns_are_counted_by_type(new_shop: NewShop) -> None:
    tiny = with_contract(new_shop, {})
    row = {"a/b": True, "c~d": None, "e": [1], "f": {"g": 1}, "v": 2.5}
    tiny.land("events/a.jsonl", lines(event(1, **row), event(2, v="x"), "{", event(3, b=None)))
    tiny.ingest()
    assert seen(tiny) == [
        ("a/b", "boolean", False, 1, 3),
        ("b", "text", True, 2, 3),
        ("e", "list", False, 1, 3),
        ("f", "object", False, 1, 3),
        ("i", "text", True, 3, 3),
        ("id", "text", True, 3, 3),
        ("t", "number", True, 3, 3),
        ("u", "text", True, 3, 3),
        ("v", "number", True, 1, 3),
        ("v", "text", True, 1, 3),
    ]


def test_of_much_data_a_share_is_looked_at(
    new_shop: NewShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = with_contract(new_shop, {})
    tiny.land("events/a.jsonl", lines(*(event(n) for n in range(4000))))
    monkeypatch.setattr(columns, "LOOKED_AT", 20_000)
    tiny.ingest()
    n_records, n_looked_at = next(row[3:] for row in seen(tiny) if row[0] == "id")
    assert 200 < n_looked_at < 1000
    assert 0.7 < n_records / 4000 < 1.3


def test_drift_compares_dates_of_delivery(new_shop: NewShop) -> None:
    events = jsonl_events(columns=WITH_VALUE, arrived=DATED)
    tiny = new_shop(sources={"events": events})
    tiny.land("events/dt=2026-01-05/a.jsonl", lines(event(1, v=1, old=1)))
    tiny.ingest()
    tiny.land("events/dt=2026-01-06/a.jsonl", lines(event(2, v="2", new=1), event(3, v=3)))
    tiny.ingest()
    drift = f"SELECT raw_column, change, types_now, n_now FROM ({sql.read_table('ops.drift')})"
    assert tiny.query(f"{drift} ORDER BY ALL") == [
        ("new", "new", "number", 1), ("old", "missing", None, 0),
        ("v", "changed type", "number, text", 2),
    ]  # fmt: skip
