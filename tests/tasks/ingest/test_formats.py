"""Formats and packings of files, told by the files themselves, also mixed in one source."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import SettingsError
from tasks.mapping import Mapping, path_parts
from tasks.settings import check
from tests.tasks.ingest.conftest import (
    NOON,
    NewShop,
    Row,
    TinyShop,
    csv_events,
    event,
    jsonl_events,
    lines,
)

PATHS: Row = {"event_id": "id", "user_id": "$.user.id", "item_id": "$.lines[0].sku"}


def zstd(content: str) -> bytes:
    return bytes(pa.compress(content.encode(), codec="zstd", asbytes=True))


def parquet(rows: list[Row], **columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, **columns)
    return bytes(sink.getvalue().to_pybytes())


def mixed(**source: Any) -> dict[str, Row]:
    return {"events": jsonl_events(files="events/**/*", format="auto") | source}


def test_json_csv_tsv_and_parquet_in_one_source(new_shop: NewShop) -> None:
    tiny = new_shop(sources=mixed())
    tiny.land("events/dt=1/a.jsonl", lines(event(1)))
    tiny.land("events/dt=1/b.csv", f"t,id,u,i,b\n{NOON},e2,bob,oil,buy\n")
    tiny.land("events/dt=2/c.tsv", f"id\tu\ti\tb\tt\ne3\tbob\toil\tbuy\t{NOON}\n")
    tiny.land("events/dt=2/d.parquet", parquet([event(4), event(5, t=None)]))
    tiny.land("events/dt=2/e.parquet", parquet([event(6) | {"t": datetime(2026, 1, 5, 12)}]))
    tiny.land("events/dt=3/f.jsonl.gz", lines(event(7)))
    tiny.land("events/dt=3/g.csv.zst", zstd(f"id,u,i,b,t\ne8,eve,tea,click,{NOON}\n"))
    tiny.land("events/dt=3/h.jsonl.zst", zstd(lines(event(9), event(9), "{")))
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == [f"e{n}" for n in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert len(set(tiny.query("SELECT DISTINCT occurred_at FROM clean.events"))) == 1
    assert tiny.misfits() == [
        ("events/dt=2/d.parquet", 2, "missing field: t"),
        ("events/dt=3/h.jsonl.zst", 3, "not a JSON object"),
    ]
    assert tiny.counts()["events/dt=3/h.jsonl.zst"] == ("ingested", 3, 1, 1, 1)


def test_a_packing_is_told_by_the_first_bytes(tiny: TinyShop) -> None:
    tiny.land("events/plain_name.jsonl", gzip.compress(lines(event(1)).encode()))
    tiny.land(
        "events/members.jsonl.gz",
        gzip.compress(lines(event(2)).encode())
        + gzip.compress(b"")
        + gzip.compress(lines(event(3)).encode()),
        as_is=True,
    )
    tiny.land("events/frames.jsonl.zst", zstd(lines(event(4))) + zstd(lines(event(5), "{")))
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1", "e2", "e3", "e4", "e5"]
    assert tiny.misfits() == [("events/frames.jsonl.zst", 3, "not a JSON object")]


def test_an_ending_that_tells_no_format(new_shop: NewShop) -> None:
    tiny = new_shop(sources=mixed())
    tiny.land("events/a.jsonl", lines(event()))
    tiny.land("events/b.log", lines(event(2)))
    tiny.ingest()
    reasons = dict(tiny.query("SELECT path, reason FROM ops.files"))
    assert reasons["events/a.jsonl"] is None
    assert "format is not told by its ending '.log'" in reasons["events/b.log"]


def test_nested_fields_by_path(new_shop: NewShop) -> None:
    tiny = new_shop(sources=mixed(columns=PATHS))
    nested = {
        "id": "e1",
        "user": {"id": "anna"},
        "lines": [{"sku": "tea"}],
        "b": "click",
        "t": NOON,
    }
    tiny.land(
        "events/a.jsonl",
        lines(
            nested,
            nested | {"id": "e2", "user": "anna"},
            nested | {"id": "e3", "user": {"id": {"deep": 1}}},
            nested | {"id": "e4", "lines": []},
            json.dumps(nested | {"id": "e5", "user": {"id": 12345678901234567890123}}),
        ),
    )
    tiny.land("events/b.parquet", parquet([nested | {"id": "e6"}]))
    tiny.ingest()
    assert tiny.events("event_id, user_id, item_id") == [
        ("e1", "anna", "tea"), ("e5", "12345678901234567890123", "tea"), ("e6", "anna", "tea"),
    ]  # fmt: skip
    assert [row[1:] for row in tiny.misfits()] == [
        (2, "missing field: $.user.id"),
        (3, "wrong type: $.user.id is no text"),
        (4, "missing field: $.lines[0].sku"),
    ]


@pytest.mark.parametrize(
    ("column", "parts"),
    [
        ("user", ("user",)),
        ("$price", ("$price",)),
        ("$.user.id", ("user", ".id")),
        ('$."the user"."a.b"[2]', ("the user", '."a.b"', "[2]")),
        ("$.a[*]", ("$.a[*]",)),
    ],
)
def test_parts_of_a_path(column: str, parts: tuple[str, ...]) -> None:
    assert path_parts(column) == parts


def test_parquet_of_every_type(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": jsonl_events(files="events/*", format="parquet",
        columns={"user_id": "u", "item_id": "i", "value": "v"},
        time={"column": "t"}, behaviour={"always": "click"})})  # fmt: skip
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    tiny.land(
        "events/a.parquet",
        parquet([{"u": 7, "i": 8, "v": 1.5, "t": at}, {"u": [7], "i": 8, "v": None, "t": at}][:1]),
    )
    tiny.land("events/b.parquet", parquet([{"u": [7], "i": 8, "v": 2, "t": at.isoformat()}]))
    tiny.land("events/c.parquet", b"PAR1 but no more")
    tiny.land("events/d.parquet", parquet([{"x": 1}, {"x": 2}]))
    tiny.ingest()
    assert tiny.events("user_id, item_id, value") == [("7", "8", 1.5)]
    assert tiny.misfits() == [
        ("events/b.parquet", 1, "wrong type: u is no text"),
        ("events/d.parquet", 1, "missing field: u"),
        ("events/d.parquet", 2, "missing field: u"),
    ]
    assert tiny.counts()["events/c.parquet"] == ("refused", 0, 0, 0, 0)


def test_a_declared_key_makes_one_event_of_several_records(new_shop: NewShop) -> None:
    keyed = csv_events(key=["user_id", "occurred_at"], columns={"user_id": "u", "item_id": "i"})
    tiny = new_shop(sources={"events": keyed})
    tiny.land("events/a.csv", f"u,i,t\nanna,tea,{NOON}\nanna,tea,{NOON}\nbob,tea,{NOON}\n")
    tiny.ingest()
    tiny.land("events/b.csv", f"u,i,t\nanna,oil,{NOON}\n", datetime(2026, 1, 9, tzinfo=UTC))
    tiny.ingest()
    now = "SELECT user_id, item_id FROM clean.events WHERE superseded_at IS NULL ORDER BY ALL"
    assert tiny.query(now) == [("anna", "oil"), ("bob", "tea")]
    assert tiny.counts()["events/a.csv"] == ("ingested", 3, 2, 1, 0)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"key": ["colour"]}, "key names colour, no field of events"),
        (
            {"contract": {"missing": {"colour": "stop"}}},
            "contract names colour, no field of events",
        ),
        ({"contract": {"new": "explode"}}, "new"),
        ({"format": "parquet", "header": False}, "names and header are for csv only"),
    ],
)
def test_wrong_mappings_are_refused(source: Row, problem: str) -> None:
    meaning = {"positives": {"click": 1}, "seen": ["click"]}
    table = {"name": "tiny", "behaviours": meaning, "events": jsonl_events(**source)}
    with pytest.raises(SettingsError, match=problem):
        check(Mapping, table, where="test")


def test_wrong_sql_of_a_mapping_is_no_fault_of_a_file(new_shop: NewShop, tmp_path: Path) -> None:
    broken = jsonl_events(columns={"user_id": "u"}, expressions={"item_id": "upper(nothing)"})
    tiny = new_shop(sources={"events": broken})
    tiny.land("events/a.jsonl", lines(event()))
    with pytest.raises(SettingsError, match="the SQL of the mapping cannot be run"):
        tiny.ingest()
    assert tiny.query("SELECT * FROM ops.files") == []
