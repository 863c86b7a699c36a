"""Files as bad as they come, drawn by hypothesis, and what must hold of any of them."""

import gzip
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.tasks.ingest.conftest import NOON, TinyShop, event, jsonl_events, lines

HUGE = ["1e999", "-1e999", "9" * 400, "0.1e-999", "NaN", "Infinity", "-0", "1e", "0x1F", "--1"]
DEEP = ['{"a":' * 900 + "1" + "}" * 900, "[" * 5000, "[" * 900 + "]" * 900]
ODD = [
    '{"u"',
    "null",
    "true",
    "[]",
    '""',
    '"\\ud800"',
    "{}",
    '{"":1}',
    '{"u":1}{"u":2}',
    "\ufeff{}",
    "\x01",
    "\x01\x01",
]
fields = st.sampled_from(["id", "u", "i", "b", "t", "v", "x", "", "a/b", "$.u"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(["click", NOON, str(NOON), NOON * 1000, -1, 10**30, "\x00", "a" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=3),
    max_leaves=6,
)
ids = st.integers(0, 10**6)


def _good(n: int) -> bytes:
    return json.dumps(event(n)).encode()


json_lines = st.one_of(
    ids.map(_good),
    ids.map(_good),
    st.dictionaries(fields, values, max_size=8).map(lambda row: json.dumps(row).encode()),
    st.builds(
        lambda n, key, value: json.dumps(event(n) | {key: value}).encode(), ids, fields, values
    ),
    st.sampled_from([*HUGE, *DEEP, *ODD, "", " ", "\t"]).map(str.encode),
    st.sampled_from(HUGE).map(lambda n: _good(1)[:-1] + b',"v":' + n.encode() + b"}"),
    st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b"")),
    st.binary(max_size=9).map(
        lambda raw: _good(2)[:-2] + raw.replace(b"\n", b"").replace(b"\r", b"") + b'"}'
    ),
)
cells = st.one_of(
    st.sampled_from(
        ["anna", "tea", str(NOON), "", '"', '""', '"a', "'", "\x00", "é", "NaN", "1e999"]
    ),
    st.text(max_size=8),
)
csv_lines = st.one_of(
    st.just(f"anna,tea,{NOON}"),
    st.lists(cells, max_size=6).map(",".join),
    st.lists(
        cells.map(lambda cell: '"' + cell.replace('"', '""') + '"'), min_size=3, max_size=3
    ).map(",".join),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
headers = st.sampled_from(
    [b"u,i,t", b"t,u,i,x", b"u,i", b"u,u,t", b"", b",,", b'"u","i","t"', b"\xff"]
)
ends = st.sampled_from([b"\n", b"\n", b"\r\n"])
mixed_ends = st.lists(ends, min_size=13, max_size=13)
starts = st.sampled_from([b"", b"", b"\xef\xbb\xbf"])


@dataclass(frozen=True)
class Garbage:
    """One file; `n_records`: how many records it must be said to have, where that is certain."""

    path: str
    content: bytes
    n_records: int | None = None


@st.composite
def of_json(draw: st.DrawFn) -> Garbage:
    rows, row_ends = draw(st.lists(json_lines, max_size=12)), draw(mixed_ends)
    content = draw(starts) + b"".join(row + end for row, end in zip(rows, row_ends, strict=False))
    content += draw(st.sampled_from([b"", b"\n"]))
    n_records = sum(bool(row.strip(b" \t")) for row in rows)
    return draw(packed(Garbage("events/{}.jsonl", content, n_records)))


@st.composite
def of_csv(draw: st.DrawFn) -> Garbage:
    rows, end = draw(st.lists(csv_lines, max_size=12)), draw(ends)
    content = draw(starts) + end.join([draw(headers), *rows]) + draw(st.sampled_from([b"", end]))
    return draw(packed(Garbage("clicks/{}.csv", content)))


@st.composite
def of_parquet(draw: st.DrawFn) -> Garbage:
    n = draw(st.integers(0, 5))
    kinds = [
        st.integers(-(2**60), 2**60), st.floats(), st.booleans(), st.binary(max_size=8),
        st.text(max_size=8), st.datetimes(), st.lists(st.integers(0, 9), max_size=2),
        st.sampled_from(["anna", "click"]), st.just(NOON), st.none(),
    ]  # fmt: skip
    columns: dict[str, Any] = {}
    for name in draw(st.lists(fields.filter(bool), unique=True, min_size=1, max_size=6)):
        kind = draw(st.sampled_from(kinds))
        columns[name] = draw(st.lists(kind | st.none(), min_size=n, max_size=n))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content = bytes(sink.getvalue().to_pybytes())
    if draw(st.integers(0, 4)) == 0:
        return Garbage("events/{}.parquet", content[: draw(st.integers(0, len(content)))])
    return Garbage("events/{}.parquet", content, n)


@st.composite
def packed(draw: st.DrawFn, file: Garbage) -> Garbage:
    match draw(
        st.sampled_from(["plain", "plain", "gz", "gz members", "zst", "cut gz", "cut zst", "raw"])
    ):
        case "gz":
            return Garbage(file.path + ".gz", gzip.compress(file.content), file.n_records)
        case "gz members":
            half = len(file.content) // 2
            parts = (b"", file.content[:half], b"", file.content[half:], b"")
            content = b"".join(map(gzip.compress, parts))
            return Garbage(file.path + ".gz", content, file.n_records)
        case "zst":
            content = bytes(pa.compress(file.content, codec="zstd", asbytes=True))
            return Garbage(file.path + ".zst", content, file.n_records)
        case "cut gz":
            content = gzip.compress(file.content)
            return Garbage(file.path + ".gz", content[: draw(st.integers(0, len(content)))])
        case "cut zst":
            content = bytes(pa.compress(file.content, codec="zstd", asbytes=True))
            return Garbage(file.path + ".zst", content[: draw(st.integers(0, len(content)))])
        case "raw":
            return Garbage(file.path, draw(st.binary(max_size=400)))
        case _:
            return file


files = st.one_of(of_json(), of_json(), of_csv(), of_parquet())


def garbage_shop(root: Any) -> TinyShop:
    """A shop with one good night: events of any format, clicks as CSV of the same dataset."""
    tiny = TinyShop(root, {"events": jsonl_events(files="*/*", format="auto")})
    tiny.sources["events"]["behaviour"] = {
        "rules": [
            {"when": "b = 'click'", "behaviour": "click"},
            {"when": "true", "behaviour": "view"},
        ]
    }
    tiny.sources["events"]["types"] = {"b": "VARCHAR"}
    tiny.sources["events"]["columns"]["value"] = "v"
    tiny.land("good/a.jsonl", lines(*(event(-n) for n in range(1, 30))))
    tiny.ingest()
    return tiny


def must_hold(tiny: TinyShop, drawn: list[Garbage], name: str) -> None:
    """Ingest the files; nothing may raise, no record may be lost, nothing good may go."""
    good = "SELECT * FROM clean.events WHERE event_id LIKE 'e-%' ORDER BY ALL"
    before = tiny.query(good)
    paths = {}
    for number, file in enumerate(drawn):
        path = file.path.format(f"{name}-{number}")
        tiny.land(path, file.content, as_is=True)
        paths[path] = file
    tiny.ingest()
    assert tiny.query(good) == before
    found = tiny.query(
        "SELECT path, state, n_read, n_clean, n_duplicate, n_quarantined, f.file_id, "
        "(SELECT count(*) FROM clean.events AS c WHERE c.file_id = f.file_id), "
        "(SELECT count(*) FROM ops.quarantine AS q WHERE q.file_id = f.file_id) "
        "FROM ops.files AS f"
    )
    accounts = {row[0]: row[1:] for row in found if row[0] in paths}
    assert set(accounts) == set(paths)
    for path, (state, n_read, n_clean, n_duplicate, n_bad, _, n_here, n_there) in accounts.items():
        assert n_read == n_clean + n_duplicate + n_bad, path
        assert (n_clean, n_bad) == (n_here, n_there), path
        if state == "refused":
            assert n_read == 0, path
        elif paths[path].n_records is not None:
            assert n_read == paths[path].n_records, (path, paths[path].content)
