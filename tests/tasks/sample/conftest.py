"""Sample shops, written once a session, and plain readers of their files."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks.sample import SampleCounts, ShopSettings, Truth, write_sample

IMPRESSION = pl.Struct(
    {
        "impression_id": pl.String,
        "request_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "shown": pl.Boolean,
        "position": pl.Int64,
        "policy": pl.String,
        "policy_version": pl.String,
        "score": pl.Float64,
        "propensity": pl.Float64,
        "ts": pl.Int64,
        "device": pl.String,
    }
)
EVENT = pl.Struct(
    {
        "event_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "event": pl.String,
        "ts": pl.Int64,
        "request_id": pl.String,
        "session_id": pl.String,
        "device": pl.String,
        "price": pl.Float64,
    }
)


@dataclass(frozen=True)
class Sample:
    """A written sample shop."""

    settings: ShopSettings
    root: Path
    counts: SampleCounts

    @cached_property
    def truth(self) -> Truth:
        return Truth.read(self.root / "truth")

    @cached_property
    def impressions(self) -> pl.DataFrame:
        """Impressions that can be read, each once."""
        return self._readable("impressions", IMPRESSION)

    @cached_property
    def events(self) -> pl.DataFrame:
        """Events of known items that can be read, each once, by their true day."""
        events = self._readable("events", EVENT)
        return events.filter(pl.col("item_id").is_in(self.truth.item_ids.implode()))

    @cached_property
    def shown(self) -> pl.DataFrame:
        """Shown rows with r_ui, whether clicked, the examination and n eligible items."""
        clicks = self.events.filter(event="click").select("request_id", "item_id", clicked=True)
        rows = self.impressions.filter("shown").join(
            clicks.unique(), on=["request_id", "item_id"], how="left"
        )
        rows = rows.with_columns(
            pl.col("clicked").fill_null(False),
            dt=pl.from_epoch("ts", time_unit="ms").dt.date(),
            liking=pl.Series(self.truth.liking(rows["user_id"], rows["item_id"])),
        )
        daily = self.truth.table("daily").select("dt", "n_eligible")
        examination = self.truth.table("examination")
        rows = rows.join(daily, on="dt").join(examination, on=["position", "device"])
        return rows.sort("request_id", "position")

    def lines(self, dataset: str) -> list[tuple[str, str]]:
        """(dt, line) of every file except the one delivered again."""
        files = sorted((self.root / "landing" / dataset).glob("dt=*/part-?.jsonl.gz"))
        return [
            (file.parent.name.removeprefix("dt="), line)
            for file in files
            for line in gzip.decompress(file.read_bytes()).decode().splitlines()
        ]

    def _readable(self, dataset: str, record: pl.Struct) -> pl.DataFrame:
        lines = pl.Series([line for _, line in self.lines(dataset)]).unique(maintain_order=True)
        sound = lines.filter(lines.str.contains(r'^\{[^{\[]*"ts":\d+[^{\[]*\}$'))
        return sound.str.json_decode(record).struct.unnest().drop_nulls(["user_id", "item_id"])


Write = Callable[..., Sample]


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a sample shop of these settings into a new folder."""

    def write_one(**numbers: Any) -> Sample:
        settings = ShopSettings(**numbers)
        root = tmp_path_factory.mktemp("shop")
        return Sample(settings, root, write_sample(settings, root))

    return write_one


@pytest.fixture(scope="session")
def default(write: Write) -> Sample:
    """The sample as a new user gets it."""
    return write()


@pytest.fixture(scope="session")
def small(write: Write) -> Sample:
    """A shop of a second."""
    return write(n_days=4, n_users=300, n_items=120)


def tree(root: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def ndcg(scores: np.ndarray, relevant: np.ndarray, k: int = 20) -> float:
    """Mean NDCG@k of binary relevance; both [n_users, n_items], at least k relevant."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    discount = 1 / np.log2(np.arange(k) + 2)
    gain = np.take_along_axis(relevant, top, axis=1) @ discount
    return float(gain.mean() / discount.sum())


def as_record(line: str) -> dict[str, Any] | None:
    """The JSON object of a line, or None."""
    try:
        record: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record
