"""Nothing dated after $ds changes a row for $ds, and a second run gives the same rows in order.

Worlds of a few rows, drawn by hypothesis: what lies up to the night, and what lies after it.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sql
from expectations.catalogue import catalogue
from tests.sql.test_tables import SELECTS
from tests.sql.worlds import Row, catalogue_name, empty_world, fill, run, types_of

DS = date(2026, 1, 5)
DAYS = [DS + timedelta(days=n) for n in range(-4, 5)]
Rows = dict[str, list[Row]]

# The tables of a world: its columns that matter, and the key by which its rows are one each.
DRAWN: dict[str, tuple[dict[str, list[Any]], tuple[str, ...]]] = {}

WHO = {"user_id": ["anna", "bob"]}
WHAT = {"item_id": ["tea", "oil"]}
DID = {"behaviour": ["click", "purchase"]}
COUNT = {"n_events": [1, 2]}
GONE = {"superseded_at": [None, None, "2026-01-20 00:00:00+00"]}
CLOCK = {"hour": [0, 8, 23]}

DRAWN["clean.events"] = (
    {"event_id": ["e1", "e2", "e3"], **WHO, **WHAT, **DID, **GONE, **CLOCK},
    ("event_id",),
)
DRAWN["clean.impressions"] = (
    {
        "impression_id": ["m1", "m2", "m3"],
        "request_id": ["r1", "r2"],
        **WHO,
        **WHAT,
        "is_shown": [True, True, False],
        **GONE,
        **CLOCK,
    },
    ("impression_id",),
)
DRAWN["clean.items"] = (
    {**WHAT, "is_in_stock": [True, False], "available_from": [None, *map(str, DAYS)]},
    ("item_id",),
)
DRAWN["clean.users"] = ({**WHO, "country": ["fi", "se"]}, ("user_id",))
DRAWN["features.behaviours_daily"] = (
    {**WHO, **WHAT, **DID, **COUNT, **CLOCK},
    ("user_id", "item_id", "behaviour"),
)
DRAWN["features.popularity_daily"] = (
    {**WHAT, "behaviour": ["click", "impression"], **COUNT, "n_requests": [0, 1, 2]},
    ("item_id", "behaviour"),
)
DRAWN["features.traffic_daily"] = ({"n_requests": [0, 3, 9]}, ())
DRAWN["features.feedback_daily"] = (
    {"impression_id": ["m1", "m2", "m3"], **WHAT, "position": [1, 2]},
    ("impression_id",),
)
DRAWN["features.examination"] = (
    {"method": ["em"], "position": [1, 2], "theta": [0.5, 1.0], "is_used": [True]},
    ("method", "position"),
)
DRAWN["estimated.impressions"] = (
    {
        "impression_id": ["m1", "m2", "m3"],
        **WHO,
        **WHAT,
        "estimate": [0.1, 0.5, 0.9],
        "estimator": ["logged", "exposure_share"],
    },
    ("impression_id",),
)
DRAWN["train.examples"] = ({**WHO, **WHAT}, ("user_id", "item_id"))
DRAWN["serve.active_users"] = (WHO, ("user_id",))

PARAMETERS: Mapping[str, Any] = {
    "ds": str(DS),
    "since": str(DAYS[1]),
    "cut": str(DAYS[2]),
    "active_since": str(DAYS[3]),
    "catalogue_ds": str(DS),
    "days": [str(DAYS[2]), str(DS)],
    "window": {"days": 2},
    "seen": ["purchase"],
    "repurchase": False,
    "smoothing_a": 1.0,
    "smoothing_b": 10.0,
    "eta": 0.5,
    "clip": 0.15,
    "clip_quantile": 0.5,
    "estimator": "examination",
    "n_folds": 2,
}
DATED = [
    name for name in SELECTS if catalogue()[catalogue_name(name)].kind in ("increment", "snapshot")
]
MERGED = ("clean.events", "clean.impressions", "clean.items", "clean.users")
OPEN: list[Any] = []
POSITIVES: Rows = {"settings.positives": [{"behaviour": "click", "weight": 1}]}


def reads(name: str) -> list[str]:
    """The tables that a SELECT reads; those of the clean layer merge into themselves."""
    text = sql.read_table(name)
    return [table for table in DRAWN if f"FROM {table}" in text or f"JOIN {table}" in text]


@st.composite
def rows_of(draw: st.DrawFn, table: str, days: list[date]) -> list[Row]:
    choices, key = DRAWN[table]
    columns = {name: st.sampled_from(values) for name, values in choices.items()}
    one = st.fixed_dictionaries({**columns, "ds": st.sampled_from([str(day) for day in days])})
    drawn = draw(
        st.lists(
            one,
            min_size=3,
            max_size=9,
            unique_by=lambda row: tuple(row[name] for name in (*key, "ds")),
        )
    )
    return [_on_the_clock(row, table) for row in drawn]


def _on_the_clock(row: Row, table: str) -> Row:
    """Write the hour out as the columns of time that the table has."""
    rest: Row = {name: value for name, value in row.items() if name != "hour"}
    if "hour" not in row:
        return rest
    times = [name for name in ("occurred_at", "last_at", "first_at") if name in types_of(table)]
    return {**rest, **dict.fromkeys(times, f"{row['ds']} {row['hour']:02}:00:00+00")}


@st.composite
def worlds(draw: st.DrawFn, name: str) -> tuple[Rows, Rows]:
    """What lies up to the night, and what lies after it."""
    past = {table: draw(rows_of(table, DAYS[:5])) for table in reads(name)}
    future = {table: draw(rows_of(table, DAYS[5:])) for table in reads(name)}
    return past, future


def landed(name: str, given: Rows) -> Rows:
    """For the clean layer: every second row comes in now, in a file; the others are known."""
    if name not in MERGED:
        return given
    new = [_delivered(row) for row in given[name][::2]]
    days = sorted({row["file_id"] for row in new})
    delivery: list[Row] = [{"file_id": day, "snapshot_ds": day} for day in days]
    return {name: given[name][1::2], "landed": new, "delivery": delivery}


def _delivered(row: Row) -> Row:
    """A raw row: its file and its arrival are named after its date."""
    fields = {name: value for name, value in row.items() if name != "superseded_at"}
    return {**fields, "file_id": row["ds"], "arrived_at": f"{row['ds']} 23:30:00+00"}


def made(name: str, given: Rows) -> list[Any]:
    """The rows of a SELECT that count for the night, in order."""
    con = OPEN[0]
    dataset = catalogue_name(name).removeprefix("clean.")
    fill(con, landed(name, given) | POSITIVES, str(DS), dataset)
    found = run(con, sql.read_table(name), PARAMETERS)
    day = found.columns.index("ds")
    return [row for row in found.fetchall() if row[day] <= DS]


def both(past: Rows, future: Rows) -> Rows:
    return {table: [*past[table], *future[table]] for table in past}


def examples(n: int) -> settings:
    """The same worlds in every run."""
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module", autouse=True)
def _connection() -> Iterator[None]:
    """One connection for all; hypothesis would keep one that is an argument alive too long."""
    with empty_world() as con:
        OPEN.append(con)
        yield
        OPEN.clear()


@pytest.mark.parametrize("name", DATED)
def test_every_dated_select_reads_what_is_drawn(name: str) -> None:
    assert reads(name)


@pytest.mark.parametrize("name", DATED)
@examples(9)
@given(data=st.data())
def test_what_is_dated_after_the_night_changes_nothing(name: str, data: st.DataObject) -> None:
    past, future = data.draw(worlds(name))
    assert made(name, past) == made(name, both(past, future))


@pytest.mark.parametrize("name", DATED)
@examples(4)
@given(data=st.data())
def test_a_second_run_gives_the_same_rows_in_order(name: str, data: st.DataObject) -> None:
    past, _ = data.draw(worlds(name))
    first = made(name, past)
    turned = past if name in MERGED else {table: rows[::-1] for table, rows in past.items()}
    assert made(name, turned) == first
