"""A tiny shop over real files in tmp_path: land files, ingest them, read the lake."""

import gzip
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.lake.session import session
from tasks.mapping import Mapping
from tasks.settings import Compute, Paths, Settings, check
from tasks.shop import Shop

MONDAY, TUESDAY, WEDNESDAY = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)
NOON = 1_767_614_400  # 2026-01-05 12:00 UTC, in seconds
LANDED_AT = datetime(2026, 1, 8, tzinfo=UTC)
DATED = {"path": r"dt=(\d{4}-\d{2}-\d{2})"}
WRITTEN = (
    "clean.events",
    "clean.impressions",
    "clean.items",
    "clean.users",
    "ops.files",
    "ops.quarantine",
    "ops.columns",
    "ops.row_moves",
)
Row = dict[str, Any]


def jsonl_events(**source: Any) -> Row:
    """A source of events as JSON lines: id, u, i, b, t (Unix seconds)."""
    return {
        "files": "events/**/*.jsonl*",
        "format": "jsonl",
        "columns": {"event_id": "id", "user_id": "u", "item_id": "i"},
        "time": {"column": "t", "unit": "s"},
        "behaviour": {"column": "b", "values": {"click": "click", "buy": "purchase"}},
    } | source


def csv_events(**source: Any) -> Row:
    """A source of events as CSV: u, i, t; every record a click, none has an id."""
    return {
        "files": "events/**/*.csv*",
        "format": "csv",
        "columns": {"user_id": "u", "item_id": "i"},
        "time": {"column": "t", "unit": "s"},
        "behaviour": {"always": "click"},
    } | source


def event(n: int = 1, **fields: Any) -> Row:
    """One sound raw event; a field given as None is left out."""
    row = {"id": f"e{n}", "u": "anna", "i": "tea", "b": "click", "t": NOON} | fields
    return {name: value for name, value in row.items() if value is not None}


def lines(*rows: Row | str) -> str:
    """JSON lines; a text is taken as it is."""
    return "".join(row if isinstance(row, str) else json.dumps(row) for row in _ended(rows))


def _ended(rows: Sequence[Row | str]) -> list[str]:
    return [(row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows]


@dataclass
class TinyShop:
    """A landing folder, a lake and a mapping."""

    root: Path
    sources: dict[str, Row] = field(default_factory=lambda: {"events": jsonl_events()})
    batch_mb: int = 256
    mapping: Mapping | None = None
    positives: str = "click"

    @property
    def shop(self) -> Shop:
        meaning = {"positives": {self.positives: 1}, "seen": [self.positives]}
        table = {"name": "tiny", "behaviours": meaning, **self.sources}
        paths = Paths(landing=self.root / "landing", lake=self.root / "lake")
        settings = Settings(paths=paths, compute=Compute(batch_mb=self.batch_mb, threads=2))
        return Shop(settings, self.mapping or check(Mapping, table, where="test"))

    def land(
        self, path: str, content: str | bytes, at: datetime = LANDED_AT, *, as_is: bool = False
    ) -> Path:
        """Write a file; one whose name ends in .gz is compressed unless `as_is`."""
        target = self.root / "landing" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        target.write_bytes(
            gzip.compress(data, mtime=0) if path.endswith(".gz") and not as_is else data
        )
        os.utime(target, (at.timestamp(), at.timestamp()))
        return target

    def ingest(self, ds: date | None = None, run_id: str = "run") -> date:
        shop = self.shop
        return ingest(shop, arrival(shop.landing, shop.mapping, ds), run_id)[0]

    def query(self, sql: str) -> list[Any]:
        """The rows of a SELECT over what ingest writes."""
        with session(self.shop.lake, Compute(threads=1)) as s:
            for name in WRITTEN:
                if name in sql:
                    s.read(name)
            return s.rows(sql)

    def events(self, columns: str = "event_id, user_id, item_id, behaviour") -> list[Any]:
        return self.query(f"SELECT {columns} FROM clean.events ORDER BY ALL")

    def misfits(self) -> list[Any]:
        """What is in quarantine: (path, line, reason)."""
        return self.query("SELECT path, line, reason FROM ops.quarantine ORDER BY ALL")

    def counts(self) -> dict[str, tuple[str, int, int, int, int]]:
        """By path: state, n_read, n_clean, n_duplicate, n_quarantined."""
        rows = self.query(
            "SELECT path, state, n_read, n_clean, n_duplicate, n_quarantined FROM ops.files"
        )
        assert all(row[2] == sum(row[3:]) for row in rows)
        return {row[0]: row[1:] for row in rows}

    def tables(self) -> dict[str, list[Any]]:
        """All that ingest writes, wall time left out."""
        wall = {
            "ops.files": "EXCLUDE (ingested_at, run_id)",
            "ops.quarantine": "EXCLUDE (first_seen_at)",
            "ops.row_moves": "EXCLUDE (moved_at)",
        }
        return {
            name: self.query(f"SELECT * {wall.get(name, '')} FROM {name} ORDER BY ALL")
            for name in WRITTEN
        }


@pytest.fixture
def tiny(tmp_path: Path) -> TinyShop:
    return TinyShop(tmp_path)


NewShop = Callable[..., TinyShop]


@pytest.fixture
def new_shop(tmp_path: Path) -> NewShop:
    """Make further shops, each in a folder of its own."""
    made: list[TinyShop] = []

    def make(**facts: Any) -> TinyShop:
        made.append(TinyShop(tmp_path / f"shop{len(made)}", **facts))
        return made[-1]

    return make
