"""Each model of a release against what is served, on days that neither knew: serve.comparisons.

The trial lists of a release (serve.trials) are those of models that learnt from the days up to the
cut. The slots of the log after the cut judge them. As a policy, a list fills a slot, given what
stands above it, with one of its items that is free, each as likely: ranks do not count. The
estimand is the mean reward per slot after the cut, had the lists of the users whom both serve
filled it so. The reward is the positive behaviour that is most common there. Beside it stands the
time split, NDCG@K against what the same users did after the cut, which favours what was shown to
them anyway; without logged probabilities it stands alone.

The change is value / champion's value - 1, paired by user, so that what both lists share does not
widen its interval. It is told of at least 30 users; a few who have most of the slots are few. Lists
are compared as far as both reach, where K was changed. The challenger learnt some nights more than
the champion, which is what would be served instead of it. Half of the users chose the challenger's
number of epochs: that flatters it by a hair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np

import sql
from tasks.estimate.intervals import LEAST_USERS, Floats, effective_users
from tasks.estimate.log import Log, opened_log
from tasks.estimate.policies import USERS, Stated, common_reward, impute, sums_of
from tasks.estimate.segments import Mask, segments
from tasks.estimate.values import (
    Estimator,
    PolicyValue,
    UserSums,
    change,
    change_of_means,
    overlap,
    policy_values,
)
from tasks.lake.literals import render
from tasks.records import TableVersion
from tasks.shop import Parameters, Shop

ESTIMATORS: tuple[Estimator, ...] = ("ips", "clipped_ips", "snips", "dr")
# Settings may have changed: days after both cuts, and no rank that the champion's K left out.
_COMMON = """
SELECT max(cut) AS cut, max(rank) FILTER (WHERE release_id = $release) AS k
FROM serve.trials"""
_WORST = ("ok", "weak overlap", "no overlap")
Row = dict[str, Any]


@dataclass(frozen=True)
class Lists:
    """The trial lists of one model of one release; users it does not know have the cold model's."""

    release_id: str
    ds: date
    model: str

    def as_policy(self, side: str) -> Stated:
        """What the lists do with a slot; they stand in compared.<side>."""
        return Stated(
            name=self.model,
            states="a free item of the user's list, each as likely",
            item_weights="SELECT '' AS item_id, 0.0 AS weight LIMIT 0",
            user_weights=f"SELECT user_id, item_id, 1.0 AS weight FROM compared.{side}",
        )


def compare(
    shop: Shop,
    ds: date,
    release: str,
    models: Sequence[str],
    candidate: str,
    champion: Lists | None,
) -> TableVersion:
    """Write how each model of a release compares with the champion; no row where there is none."""
    rows: list[Row] = []
    if champion is not None:
        with opened_log(shop, ds) as log:
            for model in models:
                facts = {"is_candidate": model == candidate, "release_id": release, "ds": ds}
                found = compared(log, Lists(release, ds, model), champion)
                rows += [facts | row for row in found]
    return shop.lake.put("serve.comparisons", {"ds": ds, "release_id": release}, rows)


def compared(log: Log, challenger: Lists, champion: Lists) -> Iterator[Row]:
    """One row per estimate, and per segment for the estimate of the gate."""
    log.s.con.execute("CREATE SCHEMA IF NOT EXISTS compared")
    _read(log, challenger, champion)
    cut, k = log.s.rows(_COMMON, {"release": champion.release_id})[0]
    log = replace(log, params=log.params | {"k": min(k or 0, log.shop.settings.publish.k)})
    sides = {"challenger": challenger, "champion": champion}
    if cut is None or not all(_lay_out(log, side, lists) for side, lists in sides.items()):
        return  # a model without lists, or a release from before lists were kept
    facts = {
        "model": challenger.model,
        "champion_release": champion.release_id,
        "champion_model": champion.model,
        "cut": cut,
    }
    after = replace(log, params=log.params | {"since": cut + timedelta(days=1), "cut": cut})
    for row in (*_by_value(log, after, sides), *_by_time_split(after)):
        yield facts | row


def _read(log: Log, challenger: Lists, champion: Lists) -> None:
    pinned = log.lake.pin("serve.trials")
    releases = {challenger.release_id, champion.release_id}
    files = pinned.files(lambda found: found["release_id"] in releases)
    log.s.view("serve.trials", pinned.select(files))
    log.s.read("train.holdout", since=log.ds, upto=log.ds)


def _lay_out(log: Log, side: str, lists: Lists) -> bool:
    """Make compared.<side> (user_id, item_id, rank); false where it holds no list."""
    facts: Parameters = {
        "release_id": lists.release_id,
        "model": lists.model,
        "cold_model": log.shop.settings.publish.cold_model,
        "k": log.params["k"],
    }
    select = render(sql.read("queries/trial_lists"), facts)
    log.s.con.execute(f"CREATE OR REPLACE TABLE compared.{side} AS {select}")
    return bool(log.s.value(f"SELECT count(*) FROM compared.{side}"))


def _by_value(log: Log, after: Log, sides: dict[str, Lists]) -> Iterator[Row]:
    reward = common_reward(after)
    if reward is None:
        return
    impute(log, reward)
    one, other = (
        sums_of(after, lists.as_policy(side), reward)["all positions"]
        for side, lists in sides.items()
    )
    of_gate = log.shop.settings.gate.estimator
    for kind, segment, among in _compared(after, USERS):
        estimators = ESTIMATORS if kind == "all" else [e for e in ESTIMATORS if e == of_gate]
        for estimator in estimators:
            row = {"reward": reward, "segment_kind": kind, "segment": segment}
            yield row | _valued(estimator, one.only(among), other.only(among))


def _valued(estimator: Estimator, one: UserSums, other: UserSums) -> Row:
    facts, base = overlap(one), overlap(other)
    verdict = max((facts.verdict, base.verdict), key=_WORST.index)
    if effective_users(one.n) < LEAST_USERS:
        verdict = "no overlap"
    is_told = verdict != "no overlap"
    told = change(estimator, one, other) if is_told else PolicyValue.nothing(estimator)
    return {
        "estimator": estimator,
        "value": _named(estimator, one).value,
        "champion_value": _named(estimator, other).value,
        **_interval(told),
        "n_slots": facts.n_slots,
        "n_users": facts.n_users,
        "ess": min(facts.ess, base.ess),
        "verdict": verdict,
    }


def _named(estimator: Estimator, sums: UserSums) -> PolicyValue:
    return next(each for each in policy_values(sums) if each.estimator == estimator)


def _interval(told: PolicyValue) -> Row:
    return {"change": told.value, "se": told.se, "lower": told.lower, "upper": told.upper}


def _by_time_split(after: Log) -> Iterator[Row]:
    found = after.s.stream(sql.read("queries/trial_ndcg"), after.params).read_all()
    after.s.con.register("with_something_to_find", found)
    one, other = (found.column(side).to_numpy() for side in ("challenger", "champion"))
    of_gate = after.shop.settings.gate.estimator == "time_split"
    for kind, segment, among in _compared(after, "SELECT user_id FROM with_something_to_find"):
        if kind == "all" or of_gate:
            row = {"reward": "ndcg", "segment_kind": kind, "segment": segment}
            yield row | _split(one[among], other[among])


def _split(one: Floats, other: Floats) -> Row:
    n_users = len(one)
    return {
        "estimator": "time_split",
        "value": float(one.mean()) if n_users else None,
        "champion_value": float(other.mean()) if n_users else None,
        **_interval(change_of_means(one, other)),
        "n_slots": n_users,
        "n_users": n_users,
        "ess": float(n_users),
        "verdict": "ok" if n_users >= LEAST_USERS else "no overlap",
    }


def _compared(after: Log, users: str) -> Iterator[tuple[str, str, Mask]]:
    """The segments of the users of a SELECT; of those, only whom both lists serve count."""
    both = "SELECT user_id FROM compared.champion INTERSECT SELECT user_id FROM compared.challenger"
    found = after.s.stream(
        f"SELECT user_id IN ({both}) AS is_compared FROM ({users}) ORDER BY user_id"
    ).read_all()
    is_compared = found.column("is_compared").to_numpy(zero_copy_only=False)
    return segments(after, users, is_compared.astype(np.bool_))
