"""Real logs, written out as their owners deliver them; research data, never shipped."""

import os
from pathlib import Path

import polars as pl
import pytest

FOLDER = Path(os.environ.get("NIGHTRANK_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needs(name: str) -> pytest.MarkDecorator:
    """Skip where the data set is absent."""
    reason = f"the data set {name} is not here; NIGHTRANK_DATA names the folder that holds it"
    return pytest.mark.skipif(not (FOLDER / name).is_dir(), reason=reason)


def write_movielens_100k(target: Path) -> None:
    """MovieLens 100K's u.data and u.item."""
    target.mkdir(parents=True)
    ratings = pl.read_parquet(FOLDER / "ml-100k" / "interactions.parquet")
    ratings.select(
        "user_id", "item_id", pl.col("rating").cast(pl.Int64), pl.col("timestamp").cast(pl.Int64)
    ).write_csv(target / "u.data", separator="\t", include_header=False)
    items = pl.read_parquet(FOLDER / "ml-100k" / "items.parquet")
    with (target / "u.item").open("w", encoding="latin-1", errors="replace") as handle:
        for item_id, title in items.select("item_id", "title").iter_rows():
            handle.write(
                f"{item_id}|{title}|01-Jan-1995||http://films/{item_id}" + "|0" * 19 + "\n"
            )


def write_dunnhumby(target: Path, n_days: int) -> int:
    """The Complete Journey's purchases of its first days, a CSV file a day; how many there are."""
    target.mkdir(parents=True)
    rows = pl.read_parquet(FOLDER / "dunnhumby-cj" / "interactions.parquet")
    at = pl.from_epoch(pl.col("timestamp").cast(pl.Int64), time_unit="s")
    rows = rows.with_columns(
        at.dt.strftime("%Y-%m-%d %H:%M:%S").alias("bought_at"), at.dt.date().alias("day")
    ).drop("timestamp")
    rows = rows.filter(pl.col("day") < pl.col("day").min() + pl.duration(days=n_days))
    for (day,), bought in rows.partition_by("day", as_dict=True).items():
        bought.drop("day").write_csv(target / f"{day}.csv")
    return len(rows)


DUNNHUMBY = """
name = "dunnhumby"

[behaviours]
positives = { purchase = 1 }

[events]
files = "transactions/*.csv"
format = "csv"
arrived = { path = '(\\d{4}-\\d{2}-\\d{2})' }
columns = { user_id = "user_id", item_id = "item_id", value = "sales_cents" }
time = { column = "bought_at" }
behaviour = { always = "purchase" }
"""
