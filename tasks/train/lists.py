"""The exact top-K lists of a model: tonight's candidates, and the trial lists of the time split."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import numpy as np
import pyarrow as pa

import sql
from models.contract import HasGraph, SequenceConfig, SequenceModel
from tasks.lake.literals import render
from tasks.lake.session import Session, session
from tasks.lake.tables import Partition
from tasks.records import TableVersion
from tasks.scratch import scratch
from tasks.shop import Shop, name_positives, parameters, with_cut
from tasks.train import registry
from tasks.train.arrays import Sequences, pairs_to_csr, positions
from tasks.train.causal_edges import write_edges
from tasks.train.histories import TABLE, read_histories
from tasks.train.loop import Trained, resolved
from tasks.train.reasons import WeighedMost
from tasks.train.registry import SavedModel
from tasks.train.scoring import Side, iter_rows

Moved = Callable[[float, float, str], None]


@dataclass(frozen=True)
class _Audience:
    """Who gets a list, and what each may not find in it: one SELECT each."""

    users: str
    seen: str


_TONIGHT = _Audience(
    users="SELECT user_id FROM serve.active_users ORDER BY user_id",
    seen="SELECT user_id, item_id FROM serve.seen_items ORDER BY ALL",
)


def score(shop: Shop, ds: date, saved: SavedModel, moved: Moved) -> list[TableVersion]:
    """Write the model's exact top-K for every active user whom it can serve, and its graph."""
    trained = registry.load(saved.path)
    shared = {"model": saved.model, "model_version": saved.model_version, "ds": ds}
    with session(shop.lake, shop.settings.compute) as s, scratch("histories") as work:
        for table in ("serve.active_users", "serve.eligible_items", "serve.seen_items"):
            s.read(table, since=ds, upto=ds)
        histories = None
        if TABLE in trained.model.reads:
            ids_of = trained.users, trained.items
            histories = read_histories(s, shop, ds, *ids_of, work, upto=ds)
        where: Partition = {"ds": ds, "model": saved.model}
        rows = _write(
            shop, s, trained, _TONIGHT, "serve.candidates", where, shared, moved, histories
        )
        if histories is None or not isinstance(trained.model, HasGraph):
            return [rows]
        length = cast(SequenceConfig, trained.config).length
        graph = trained.model, length, histories, trained.items
        return [rows, write_edges(shop.lake, ds, saved, *graph)]


def write_trials(
    shop: Shop, s: Session, ds: date, release: str, trained: Trained
) -> list[TableVersion]:
    """Write what a model of the days up to the cut would have listed for who came after it.

    These lists know nothing of the days after the cut, so what users did then can judge them.
    `s` reads serve.eligible_items. Nothing is written where nothing lies before the cut.
    """
    for table in ("features.behaviours_daily", "features.feedback_daily"):
        s.read(table, upto=ds)
    name_positives(s, shop)
    params = with_cut(s, parameters(shop, ds))
    if params["cut"] == ds:
        return []
    shared = {"release_id": release, "ds": ds, "cut": params["cut"], "model": trained.name}
    where: Partition = {"ds": ds, "release_id": release, "model": trained.name}
    queries = [render(sql.read(f"queries/trial_{name}"), params) for name in ("users", "seen")]
    return [_write(shop, s, trained, _Audience(*queries), "serve.trials", where, shared, _unseen)]


def _unseen(done: float, total: float, note: str) -> None:
    """The stage shows its training instead."""


def _write(
    shop: Shop,
    s: Session,
    trained: Trained,
    audience: _Audience,
    table: str,
    where: Partition,
    shared: Mapping[str, object],
    moved: Moved,
    histories: Sequences | None = None,
) -> TableVersion:
    k, schema = shop.settings.publish.k, shop.lake.schema(table)
    eligible = ids(s, "SELECT item_id FROM serve.eligible_items ORDER BY item_id")
    model, device = trained.model, resolved(shop.settings.train.device)
    threads = shop.settings.compute.threads
    users = _side(ids(s, audience.users), trained.users, model.serves_cold_users)
    items = _side(eligible, trained.items, model.serves_cold_items)
    reasons = None
    if histories is not None and isinstance(model, SequenceModel):
        length = cast(SequenceConfig, trained.config).length
        reasons = WeighedMost(model, length, histories, users, items, trained.items)
    with scratch("lists") as work:
        seen = pairs_to_csr(s.stream(audience.seen), users.ids, items.ids, work)

        def rows(_: Any) -> pa.RecordBatchReader:
            batches = iter_rows(
                model,
                users,
                items,
                k,
                seen=seen,
                device=device,
                threads=threads,
                reasons=reasons,
            )
            told = _labelled(batches, schema, shared, len(users.at) * k, moved)
            return pa.RecordBatchReader.from_batches(schema, told)

        return shop.lake.rewrite(table, where, rows)


def ids(s: Session, select: str) -> pa.Array:
    """One column of ids, in the order of the SELECT."""
    return s.stream(select).read_all().column(0).combine_chunks()


def _side(wanted: pa.Array, trained_on: pa.Array, serves_cold: bool) -> Side:
    """Those of the wanted ids that the model can serve, in their order."""
    at = positions(wanted, trained_on)
    if serves_cold:
        return Side(wanted, at)
    known = np.flatnonzero(at >= 0)
    return Side(wanted.take(pa.array(known)), at[known])


def _labelled(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    shared: Mapping[str, object],
    n_expected: int,
    moved: Moved,
) -> Iterator[pa.RecordBatch]:
    """The same rows with what they share written beside them."""
    done = 0
    for batch in batches:
        columns = [
            pa.repeat(pa.scalar(shared[field.name], field.type), batch.num_rows)
            if field.name in shared
            else batch.column(field.name)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
        done += batch.num_rows
        moved(done, n_expected, f"{shared['model']}: rows")
