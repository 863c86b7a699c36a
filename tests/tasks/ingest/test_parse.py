"""Each way in which a field fits or does not, in JSON lines and in CSV."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.ingest.parse import time_sql
from tasks.lake.connection import connect
from tasks.lake.literals import literal
from tasks.mapping import Time
from tests.tasks.ingest.conftest import NOON, Row, TinyShop, csv_events, event, jsonl_events, lines

IMPRESSIONS: Row = {
    "files": "impressions/*.jsonl",
    "format": "jsonl",
    "columns": {
        "request_id": "r",
        "user_id": "u",
        "item_id": "i",
        "is_shown": "shown",
        "position": "pos",
        "p_logged": "p",
    },
    "time": {"column": "t", "unit": "s"},
}
ITEMS: Row = {
    "files": "items/*.csv",
    "format": "csv",
    "columns": {"item_id": "i", "price": "p", "available_from": "d", "is_in_stock": "s"},
}
EVENTS: list[tuple[Row | str, str | None]] = [
    (event(1), None),
    (event(2, u=7, i=True), None),
    (event(3, v="3.5"), None),
    (event(4, v="1e3"), None),
    (event(5, v=""), None),
    (event(6, id=None), None),
    (event(7, extra={"a": [1]}), None),
    (event(8, u="[sic] {anna}"), None),
    (event(9, v=None), None),
    ("{broken", "not a JSON object"),
    ("[1, 2]", "not a JSON object"),
    ('"text"', "not a JSON object"),
    ('{"u": "a"} {"u": "b"}', "not a JSON object"),
    ('{"u": "\\ud800"}', "not a JSON object"),
    (event(10, u=None), "missing field: u"),
    (event(11, u=""), "missing field: u"),
    (event(12, i=None), "missing field: i"),
    (event(13, u={"name": "anna"}), "wrong type: u is no text"),
    (event(14, i=["tea"]), "wrong type: i is no text"),
    (event(15, v="dear"), "wrong type: v is no DOUBLE"),
    (event(16, v="1,5"), "wrong type: v is no DOUBLE"),
    (event(17, v="NaN"), "not finite: v"),
    (event(18, v="-inf"), "not finite: v"),
    ('{"u": "a", "i": "b", "b": "click", "t": 1767614400, "v": NaN}', "not finite: v"),
    ('{"u": "a", "i": "b", "b": "click", "t": 1767614400, "v": 1e999}', "not finite: v"),
    (event(19, t=None), "missing field: t"),
    (event(20, t=""), "missing field: t"),
    (event(21, t="noon"), "wrong type: t is no time"),
    (event(22, t="NaN"), "wrong type: t is no time"),
    (event(23, t=1e30), "wrong type: t is no time"),
    (event(24, t=-1), "out of range: t is before 1970"),
    (event(25, t=NOON + 400 * 86400), "in the future: t is after the arrival"),
    (event(26, t=NOON * 1000), "wrong type: t is no time"),
    (event(27, b=None), "missing field: b"),
    (event(28, b="teleport"), "unknown behaviour: b"),
    (event(29, b="Click"), "unknown behaviour: b"),
    ("é" * 600, "not a JSON object"),
]
SHOWN: list[tuple[Row, str | None]] = [
    ({}, None),
    ({"shown": False, "pos": None, "p": 1.0}, None),
    ({"shown": "maybe"}, "wrong type: shown is no BOOLEAN"),
    ({"pos": 0}, "out of range: pos is below 1"),
    ({"pos": 3_000_000_000}, "out of range: pos is above 2147483647"),
    ({"pos": "first"}, "wrong type: pos is no BIGINT"),
    ({"p": 0}, "out of range: p is not above 0 and at most 1"),
    ({"p": 1.01}, "out of range: p is not above 0 and at most 1"),
    ({"p": "nan"}, "not finite: p"),
    ({"r": None}, "missing field: r"),
]
GOODS: list[tuple[str, str | None]] = [
    ("tea,3.5,2026-01-05,true", None),
    ("oil,,,", None),
    (",1,,", "missing field: i"),
    ("a,free,,", "wrong type: p is no DOUBLE"),
    ("b,inf,,", "not finite: p"),
    ("c,1,tomorrow,", "wrong type: d is no DATE"),
    ("d,1,infinity,", "out of range: d is not in the years 1 to 9999"),
    ("e,1,5000000-01-01,", "out of range: d is not in the years 1 to 9999"),
    ("f,1,0044-03-15 (BC),", "out of range: d is not in the years 1 to 9999"),
    ("g,1,,perhaps", "wrong type: s is no BOOLEAN"),
]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> TinyShop:
    events = jsonl_events()
    events["columns"] = events["columns"] | {"value": "v"}
    sources = {"events": events, "impressions": IMPRESSIONS, "items": ITEMS}
    tiny = TinyShop(tmp_path_factory.mktemp("shop"), sources)
    tiny.land("events/a.jsonl", lines(*(row for row, _ in EVENTS)))
    shown = {"r": "r", "u": "anna", "i": "tea", "t": NOON, "shown": True, "pos": 1, "p": 0.5}
    tiny.land("impressions/a.jsonl", lines(*(shown | changed for changed, _ in SHOWN)))
    tiny.land("items/a.csv", "i,p,d,s\n" + "".join(line + "\n" for line, _ in GOODS))
    tiny.ingest()
    return tiny


@pytest.mark.parametrize(
    ("path", "first", "cases"),
    [("events/a.jsonl", 1, EVENTS), ("impressions/a.jsonl", 1, SHOWN), ("items/a.csv", 2, GOODS)],
)
def test_every_misfit_has_its_line_and_reason(
    ingested: TinyShop, path: str, first: int, cases: list[tuple[Any, str | None]]
) -> None:
    expected = [(line, reason) for line, (_, reason) in enumerate(cases, first) if reason]
    assert [row[1:] for row in ingested.misfits() if row[0] == path] == expected


def test_every_record_is_accounted_for(ingested: TinyShop) -> None:
    for path, cases in (("events/a.jsonl", EVENTS), ("items/a.csv", GOODS)):
        n_bad = sum(reason is not None for _, reason in cases)
        assert ingested.counts()[path] == ("ingested", len(cases), len(cases) - n_bad, 0, n_bad)


def test_what_fits_is_typed(ingested: TinyShop) -> None:
    rows = ingested.query(
        "SELECT event_id, user_id, item_id, value FROM clean.events WHERE length(event_id) < 32 "
        "ORDER BY event_id"
    )
    assert rows == [
        ("e1", "anna", "tea", None),
        ("e2", "7", "true", None),
        ("e3", "anna", "tea", 3.5),
        ("e4", "anna", "tea", 1000.0),
        ("e5", "anna", "tea", None),
        ("e7", "anna", "tea", None),
        ("e8", "[sic] {anna}", "tea", None),
        ("e9", "anna", "tea", None),
    ]


def test_quarantine_keeps_500_characters(ingested: TinyShop) -> None:
    longest = ingested.query("SELECT max(length(raw)) FROM ops.quarantine")
    assert longest == [(500,)]


def test_a_record_without_its_id_gets_one_of_its_own(tiny: TinyShop) -> None:
    rows = [event(1, id=None), event(2, id="", u="bob"), event(3, id=None), event(4)]
    tiny.land("events/a.jsonl", lines(*rows))
    tiny.ingest()
    assert [row[1:] for row in tiny.events("event_id IS NULL, length(event_id), user_id")] == [
        (2, "anna"),
        (32, "anna"),
        (32, "bob"),
    ]
    assert tiny.counts() == {"events/a.jsonl": ("ingested", 4, 3, 1, 0)}


OURS = [
    "filename",
    "path",
    "file_id",
    "arrived_at",
    "snapshot_ds",
    "n",
    "record",
    "is_broken",
    "misfit",
    "line",
    "j",
    "delivery",
    "records",
    "text",
    "user_id",
    "dt",
    "ds",
    "Row",
    "a b",
]


def test_a_shop_may_call_its_columns_as_we_call_ours(new_shop: Any) -> None:
    source = csv_events(columns={"user_id": "path", "item_id": "arrived_at", "request_id": "n"})
    source["expressions"] = {"session_id": " || ".join(f'"{name}"' for name in OURS)}
    source["types"] = dict.fromkeys(OURS, "VARCHAR")
    tiny = new_shop(sources={"events": source})
    header, record = ",".join([*OURS, "t"]), ",".join([*map(str, range(len(OURS))), str(NOON)])
    tiny.land("events/dt=2026-01-05/a.csv", f"{header}\n{record}\n")
    tiny.ingest()
    row = tiny.events("user_id, item_id, request_id, session_id")
    assert row == [("1", "3", "5", "".join(map(str, range(len(OURS)))))]


def test_rules_and_expressions_see_typed_columns(new_shop: Any) -> None:
    rules = [{"when": "stars >= 4", "behaviour": "like"}, {"when": "stars < 2", "behaviour": "no"}]
    source = jsonl_events(types={"stars": "DOUBLE"}, behaviour={"rules": rules})
    source["expressions"] = {"value": "stars * 2"}
    tiny = new_shop(sources={"events": source}, positives="like")
    stars = ["5", 4.0, "1", 3, "many", "", None]
    tiny.land("events/a.jsonl", lines(*(event(n, stars=s) for n, s in enumerate(stars))))
    tiny.ingest()
    assert tiny.events("event_id, behaviour, value") == [
        ("e0", "like", 10.0),
        ("e1", "like", 8.0),
        ("e2", "no", 2.0),
    ]
    assert [row[1:] for row in tiny.misfits()] == [
        (4, "unknown behaviour: no rule holds"),
        (5, "wrong type: stars is no DOUBLE"),
        (6, "unknown behaviour: no rule holds"),
        (7, "unknown behaviour: no rule holds"),
    ]


BERLIN = {"zone": "Europe/Berlin"}
DMY = {"format": "%d.%m.%Y %H:%M"}


@pytest.mark.parametrize(
    ("text", "time", "utc"),
    [
        ("1767614400", {"unit": "s"}, "2026-01-05 12:00:00"),
        ("1767614400.25", {"unit": "s"}, "2026-01-05 12:00:00.250000"),
        ("1767614400001", {"unit": "ms"}, "2026-01-05 12:00:00.001000"),
        ("1767614400000001", {"unit": "us"}, "2026-01-05 12:00:00.000001"),
        ("1.7676144e9", {"unit": "s"}, "2026-01-05 12:00:00"),
        ("2026-01-05T12:00:00Z", {}, "2026-01-05 12:00:00"),
        ("2026-01-05T12:00:00Z", BERLIN, "2026-01-05 12:00:00"),
        ("2026-01-05T12:00:00.123456Z", {}, "2026-01-05 12:00:00.123456"),
        ("2026-01-05T12:00:00+02:00", {}, "2026-01-05 10:00:00"),
        ("2026-01-05 12:00:00-0330", {}, "2026-01-05 15:30:00"),
        ("2026-01-05 12:00:00+02", BERLIN, "2026-01-05 10:00:00"),
        ("2026-01-05 12:00:00 +0200", BERLIN, "2026-01-05 10:00:00"),
        ("2026-01-05 12:00:00 UTC", BERLIN, "2026-01-05 12:00:00"),
        ("2026-01-05 12:00:00 Europe/Berlin", {}, "2026-01-05 11:00:00"),
        ("2026-01-05 12:00:00 GMT+2", {}, "2026-01-05 10:00:00"),
        ("2026-01-05 12:00", {}, "2026-01-05 12:00:00"),
        ("2026-01-05T12:00:00", BERLIN, "2026-01-05 11:00:00"),
        ("2026-07-05T12:00:00", BERLIN, "2026-07-05 10:00:00"),
        ("2026-03-29 01:59:59", BERLIN, "2026-03-29 00:59:59"),
        ("2026-03-29 03:00:00", BERLIN, "2026-03-29 01:00:00"),
        ("2026-10-25 01:59:59", BERLIN, "2026-10-24 23:59:59"),
        ("2026-10-25 03:00:00", BERLIN, "2026-10-25 02:00:00"),
        ("2026-01-05", {}, "2026-01-05 00:00:00"),
        ("2026-01-05", BERLIN, "2026-01-04 23:00:00"),
        ("05.01.2026 12:00", DMY, "2026-01-05 12:00:00"),
        ("05.01.2026 12:00", DMY | BERLIN, "2026-01-05 11:00:00"),
        ("05/Jan/2026:12:00:00 +0200", {"format": "%d/%b/%Y:%H:%M:%S %z"}, "2026-01-05 10:00:00"),
        (
            "05/Jan/2026:12:00:00 +0200",
            {"format": "%d/%b/%Y:%H:%M:%S %z"} | BERLIN,
            "2026-01-05 10:00:00",
        ),
    ],
)
def test_times_in_every_unit_and_zone(text: str, time: Row, utc: str) -> None:
    with connect() as con:
        sql = f"SELECT x FROM (SELECT {time_sql(literal(text), Time(column='t', **time))} AS x)"
        found = con.sql(sql)
        assert str(found.types[0]) == "TIMESTAMP WITH TIME ZONE"
        assert found.fetchall() == [(datetime.fromisoformat(utc).replace(tzinfo=UTC),)]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("infinity", {}),
        ("20000-01-01 00:00:00", {}),
        ("2026-01-05 12:00:00 PM", {}),
        ("2026-01-05 12:00:00 Nowhere", {}),
        ("2026-02-30", {}),
        ("1767614400", {}),
        ("2026-01-05", {"unit": "s"}),
        ("99999999999999999999", {"unit": "us"}),
        ("inf", {"unit": "s"}),
        ("31.02.2026 12:00", DMY),
        ("2026-01-05 12:00", DMY),
    ],
)
def test_what_is_no_time(text: str, time: Row) -> None:
    with connect() as con:
        sql = f"SELECT {time_sql(literal(text), Time(column='t', **time))}"
        assert con.sql(sql).fetchall() == [(None,)]
