"""Make a release: rules over candidates, lists, shortfalls; then decide whether it is served."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sql
from tasks.errors import TrainingError
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.lake.tables import Partition, fingerprint
from tasks.records import TableVersion
from tasks.serve.publications import (
    SERVING,
    Publication,
    history,
    note_once,
    now,
    reconcile,
    served,
)
from tasks.shop import Shop, parameters
from tasks.train.night import TrainedModel
from tasks.transform import build_snapshot

READS = (
    "serve.candidates",
    "serve.active_users",
    "serve.eligible_items",
    "serve.seen_items",
    "train.examples",
    "train.holdout",
)


@dataclass(frozen=True)
class Decision:
    """What became of a release, and why in one sentence."""

    action: str
    reason: str


def release_id(shop: Shop, ds: date) -> str:
    """Names what a release is made from: the files that reach back to `ds`, and the recipe."""
    with session(shop.lake, shop.settings.compute) as s:
        for name in ("ops.files", "ops.row_moves"):
            s.read(name)
        files = s.rows(
            "SELECT DISTINCT dataset, content_hash FROM ops.files "
            "WHERE state = 'ingested' AND first_ds <= $ds AND (n_clean > 0 OR file_id IN "
            "(SELECT m.file_id FROM ops.row_moves AS m WHERE m.to_place = 'clean')) ORDER BY ALL",
            {"ds": ds},
        )
    return f"{ds}-{fingerprint([shop.recipe, *map(str, files)])[:12]}"


def build_rules(shop: Shop, ds: date) -> list[TableVersion]:
    """Who gets a list, what may stand in it, and what each has seen."""
    params = parameters(shop, ds)
    with session(shop.lake, shop.settings.compute) as s:
        return [
            build_snapshot(s, name, params)
            for name in ("serve.active_users", "serve.eligible_items", "serve.seen_items")
        ]


def build_release(shop: Shop, ds: date, release: str, model: str) -> list[TableVersion]:
    """Write the lists and the shortfalls of a release; nothing is served by this.

    `model` is the one whose lists are used: the published one, or what stands in for it.
    """
    params = parameters(shop, ds) | {"release_id": release, "model": model}
    where: Partition = {"ds": ds, "release_id": release}
    written = []
    with session(shop.lake, shop.settings.compute) as s:
        for name in READS:
            s.read(name, since=ds, upto=ds)
        for name in ("serve.recommendations", "serve.shortfalls"):
            text = render(sql.read_table(name), params)

            def made(_: Any, text: str = text) -> Any:
                return s.stream(text)

            written.append(shop.lake.rewrite(name, where, made))
            s.read(name, since=ds, upto=ds)
    return written


def decided(shop: Shop, release: str) -> Publication | None:
    """The last decision about a release, if there was one."""
    with session(shop.lake, shop.settings.compute) as s:
        found = [each for each in history(s) if each.release_id == release]
    return found[-1] if found else None


def choose_model(
    shop: Shop, trained: Sequence[TrainedModel], untrained: Sequence[tuple[str, str]]
) -> str:
    """The published model, or the cold model in its place where it could not be trained."""
    names = {each.name for each in trained}
    for model in (shop.settings.publish.model, shop.settings.publish.cold_model):
        if model in names:
            return model
    raise TrainingError(
        "no model that may be published was trained: "
        + "; ".join(f"{model}: {reason}" for model, reason in untrained),
        where="train.models",
        unchanged="nothing is published; what was served stays served",
        fix="mend what is said above, then run the night again",
    )


def was_replaced(shop: Shop, before: Publication) -> bool:
    """Whether a release was served, and then another of the same night in its place."""
    with session(shop.lake, shop.settings.compute) as s:
        serving = served(history(s))
    return (
        before.action in SERVING
        and serving is not None
        and serving.ds == before.ds
        and serving.release_id != before.release_id
    )


def publish(
    shop: Shop,
    ds: date,
    release: str,
    model: str,
    run_id: str,
    *,
    untrained: Sequence[tuple[str, str]] = (),
    who: str = "nightly",
) -> Decision:
    """Decide about a release, note the decision, and serve it if it is to be served."""
    before = decided(shop, release)
    if before is None or was_replaced(shop, before):
        with session(shop.lake, shop.settings.compute) as s:
            s.read("serve.recommendations", since=ds, upto=ds)
            n_users, n_rows = s.rows(
                "SELECT count(DISTINCT user_id), count(*) FROM serve.recommendations "
                "WHERE release_id = $release_id",
                {"release_id": release},
            )[0]
            decision = _gate(shop, s, ds, n_users, n_rows)
        for name, reason in untrained:
            decision = Decision(
                decision.action, f"{decision.reason}; {name} was not trained: {reason}"
            )
        noted = note_once(
            shop.lake,
            before,
            Publication(
                release_id=release,
                ds=ds,
                action=decision.action,
                reason=decision.reason,
                who=who,
                decided_at=now(),
                model=model,
                n_users=n_users,
                n_rows=n_rows,
                run_id=run_id,
            ),
        )
        decision = Decision(noted.action, noted.reason)
    else:
        decision = Decision(before.action, before.reason)
    reconcile(shop.lake, shop.settings.compute)
    return decision


def _gate(shop: Shop, s: Session, ds: date, n_users: int, n_rows: int) -> Decision:
    """The guardrails: nothing empty, nothing shrunken, nothing older than what is served."""
    serving = served(history(s))
    if not n_rows:
        return Decision("hold", f"the list of {ds} is empty")
    if serving is None:
        return Decision("publish", f"the first night: {n_users:,} users, {n_rows:,} rows")
    if serving.ds > ds:
        return Decision("backfill", f"{ds} is older than {serving.ds}, which stays served")
    k, max_shrink = shop.settings.publish.k, shop.settings.publish.max_shrink
    # Shorter lists are no loss where K was made smaller.
    rows_served = min(serving.n_rows, serving.n_users * k)
    for what, new, old in (("users", n_users, serving.n_users), ("rows", n_rows, rows_served)):
        if new < (1 - max_shrink) * old:
            return Decision(
                "hold",
                f"{new:,} {what} against {old:,} served ({serving.ds}): more than "
                f"{max_shrink:.0%} went missing; {serving.ds} stays served",
            )
    return Decision("publish", f"{n_users:,} users, {n_rows:,} rows")
