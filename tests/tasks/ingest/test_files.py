"""Files as shops write them: line numbers, dialects, encodings, and files that are refused."""

import gzip
import json
import os
from typing import Any

import pytest

from tasks.errors import SettingsError, SourceError
from tasks.ingest.landing import find_files
from tests.tasks.ingest.conftest import (
    DATED,
    NOON,
    NewShop,
    Row,
    TinyShop,
    csv_events,
    event,
    jsonl_events,
    lines,
)

BAD_UTF8 = b'{"u": "\xff"}\n'
MISSING, NO_OBJECT = "missing field: u", "not a JSON object"
NO_TEXT, TOO_MANY, TOO_FEW, STRAY_QUOTE = (
    f"not a record: {what}"
    for what in ("invalid encoding", "too many columns", "missing columns", "unquoted value")
)


def csv_shop(new_shop: NewShop, **source: Any) -> TinyShop:
    return new_shop(sources={"events": csv_events(**source)})


def refused(tiny: TinyShop) -> dict[str, str]:
    return dict(tiny.query("SELECT path, reason FROM ops.files WHERE state = 'refused'"))


def test_lines_of_json_are_exact_across_the_files_of_a_batch(tiny: TinyShop) -> None:
    good, bad = lines(event(1)).encode(), lines(event(2, u=None)).encode()
    tiny.land("events/a.jsonl", b"\n   \n" + bad + BAD_UTF8 + good + b"\n" + bad)
    tiny.land("events/b.jsonl", BAD_UTF8 + b"\n" + BAD_UTF8 + bad + good[:-1])
    tiny.ingest()
    assert tiny.misfits() == [
        ("events/a.jsonl", 3, MISSING),
        ("events/a.jsonl", 4, NO_TEXT),
        ("events/a.jsonl", 7, MISSING),
        ("events/b.jsonl", 1, NO_TEXT),
        ("events/b.jsonl", 3, NO_TEXT),
        ("events/b.jsonl", 4, MISSING),
    ]


def test_lines_of_crlf_are_exact(tiny: TinyShop) -> None:
    rows = [lines(event(1)).encode(), b"\n", BAD_UTF8, b"{\n"]
    tiny.land("events/a.jsonl.gz", b"".join(rows).replace(b"\n", b"\r\n"))
    tiny.ingest()
    assert [row[1:] for row in tiny.misfits()] == [(3, NO_TEXT), (4, NO_OBJECT)]


def test_json_lines_may_end_now_so_now_so(tiny: TinyShop) -> None:
    unix, windows = lines(event(1), "{"), lines(event(2), event(3)).replace("\n", "\r\n")
    tiny.land("events/a.jsonl", unix + windows + unix.replace("e1", "e4"))
    tiny.land("events/b.jsonl.gz", windows.replace("e2", "e5") + unix)
    tiny.land("events/c.jsonl", '{"id":"e6",\r"u":"a","i":"b","b":"click","t":1767614400}\n' + unix)
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1", "e2", "e3", "e4", "e5", "e6"]
    assert [row[:2] for row in tiny.misfits()] == [
        ("events/a.jsonl", 2), ("events/a.jsonl", 6), ("events/b.jsonl.gz", 4),
        ("events/c.jsonl", 3),
    ]  # fmt: skip


def test_lines_of_csv_are_exact_among_blank_lines_rejects_and_quoted_line_ends(
    new_shop: NewShop,
) -> None:
    tiny = csv_shop(new_shop)
    rows = [
        "u,i,t", "", f",tea,{NOON}", f'"an\nna",tea,{NOON}', "a,b", "", f"x,y,{NOON},1",
        f",oil,{NOON}", f'bob,"t ""x"", y",{NOON}', f"\udcff,q,{NOON}", f",egg,{NOON}", "", "",
    ]  # fmt: skip
    tiny.land("events/a.csv", "\n".join(rows).encode(errors="surrogateescape"))
    tiny.ingest()
    assert [row[1:] for row in tiny.misfits()] == [
        (3, MISSING), (6, TOO_FEW), (8, TOO_MANY), (9, MISSING), (11, NO_TEXT), (12, MISSING),
    ]  # fmt: skip
    assert tiny.events("user_id, item_id") == [("an\nna", "tea"), ("bob", 't "x", y')]


def test_columns_may_stand_in_any_order_file_by_file(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop)
    tiny.land("events/a.csv", f"u,i,t\nanna,tea,{NOON}\n,tea,{NOON}\n")
    tiny.land("events/b.csv", f"\ufefft,more,i,u\r\n{NOON},x,oil,bob\r\n\r\n{NOON},x,oil,\r\n")
    tiny.land("events/c.csv", f"u,i,t\n,tea,{NOON}\ncleo,ink,{NOON}\n")
    tiny.land("events/d.csv", f",u,i,t\n0,dan,egg,{NOON}\n")
    tiny.ingest()
    people = ["anna", "bob", "cleo", "dan"]
    assert [row[0] for row in tiny.events("user_id, item_id")] == people
    assert [row[:2] for row in tiny.misfits()] == [
        ("events/a.csv", 3), ("events/b.csv", 4), ("events/c.csv", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "name", "content"),
    [
        ({"delimiter": "\t", "quote": "", "header": False, "names": ["u", "i", "t"]},
         "a.csv", f'an"na\toil, "x"\t{NOON}\n\nbob\toil\n'.encode()),
        ({"delimiter": "::", "quote": "", "header": False, "names": ["u", "i", "t"]},
         "a.csv", f'an"na::oil, "x"::{NOON}\n\nbob::oil\n'.encode()),
        ({"delimiter": "|", "quote": "'"},
         "a.csv", f"u|i|t\r\n'an\"na'|oil, \"x\"|{NOON}\r\nbob|oil\r\n".encode()),
        ({"encoding": "latin-1"},
         "a.csv.gz", f'u,i,t\n"an""na","oil, ""x""",{NOON}\nbé\n'.encode("latin-1")),
        ({"encoding": "utf-16"},
         "a.csv", f'u,i,t\n"an""na","oil, ""x""",{NOON}\nbé\n'.encode("utf-16")),
    ],
    ids=["tab", "two-character", "single-quote-crlf", "latin-1-gz", "utf-16"],
)  # fmt: skip
def test_dialects_of_csv(new_shop: NewShop, source: Row, name: str, content: bytes) -> None:
    tiny = csv_shop(new_shop, **source)
    tiny.land(f"events/{name}", content)
    tiny.ingest()
    assert tiny.events("user_id, item_id") == [('an"na', 'oil, "x"')]
    assert [row[1:] for row in tiny.misfits()] == [(3, TOO_FEW)]


def test_json_lines_in_latin_1(new_shop: NewShop) -> None:
    tiny = new_shop(sources={"events": jsonl_events(encoding="latin-1")})
    text = f'{{"id": "e", "u": "Zoë", "i": "té", "b": "click", "t": {NOON}}}\n'
    tiny.land("events/a.jsonl.gz", text.encode("latin-1"))
    tiny.ingest()
    assert tiny.events("user_id, item_id") == [("Zoë", "té")]


def test_names_with_the_signs_of_patterns_are_names(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop)
    for number, name in enumerate(["a[1].csv", "a1.csv", "b*.csv", "bb.csv", "it's?.csv"]):
        tiny.land(f"events/{name}", f"u,i,t\nu{number},tea,{NOON}\n")
    tiny.ingest()
    assert [row[0] for row in tiny.events("user_id, item_id")] == ["u0", "u1", "u2", "u3", "u4"]
    assert {row[:2] for row in tiny.counts().values()} == {("ingested", 1)}


def test_empty_files_of_json_lines_have_no_record(tiny: TinyShop) -> None:
    for name, content in {"a": lines(event()), "b": "", "c": "\n\n", "d": "\n \r\n"[:2]}.items():
        tiny.land(f"events/{name}.jsonl", content)
    tiny.ingest()
    assert sorted(row[:2] for row in tiny.counts().values()) == [("ingested", 0)] * 3 + [
        ("ingested", 1)
    ]


def test_csv_files_that_cannot_be_read_are_refused_whole(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop)
    tiny.land("events/good.csv", f"u,i,t\nanna,tea,{NOON}\n")
    tiny.land("events/header_only.csv", "u,i,t\n")
    tiny.land("events/empty.csv", "")
    tiny.land("events/lacking.csv", f"u,item,t\nanna,tea,{NOON}\n")
    tiny.land("events/twice.csv", f"u,i,t,u\nanna,tea,{NOON},x\n")
    tiny.land("events/mixed.csv", f"u,i,t\nanna,tea,{NOON}\nanna,tea,{NOON}\r\nx,y\n")
    tiny.land("events/mac.csv", f"u,i,t\ranna,tea,{NOON}\r")
    tiny.land("events/torn.csv", f'u,i,t\nx,y\n"anna,tea,{NOON}\n' + f"bob,tea,{NOON}\n" * 9)
    tiny.ingest()
    reasons = refused(tiny)
    assert reasons.pop("events/mac.csv")
    assert reasons == {
        "events/empty.csv": "it is empty: not even a header line",
        "events/twice.csv": "a column name stands twice: u, i, t, u",
        "events/mixed.csv": "its lines do not all end alike: LF, CRLF or CR",
        "events/torn.csv": "the quote that opens on line 3 is not closed",
    }
    assert tiny.misfits() == [("events/lacking.csv", 2, "missing field: i")]
    assert tiny.events("user_id, item_id") == [("anna", "tea")]
    assert tiny.counts()["events/header_only.csv"] == ("ingested", 0, 0, 0, 0)


def test_a_stray_quote_costs_its_own_line_only(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop)
    tiny.land("events/a.csv", f'u,i,t\n"an"na,tea,{NOON}\nbob,tea,{NOON}\n,tea,{NOON}\n')
    tiny.ingest()
    assert tiny.events("user_id, item_id") == [("bob", "tea")]
    assert [row[1:] for row in tiny.misfits()] == [(2, STRAY_QUOTE), (4, MISSING)]


def test_compressed_files_that_cannot_be_read_are_refused_whole(tiny: TinyShop) -> None:
    rows = lines(*(event(n) for n in range(2000))).encode()
    tiny.land("events/good.jsonl", lines(event()))
    tiny.land("events/cut.jsonl.gz", gzip.compress(BAD_UTF8 + rows)[:-2000], as_is=True)
    tiny.land("events/tail.jsonl.gz", gzip.compress(rows)[:-4], as_is=True)
    tiny.land("events/plain.jsonl.gz", rows, as_is=True)
    tiny.land("events/empty.jsonl.gz", b"", as_is=True)
    tiny.ingest()
    assert {path: row[0] for path, row in tiny.counts().items()} == {
        "events/good.jsonl": "ingested",
        "events/cut.jsonl.gz": "refused",
        "events/tail.jsonl.gz": "refused",
        "events/plain.jsonl.gz": "refused",
        "events/empty.jsonl.gz": "refused",
    }
    assert (tiny.misfits(), len(tiny.events())) == ([], 1)


def test_big_endian_utf_16_is_refused(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop, encoding="utf-16")
    text = f"u,i,t\nanna,tea,{NOON}\n"
    tiny.land("events/a.csv", b"\xfe\xff" + text.encode("utf-16-be"))
    tiny.land("events/b.csv", text.encode("utf-16"))
    tiny.ingest()
    assert list(refused(tiny)) == ["events/a.csv"]


def test_very_long_lines(tiny: TinyShop) -> None:
    rows = [event(1), event(2, u="x" * 300_000), event(3, u="x" * 3_000_000), event(4, u=None)]
    tiny.land("events/a.jsonl", lines(*rows))
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1", "e2"]
    too_long = "not a record: line size over maximum"
    assert [row[1:] for row in tiny.misfits()] == [(3, too_long), (4, MISSING)]


def test_where_no_event_can_be_read_there_is_no_night(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", "{\n")
    with pytest.raises(SourceError, match="no date to close"):
        tiny.ingest()
    assert tiny.misfits() == [("events/a.jsonl", 1, NO_OBJECT)]


def test_what_another_ending_makes_of_the_same_bytes(new_shop: NewShop) -> None:
    """A file that was refused, or misread, does not stand for a good one of the same content."""
    tiny = new_shop(sources={"events": jsonl_events(files="events/*", format="auto")})
    good = lines(event(1), event(2))
    tiny.land("events/a.jsonl.gz", good, as_is=True)
    tiny.land("events/a.log", good)
    tiny.land("events/b.jsonl", good)
    table = f"id\tu\ti\tb\tt\ne3\tbob\toil\tbuy\t{NOON}\n"
    tiny.land("events/a.csv", table)
    tiny.land("events/b.tsv", table)
    tiny.ingest()
    assert [row[0] for row in tiny.events()] == ["e1", "e2", "e3"]
    assert tiny.counts()["events/b.jsonl"] == ("ingested", 2, 2, 0, 0)
    assert set(refused(tiny)) == {"events/a.jsonl.gz", "events/a.log"}


def test_a_tail_that_the_reader_takes_for_a_record_is_one_bad_record_more(
    new_shop: NewShop,
) -> None:
    """After a line with too many columns its stray quote opens a field that spans lines."""
    tiny = csv_shop(new_shop)
    tiny.land("events/b.csv", f"u,i,t\nanna,tea,{NOON}\n")
    tiny.land("events/a.csv", f'u,i\n\nanna,O,x,tea\nNaN,",,"a,x,"\nz,anna,{NOON},,"a,NaN\n')
    tiny.ingest()
    assert tiny.counts() == {
        "events/a.csv": ("ingested", 3, 0, 0, 3),
        "events/b.csv": ("ingested", 1, 1, 0, 0),
    }
    assert [row[1] for row in tiny.misfits()] == [3, 4, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "{end}"])
def test_a_stray_quote_is_one_bad_record(new_shop: NewShop, end: str, start: str) -> None:
    tiny = csv_shop(new_shop)
    rows = ["u,i,t", f"anna,tea,{NOON}", f'"15" screen,tea,{NOON}', f"bob,tea,{NOON}", ""]
    tiny.land("events/a.csv", (start.format(end=end) + end.join(rows)).lstrip("\r\n"))
    tiny.ingest()
    assert [row[1:] for row in tiny.misfits()] == [(3, STRAY_QUOTE)]
    assert len(tiny.events()) == 2


def test_a_local_time_may_be_padded(new_shop: NewShop) -> None:
    time = {"column": "t", "unit": "iso", "zone": "America/New_York"}
    tiny = csv_shop(new_shop, time=time)
    tiny.land("events/a.csv", "u,i,t\nlead,tea, 2026-01-05 07:00:00\ntrail,tea,2026-01-05 07:00 \n")
    tiny.ingest()
    assert tiny.query("SELECT DISTINCT epoch(occurred_at) FROM clean.events") == [(NOON,)]


@pytest.mark.parametrize("text", ["1.7", "1_0", "epoch"])
def test_numbers_are_not_made_to_fit(new_shop: NewShop, text: str) -> None:
    shown = {
        "files": "shown/*.csv",
        "columns": {"request_id": "r", "user_id": "u", "item_id": "i", "position": "p"},
        "time": {"column": "t", "unit": "iso"},
    }
    tiny = new_shop(sources={"events": jsonl_events(), "impressions": shown})
    tiny.land("events/a.jsonl", lines(event(1)))
    day = "2026-01-05"
    tiny.land(
        "shown/a.csv", f"r,u,i,p,t\n1,anna,tea,{text},{day}\n1,anna,tea,2.0,{day}\n1,a,b,1,epoch\n"
    )
    tiny.ingest()
    assert [row[2] for row in tiny.misfits()] == [
        "wrong type: p is no BIGINT",
        "wrong type: t is no time",
    ]
    assert tiny.query("SELECT position FROM clean.impressions") == [(2,)]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("u,i,t,U", "stands twice"),
        ("u,i,t,# file", "one of nightrank's own"),
        (",".join(["u,i,t", *(f"c{n}" for n in range(5000))]), "at most 2,000"),
    ],
)
def test_columns_that_cannot_be_told_apart(new_shop: NewShop, header: str, why: str) -> None:
    tiny = csv_shop(new_shop)
    tiny.land("events/a.csv", f"{header}\nanna,tea,{NOON}\n")
    tiny.land("events/b.csv", f"u,i,t\nbob,tea,{NOON}\n")
    tiny.ingest()
    assert why in refused(tiny)["events/a.csv"]
    assert [row[1] for row in tiny.events()] == ["bob"]


def test_a_page_of_one_column(new_shop: NewShop) -> None:
    """What a broken export leaves: blank lines among lines of text."""
    tiny = csv_shop(new_shop)
    tiny.land("events/a.csv", "<html>\n\n<body>\n\nsorry\n")
    tiny.land("events/b.csv", f"u,i,t\nbob,tea,{NOON}\n")
    tiny.ingest()
    assert [row[:2] for row in tiny.misfits()] == [("events/a.csv", 3), ("events/a.csv", 5)]


def test_a_quote_behind_a_delimiter_of_several_characters(new_shop: NewShop) -> None:
    tiny = csv_shop(new_shop, delimiter="::")
    tiny.land("events/a.csv", f'u::i::t\na:"b::tea::{NOON}\nbob::tea::never\n')
    tiny.ingest()
    assert [row[1:] for row in tiny.misfits()] == [(3, "wrong type: t is no time")]
    assert [row[1] for row in tiny.events()] == ['a:"b']


def test_lines_that_end_in_cr_alone_in_a_large_file(tiny: TinyShop) -> None:
    filler = "x" * 400
    rows = "\r".join(json.dumps(event(n) | {"f": filler}) for n in range(40_000)) + "\r{\r"
    tiny.land("events/a.jsonl", rows)
    tiny.ingest()
    assert tiny.counts()["events/a.jsonl"] == ("ingested", 40_001, 40_000, 0, 1)


def test_a_record_of_very_many_columns(tiny: TinyShop) -> None:
    wide = json.dumps(event(1) | {f"key{n}": n for n in range(16_000)})
    tiny.land("events/a.jsonl", "\n".join([wide] * 5) + "\n")
    tiny.ingest()
    assert tiny.counts()["events/a.jsonl"] == ("ingested", 5, 1, 4, 0)


def test_a_name_that_is_not_utf8_is_told(tiny: TinyShop) -> None:
    tiny.land("events/a.jsonl", lines(event(1)))
    (tiny.root / "landing" / "events" / os.fsdecode(b"caf\xe9.jsonl")).touch()
    with pytest.raises(SourceError, match="not UTF-8"):
        tiny.ingest()


def test_a_file_that_goes_while_the_night_begins(
    tiny: TinyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny.land("events/a.jsonl", lines(event(1)))
    found = find_files(tiny.shop.landing, tiny.shop.mapping)
    path.unlink()
    monkeypatch.setattr("tasks.ingest.landing.find_files", lambda *_: found)
    with pytest.raises(SourceError, match=r"events/a.jsonl cannot be read"):
        tiny.ingest()


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
def test_a_date_that_cannot_be(tiny: TinyShop, day: str) -> None:
    tiny.sources = {"events": jsonl_events(arrived=DATED)}
    tiny.land(f"events/dt={day}/a.jsonl", lines(event(1)))
    with pytest.raises(SourceError, match="a date that cannot be"):
        tiny.ingest()


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": {"user_id": "U", "item_id": "u"}},
        {"columns": {"user_id": "# file", "item_id": "i"}},
        {"files": "."},
    ],
)
def test_mappings_that_cannot_be_kept_apart(new_shop: NewShop, wrong: Row) -> None:
    with pytest.raises(SettingsError):
        _ = new_shop(sources={"events": jsonl_events(**wrong)}).shop


@pytest.mark.parametrize(
    "wrong",
    [
        {"expressions": {"value": "no_such_function(v)"}, "types": {"v": "VARCHAR"}},
        {"expressions": {"value": "v + $x"}, "types": {"v": "DOUBLE"}},
        {"time": {"column": "t", "unit": "iso", "format": "%Q"}},
    ],
)
def test_sql_of_a_mapping_that_cannot_run_blames_no_file(new_shop: NewShop, wrong: Row) -> None:
    tiny = new_shop(sources={"events": jsonl_events(**wrong)})
    tiny.land("events/a.jsonl", lines(event(1)))
    with pytest.raises(SettingsError, match="SQL of the mapping"):
        tiny.ingest()
    assert tiny.counts() == {}
