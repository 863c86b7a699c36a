"""The values of stated policies, from the night's log: train.policy_values.

A stated policy fills each slot of the log, given what stands above it, with an item that is free:
eligible by the catalogue of that date, and not above. The estimand is the mean reward per slot, had
it filled them so: "of these requests, at these positions, below these items". Rewards are whether a
behaviour followed from the request on the item. Slots without a logged probability are left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sql
from tasks.estimate.log import Log
from tasks.estimate.segments import segments
from tasks.estimate.values import UserSums, overlap, policy_values
from tasks.lake.literals import render
from tasks.lake.session import Session
from tasks.records import TableVersion

THIRDS = ("head", "middle", "tail")
USERS = "SELECT DISTINCT user_id FROM policy_sums"  # of the policy that was summed last
SLOTS = {"first position": "is_first", "all positions": "true"}


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


def estimate(log: Log) -> TableVersion:
    """Write the values of the stated policies; no row where no probability was logged."""
    return log.lake.put("train.policy_values", {"ds": log.ds}, list(_rows(log)))


def _rows(log: Log) -> Iterator[dict[str, Any]]:
    n_logged = "SELECT count(*) FROM features.feedback_daily WHERE p_logged IS NOT NULL"
    if not log.s.value(n_logged):
        return
    common = common_reward(log)
    for behaviour in sorted(log.shop.mapping.behaviours.positives):
        impute(log, behaviour)
        for policy in POLICIES:
            yield from _values(log, policy, behaviour, by_segment=behaviour == common)
        if behaviour == common:
            yield from _by_popularity(log, behaviour)


def _values(
    log: Log, policy: Stated, behaviour: str, *, by_segment: bool
) -> Iterator[dict[str, Any]]:
    facts = {"behaviour": behaviour, "policy": policy.name, "states": policy.states}
    everything = {"segment_kind": "all", "segment": "all"}
    found = sums_of(log, policy, behaviour)
    for slots, sums in found.items():
        yield from _told(log, facts | everything | {"slots": slots}, sums)
    if not by_segment:
        return
    for kind, segment, among in segments(log, USERS):
        if kind != "all":
            where = {"segment_kind": kind, "segment": segment, "slots": "all positions"}
            yield from _told(log, facts | where, found["all positions"].only(among))


def _by_popularity(log: Log, behaviour: str) -> Iterator[dict[str, Any]]:
    """The uniform policy over the head, the middle and the tail of the items alone."""
    select = render(sql.read("queries/popularity_thirds"), log.params)
    log.s.con.execute(f"CREATE OR REPLACE TABLE stated.thirds AS {select}")
    for third in THIRDS:
        items = f"SELECT item_id, 1.0 AS weight FROM stated.thirds WHERE third = '{third}'"
        states = f"each free item of the {third} of popularity is as likely"
        policy = Stated("uniform", states, items)
        facts = {"behaviour": behaviour, "policy": policy.name, "states": policy.states}
        where = {"segment_kind": "popularity", "segment": third, "slots": "all positions"}
        yield from _told(log, facts | where, sums_of(log, policy, behaviour)["all positions"])


def common_reward(log: Log) -> str | None:
    """The positive behaviour that most slots with a logged probability led to; None without any."""
    positives = sorted(log.shop.mapping.behaviours.positives)
    found = log.s.rows(sql.read("queries/rewards"), log.params | {"positives": positives})
    return str(found[0][0]) if found else None


def impute(log: Log, behaviour: str) -> None:
    """Fit the rewards that DR imputes, on other users: imputed.positions and imputed.items."""
    for name in ("sums", "positions", "items"):
        select = render(sql.read(f"queries/imputed_{name}"), log.params | {"behaviour": behaviour})
        log.s.con.execute(f"CREATE OR REPLACE TABLE imputed.{name} AS {select}")


def sums_of(log: Log, policy: Stated, behaviour: str) -> dict[str, UserSums]:
    """The sums of a policy over each user's slots, by which slots: see SLOTS."""
    s = log.s
    for name, select in (
        ("item_weights", policy.item_weights),
        ("user_weights", policy.user_weights),
    ):
        s.con.execute(f"CREATE OR REPLACE TABLE stated.{name} AS {select}")
    select = render(sql.read("queries/policy_sums"), log.params | {"behaviour": behaviour})
    s.con.execute(f"CREATE OR REPLACE TEMP TABLE policy_sums AS {select}")
    return {slots: _sums(s, where) for slots, where in SLOTS.items()}


def _sums(s: Session, where: str) -> UserSums:
    names = [name for name in UserSums.__dataclass_fields__ if name != "w_max"]
    columns = ", ".join(f"sum({name})::DOUBLE AS {name}" for name in names)
    found = s.con.sql(
        f"SELECT {columns}, max(w_max) AS w_max FROM policy_sums WHERE {where} "
        "GROUP BY user_id ORDER BY user_id"
    ).to_arrow_table()
    arrays = {name: found.column(name).to_numpy() for name in names}
    largest = found.column("w_max").to_numpy().max(initial=0.0)
    return UserSums(**arrays, w_max=float(largest))


def _told(log: Log, facts: Mapping[str, Any], sums: UserSums) -> Iterator[dict[str, Any]]:
    found = overlap(sums)
    for value in policy_values(sums):
        shared = {"ds": log.ds, "sentence": found.sentence}
        yield {**facts, **vars(value), **vars(found), **shared}
