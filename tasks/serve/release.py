"""Make a release: rules over candidates, lists, shortfalls. Nothing is served by it."""

from collections.abc import Sequence
from datetime import date

import sql
from tasks.errors import TrainingError
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.lake.tables import Partition, fingerprint
from tasks.records import TableVersion
from tasks.shop import Parameters, Shop, parameters
from tasks.train.registry import SavedModel
from tasks.transform import build_snapshot

ROWS_PER_MIB = 4_000  # of lists; a gigabyte sorts those of 190,000 users with 20 rows each
READS = (
    "serve.candidates",
    "serve.active_users",
    "serve.eligible_items",
    "serve.seen_items",
    "train.examples",
    "train.holdout",
)


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

    `model` is the one whose lists are used: the published one, or what stands in for it. Users are
    listed a range at a time, as many as fit in memory; the ranges come in order, so the rows are
    the same however many there are.
    """
    params = parameters(shop, ds) | {"release_id": release, "model": model}
    where: Partition = {"ds": ds, "release_id": release}
    written = []
    with session(shop.lake, shop.settings.compute) as s:
        for name in READS:
            s.read(name, since=ds, upto=ds)
        ranges = user_ranges(s, _users_at_once(shop))
        for name in ("serve.recommendations", "serve.shortfalls"):
            texts = [render(sql.read_table(name), params | each) for each in ranges]
            if name == "serve.shortfalls":
                texts = texts[:1]  # it names no range: few rows

            def write(name: str = name, texts: Sequence[str] = texts) -> TableVersion:
                return shop.lake.rewrite(name, where, lambda _: s.streams(texts))

            # half the memory costs a tenth of the time, and what models left is beside it still
            written.append(s.in_half(write))
            s.read(name, since=ds, upto=ds)
    return written


def _users_at_once(shop: Shop) -> int:
    """How many users' lists are sorted in one go: in half of the memory they do not spill."""
    return max(1, shop.settings.compute.memory_mib * ROWS_PER_MIB // shop.settings.publish.k)


def user_ranges(s: Session, n_users: int) -> list[Parameters]:
    """The active users in order, cut into ranges of so many: the first and the last of each."""
    rows = s.rows(sql.read("queries/user_ranges"), {"n_users": n_users})
    ranges: list[Parameters] = [{"first_user": a, "last_user": b} for a, b in rows]
    return ranges or [{"first_user": "", "last_user": ""}]


def choose_model(
    shop: Shop, trained: Sequence[SavedModel], untrained: Sequence[tuple[str, str]]
) -> str:
    """The published model, or the cold model in its place where it could not be trained."""
    names = {each.model for each in trained}
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
