"""Make a release: rules over candidates, lists, shortfalls. Nothing is served by it.

The order of degrading, for nights that have a budget of time or models that fail:

1. A model whose time is over (`train.max_minutes`, `night.deadline_minutes`) is stopped between two
   steps and dropped; the night goes on with the others. Its checkpoint stays, and the release has
   another name than the whole one, so that another run of the night can make that.
2. Where it is the published model, the cold model stands in for it (source: fallback), if the gate
   lets its lists pass.
3. Where the gate holds them, or the cold model is missing too, what was served yesterday stays.
4. Where nothing is served yet and both are missing, popularity is fitted, whatever train.models
   says: a first night has lists.

The cold model is bound by `train.max_minutes` and not by the deadline; popularity, where it is the
last that is left, by neither.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

import sql
from tasks.errors import TrainingError
from tasks.lake.literals import Value, render
from tasks.lake.session import Session, session
from tasks.lake.tables import Partition, Pinned, fingerprint
from tasks.records import TableVersion
from tasks.shop import Parameters, Shop, parameters
from tasks.transform import build_snapshot

if TYPE_CHECKING:
    # It reaches torch, for which those who ask for a release's name alone need not wait.
    from tasks.train.registry import SavedModel

ROWS_PER_MIB = 4_000  # of lists; a gigabyte sorts those of 190,000 users with 20 rows each
READS = (
    "serve.candidates",
    "serve.active_users",
    "serve.eligible_items",
    "serve.seen_items",
    "train.examples",
    "train.holdout",
)


FALLBACK = "popularity"


def release_id(shop: Shop, ds: date, without: Collection[str] = ()) -> str:
    """Names what a release is made from: the files that reach back to `ds`, and the recipe.

    `without`: models of the recipe that were dropped for lack of time.
    """
    with session(shop.lake, shop.settings.compute) as s:
        for name in ("ops.files", "ops.row_moves"):
            s.read(name)
        files = s.rows(
            "SELECT DISTINCT dataset, content_hash FROM ops.files "
            "WHERE state = 'ingested' AND first_ds <= $ds AND (n_clean > 0 OR file_id IN "
            "(SELECT m.file_id FROM ops.row_moves AS m WHERE m.to_place = 'clean')) ORDER BY ALL",
            {"ds": ds},
        )
    dropped = [f"without {model}" for model in sorted(without)]
    return f"{ds}-{fingerprint([shop.recipe, *dropped, *map(str, files)])[:12]}"


def carry_over(shop: Shop, ds: date, old: str, new: str, models: Sequence[str]) -> None:
    """Note of these models for release `new` what was noted of them for `old`."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("serve.trials", since=ds, upto=ds)
        for model in models:
            params: dict[str, Value] = {"old": old, "new": new, "model": model}
            select = render(
                "SELECT * REPLACE ($new AS release_id) FROM serve.trials "
                "WHERE release_id = $old AND model = $model ORDER BY user_id, rank",
                params,
            )
            where: Partition = {"ds": ds, "release_id": new, "model": model}

            def write(select: str = select, where: Partition = where) -> TableVersion:
                return shop.lake.rewrite("serve.trials", where, lambda _: s.stream(select))

            write()

    def with_carried(pinned: Pinned) -> pa.Table:
        rows = shop.lake.rows(pinned, {"ds": ds}).to_pylist()
        carried = [r | {"release_id": new} for r in rows if r["release_id"] == old]
        carried = [row for row in carried if row["model"] in models]
        kept = [r for r in rows if r["release_id"] != new or r["model"] not in models]
        ordered = sorted([*kept, *carried], key=lambda r: (r["release_id"], r["model"]))
        return pa.Table.from_pylist(ordered, schema=shop.lake.schema("ops.models"))

    shop.lake.rewrite("ops.models", {"ds": ds}, with_carried)


def build_rules(shop: Shop, ds: date) -> list[TableVersion]:
    """Who gets a list, what may stand in it, and what each has seen."""
    params = parameters(shop, ds)
    with session(shop.lake, shop.settings.compute) as s:
        return [
            build_snapshot(s, name, params)
            for name in ("serve.active_users", "serve.eligible_items", "serve.seen_items")
        ]


def build_release(
    shop: Shop, ds: date, release: str, model: str, cold_model: str | None = None
) -> list[TableVersion]:
    """Write the lists and the shortfalls of a release; nothing is served by this.

    `model` is the one whose lists are used: the published one, or what stands in for it.
    `cold_model` fills up; another than the settings' where that was not trained. Users are listed
    a range at a time, as many as fit in memory; the ranges come in order, so the rows are the same
    however many there are.
    """
    params = parameters(shop, ds) | {"release_id": release, "model": model}
    params |= {} if cold_model is None else {"cold_model": cold_model}
    where: Partition = {"ds": ds, "release_id": release}
    written = []
    with session(shop.lake, shop.settings.compute) as s:
        for name in READS:
            s.read(name, since=ds, upto=ds)
        whole: list[Parameters] = [{}]
        for name, parts in (
            ("serve.recommendations", user_ranges(s, _users_at_once(shop))),
            ("serve.shortfalls", whole),  # few rows
        ):
            texts = [render(sql.read_table(name), params | each) for each in parts]

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
    shop: Shop,
    trained: "Sequence[SavedModel]",
    left_out: Sequence[str],
    is_first: bool = False,
) -> str:
    """The published model, or the cold model in its place where it has no lists.

    Where nothing is served yet (`is_first`), popularity in the place of both.
    """
    names = {each.model for each in trained}
    order = [shop.settings.publish.model, shop.settings.publish.cold_model]
    for model in [*order, FALLBACK] if is_first else order:
        if model in names:
            return model
    raise TrainingError(
        "no model that may be published has lists: " + "; ".join(left_out),
        where="train.models",
        unchanged="nothing is published; what was served stays served",
        fix="mend what is said above, then run the night again",
    )
