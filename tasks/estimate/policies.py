"""The values of stated policies, from the night's log: train.policy_values.

A stated policy fills each slot of the log, given what stands above it, with an item that is free:
eligible by the catalogue of that date, and not above. The estimand is the mean reward per slot, had
it filled them so: "of these requests, at these positions, below these items". Rewards are whether a
behaviour followed from the request on the item. Slots without a logged probability are left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

import sql
from tasks.estimate.values import UserSums, overlap, policy_values
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.records import TableVersion
from tasks.shop import Parameters, Shop, parameters

SLOTS = {"first position": "position = 1", "all positions": "true"}


@dataclass(frozen=True)
class Stated:
    """A policy: an item's weight, and what a user's own weight for an item adds to it."""

    name: str
    states: str  # a sentence for readers
    item_weights: str  # SELECT of item_id, weight; items that it leaves out have weight 0
    user_weights: str = "SELECT '' AS user_id, '' AS item_id, 0.0 AS weight LIMIT 0"


UNIFORM = Stated(
    name="uniform",
    states="each free item is as likely",
    item_weights="SELECT DISTINCT item_id, 1.0 AS weight FROM clean.items",
)
POPULARITY = Stated(
    name="popularity",
    states="a free item is as likely as the root of its events in the window, plus one",
    item_weights="""
SELECT item_id, sqrt(1.0 + coalesce(sum(n_events) FILTER (behaviour <> 'impression'), 0)) AS weight
FROM (SELECT DISTINCT item_id FROM clean.items)
LEFT JOIN features.popularity_daily USING (item_id)
GROUP BY item_id""",
)
POLICIES = (UNIFORM, POPULARITY)


def estimate(shop: Shop, ds: date) -> list[TableVersion]:
    """Write the values of the stated policies; no row where no probability was logged."""
    with session(shop.lake, shop.settings.compute) as s:
        for name in ("features.feedback_daily", "features.popularity_daily", "clean.items"):
            s.read(name, since=_first(shop, ds, name), upto=ds)
        rows = list(_rows(s, shop, ds))
    table = pa.Table.from_pylist(rows, schema=shop.lake.schema("train.policy_values"))
    return [shop.lake.rewrite("train.policy_values", {"ds": ds}, lambda _: table)]


def _first(shop: Shop, ds: date, name: str) -> date | None:
    since = parameters(shop, ds)["since"]
    assert isinstance(since, date)
    return None if name == "clean.items" else since


def _rows(s: Session, shop: Shop, ds: date) -> Iterator[dict[str, Any]]:
    n_logged = "SELECT count(*) FROM features.feedback_daily WHERE p_logged IS NOT NULL"
    if not s.value(n_logged):
        return
    params = estimate_parameters(shop, ds)
    for behaviour in sorted(shop.mapping.behaviours.positives):
        impute(s, params | {"behaviour": behaviour})
        for policy in POLICIES:
            for slots, sums in sums_of(s, policy, params | {"behaviour": behaviour}).items():
                facts = {"ds": ds, "behaviour": behaviour, "policy": policy.name}
                yield from _told(facts | {"slots": slots, "states": policy.states}, sums)


def estimate_parameters(shop: Shop, ds: date) -> Parameters:
    """What the SQL of the estimates asks for."""
    settings = shop.settings.estimate
    return parameters(shop, ds) | {
        "n_folds": settings.n_folds,
        "most_weight": settings.most_weight,
        "shrinkage": settings.shrinkage,
    }


def impute(s: Session, params: Parameters) -> None:
    """Fit the rewards that DR imputes, on other users: imputed.positions and imputed.items."""
    name_eligible(s, params)
    s.con.execute("CREATE SCHEMA IF NOT EXISTS imputed")
    for name in ("positions", "items"):
        select = render(sql.read(f"queries/imputed_{name}"), params)
        s.con.execute(f"CREATE OR REPLACE TABLE imputed.{name} AS {select}")


def name_eligible(s: Session, params: Parameters) -> None:
    """Make stated.eligible (ds, item_id): what could be shown on each date."""
    s.con.execute("CREATE SCHEMA IF NOT EXISTS stated")
    select = render(sql.read("queries/eligible_by_day"), params)
    s.con.execute(f"CREATE OR REPLACE TABLE stated.eligible AS {select}")


def sums_of(s: Session, policy: Stated, params: Parameters) -> dict[str, UserSums]:
    """The sums of a policy over each user's slots, by which slots: see SLOTS."""
    for name, select in (
        ("item_weights", policy.item_weights),
        ("user_weights", policy.user_weights),
    ):
        s.con.execute(f"CREATE OR REPLACE TABLE stated.{name} AS {select}")
    select = render(sql.read("queries/policy_sums"), params)
    s.con.execute(f"CREATE OR REPLACE TEMP TABLE policy_sums AS {select}")
    return {slots: _sums(s, where) for slots, where in SLOTS.items()}


def _sums(s: Session, where: str) -> UserSums:
    names = [name for name in UserSums.__dataclass_fields__ if name != "w_max"]
    columns = ", ".join(f"sum({name}) AS {name}" for name in names)
    found = s.con.sql(
        f"SELECT {columns}, max(w_max) AS w_max FROM policy_sums WHERE {where} "
        "GROUP BY user_id ORDER BY user_id"
    ).to_arrow_table()
    arrays = {name: found.column(name).to_numpy() for name in names}
    largest = found.column("w_max").to_numpy().max(initial=0.0)
    return UserSums(**arrays, w_max=float(largest))


def _told(facts: Mapping[str, Any], sums: UserSums) -> Iterator[dict[str, Any]]:
    found = overlap(sums)
    for value in policy_values(sums):
        yield {**facts, **vars(value), **vars(found), "sentence": found.sentence}
