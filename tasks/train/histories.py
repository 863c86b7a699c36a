"""The histories that models of sequences read, out of the lake."""

from datetime import date
from pathlib import Path

import pyarrow as pa

import sql
from tasks.lake.literals import render
from tasks.lake.session import Session
from tasks.shop import Shop, name_positives, parameters
from tasks.train.arrays import Sequences, build_sequences

TABLE = "features.user_history_daily"


def read_histories(
    s: Session, shop: Shop, ds: date, users: pa.Array, items: pa.Array, work: Path, *, upto: date
) -> Sequences:
    """The positive steps of these users with these items in the night's window, up to a date."""
    name_positives(s, shop)
    s.read(TABLE, upto=ds)
    params = parameters(shop, ds) | {"upto": upto}
    steps = s.stream(render(sql.read("queries/positive_steps"), params))
    return build_sequences(steps, users, items, work)
