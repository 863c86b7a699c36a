"""A shop of events alone, one file a day: what a day holds depends on its number alone."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

START = date(2026, 1, 1)
MAPPING = """
name = "daily"
[behaviours]
positives = { click = 1, purchase = 5 }
seen = ["purchase"]
active_days = 7
history_days = 14
holdout_days = 2
[events]
files = "events/dt=*/*.jsonl"
format = "jsonl"
arrived = { path = 'dt=(.{10})' }
columns = { event_id = "id", user_id = "u", item_id = "i" }
time = { column = "t", unit = "s" }
behaviour = { column = "b", values = { click = "click", purchase = "purchase" } }
"""


def day(number: int) -> date:
    """The date of a day, the first is 0."""
    return START + timedelta(days=number)


def seconds(number: int) -> int:
    """When a day begins, in Unix seconds."""
    return int(datetime.combine(day(number), datetime.min.time(), UTC).timestamp())


def events(number: int, *, n_events: int, n_users: int, n_items: int) -> list[dict[str, Any]]:
    """The events of a day, as they land."""
    draw = Random(number)
    return [
        {
            "id": f"{number}-{n}",
            "u": f"u{draw.randrange(n_users)}",
            "i": f"i{int(n_items * draw.random() ** 2)}",
            "t": seconds(number) + draw.randrange(86_000),
            "b": "purchase" if draw.random() < 0.05 else "click",
        }
        for n in range(n_events)
    ]


def land(landing: Path, number: int, rows: Sequence[dict[str, Any]], name: str = "a") -> None:
    """Write a file that is delivered on a day."""
    folder = landing / f"events/dt={day(number)}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
