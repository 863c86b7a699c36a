"""The training stages of a night: from train.examples to a kept model and its candidates.

A model is trained up to the cut and measured on the holdout, the days after it; then it is fitted
again on all days for as many epochs as were best, and this one is kept and scored. One half of the
users with a holdout choose the best epoch, the metrics are those of the other half. They count
users and items known before the cut; a pair that was in the training days is not looked for again
unless the shop sells the same item twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.estimate.ranking import RankingMetric, ranking_metrics
from tasks.lake.session import Session, session
from tasks.records import TableVersion
from tasks.scratch import scratch
from tasks.shop import Shop
from tasks.train import registry
from tasks.train.arrays import Interactions, build_interactions, item_mask, pairs_to_csr, positions
from tasks.train.loop import Holdout, Trained, train
from tasks.train.topk import iter_top_k, top_k

KS = (10, 20)
Vectors = npt.NDArray[np.float32]
Moved = Callable[[int, int, str], None]
_TRAINING = (
    "SELECT user_id, item_id, weight FROM train.examples UNION ALL "
    "SELECT user_id, item_id, weight FROM train.holdout"
)


@dataclass(frozen=True)
class TrainedModel:
    """A model that is kept in the lake's registry."""

    name: str
    version: str
    folder: Path
    n_epochs: int


def train_model(
    shop: Shop, ds: date, name: str, moved: Moved
) -> tuple[TrainedModel, list[TableVersion]]:
    """Train, measure, fit again on all days, keep. Raises TrainingError."""
    with (
        session(shop.lake, shop.settings.compute) as s,
        scratch("train") as work,
    ):
        for table in ("train.examples", "train.holdout", "serve.eligible_items"):
            s.read(table, since=ds, upto=ds)
        s.read("features.item_propensities", since=ds, upto=ds)
        before = _interactions(s, "SELECT user_id, item_id, weight FROM train.examples", work / "a")
        holdout = _holdout(s, shop, before, work / "b")
        choosing, measuring = _halves(holdout)
        first = _fit(shop, name, before, choosing, None, moved)
        metrics = _measure(
            first, measuring, int(s.value("SELECT count(*) FROM serve.eligible_items"))
        )
        last = first
        if holdout is not None:
            everything = _interactions(s, _TRAINING, work / "c")
            last = _fit(shop, name, everything, None, first.best_epoch or None, moved)
        saved = registry.save(last, shop.lake.root.absolute() / "models")
    kept = TrainedModel(name, saved.model_version, saved.path, last.best_epoch)
    return kept, [_write_metrics(shop, ds, kept, metrics)]


def _interactions(s: Session, select: str, work: Path) -> Interactions:
    # One stream at a time is all that a connection can have open: the smaller is read whole.
    propensities = s.stream(
        "SELECT item_id, p_exposed AS propensity FROM features.item_propensities ORDER BY item_id"
    ).read_all()
    positives = s.stream(f"{select} ORDER BY user_id, item_id")
    return build_interactions(positives, work, propensities=propensities)


def _holdout(s: Session, shop: Shop, data: Interactions, work: Path) -> Holdout | None:
    """What the time split looks for; None where it holds nothing that could be found."""
    repurchase = shop.mapping.behaviours.repurchase
    wanted = "true" if repurchase else "is_new"
    eligible = _ids(s, "SELECT item_id FROM serve.eligible_items ORDER BY item_id")
    pairs = s.stream(f"SELECT user_id, item_id FROM train.holdout WHERE {wanted} ORDER BY ALL")
    relevant = pairs_to_csr(pairs, data.users, data.items, work)
    if not len(relevant.indices):
        return None
    return Holdout(
        relevant=relevant,
        seen=None if repurchase else data.csr(),
        allowed=item_mask(eligible, data.items),
    )


def _halves(holdout: Holdout | None) -> tuple[Holdout | None, Holdout | None]:
    """Half of the users choose the best epoch, the other half measure it.

    The best of many epochs is better by luck on the users that chose it. One user does both.
    """
    if holdout is None:
        return None, None
    users = np.flatnonzero(holdout.relevant.sizes())
    if len(users) < 2:
        return holdout, holdout
    choosing, measuring = (
        replace(holdout, relevant=holdout.relevant.only(users[start::2])) for start in (0, 1)
    )
    return choosing, measuring


def _ids(s: Session, select: str) -> pa.Array:
    return s.stream(select).read_all().column(0).combine_chunks()


def _fit(
    shop: Shop,
    name: str,
    data: Interactions,
    holdout: Holdout | None,
    epochs: int | None,
    moved: Moved,
) -> Trained:
    settings = shop.settings.train
    purpose = "time split" if holdout is not None else "all days"
    return train(
        name,
        settings.configs.get(name, {}),
        data,
        seed=settings.seed,
        device=settings.device,
        holdout=holdout,
        epochs=epochs,
        progress=lambda done, total, loss: moved(done, total, f"{purpose}, loss {loss:.4f}"),
    )


def _measure(trained: Trained, holdout: Holdout | None, n_eligible: int) -> list[RankingMetric]:
    if holdout is None:
        return []
    rows = np.flatnonzero(holdout.relevant.sizes())
    lists = top_k(
        trained.model.user_vectors()[rows],
        trained.model.item_vectors(),
        max(KS),
        seen=None if holdout.seen is None else holdout.seen.take(rows),
        allowed=holdout.allowed,
    )
    return ranking_metrics(lists.items, holdout.relevant.take(rows), ks=KS, n_allowed=n_eligible)


def _write_metrics(
    shop: Shop, ds: date, model: TrainedModel, metrics: list[RankingMetric]
) -> TableVersion:
    rows = [
        {
            "model_version": model.version,
            "metric": each.metric,
            "k": each.k,
            "value": each.value,
            "n_users": each.n_users,
            "ds": ds,
            "model": model.name,
        }
        for each in metrics
        if each.value is not None
    ]
    return shop.lake.put("train.metrics", {"ds": ds, "model": model.name}, rows)


def score(shop: Shop, ds: date, model: TrainedModel, moved: Moved) -> TableVersion:
    """Write the model's exact top-K for every active user whom it can serve."""
    k = shop.settings.publish.k
    trained = registry.load(model.folder)
    with (
        session(shop.lake, shop.settings.compute) as s,
        scratch("score") as work,
    ):
        for table in ("serve.active_users", "serve.eligible_items", "serve.seen_items"):
            s.read(table, since=ds, upto=ds)
        eligible = _ids(s, "SELECT item_id FROM serve.eligible_items ORDER BY item_id")
        active = _ids(s, "SELECT user_id FROM serve.active_users ORDER BY user_id")
        users, user_vectors = _vectors_of_users(trained, active)
        items, item_vectors = _vectors_of_items(trained, eligible)
        pairs = s.stream("SELECT user_id, item_id FROM serve.seen_items ORDER BY ALL")
        seen = pairs_to_csr(pairs, users, items, work)
        schema = shop.lake.schema("serve.candidates")

        def rows(_: Any) -> pa.RecordBatchReader:
            batches = iter_top_k(users, items, user_vectors, item_vectors, k, seen=seen)
            told = _labelled(batches, schema, model, ds, len(users) * k, moved)
            return pa.RecordBatchReader.from_batches(schema, told)

        return shop.lake.rewrite("serve.candidates", {"ds": ds, "model": model.name}, rows)


def _vectors_of_users(trained: Trained, active: pa.Array) -> tuple[pa.Array, Vectors]:
    """The active users whom the model can serve, and their vectors [U, d]."""
    at = positions(active, trained.users)
    cold = trained.model.cold_user_vector()
    if cold is None:
        known = np.flatnonzero(at >= 0)
        return active.take(pa.array(known)), trained.model.user_vectors()[at[known]]
    vectors = np.tile(cold, (len(active), 1))
    vectors[at >= 0] = trained.model.user_vectors()[at[at >= 0]]
    return active, vectors


def _vectors_of_items(trained: Trained, eligible: pa.Array) -> tuple[pa.Array, Vectors]:
    """The eligible items that the model can list, in order of id, and their vectors [I, d]."""
    at = positions(eligible, trained.items)
    cold = trained.model.cold_item_vector()
    if cold is None:
        known = np.flatnonzero(at >= 0)
        return eligible.take(pa.array(known)), trained.model.item_vectors()[at[known]]
    vectors = np.tile(cold, (len(eligible), 1))
    vectors[at >= 0] = trained.model.item_vectors()[at[at >= 0]]
    return eligible, vectors


def _labelled(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    model: TrainedModel,
    ds: date,
    n_expected: int,
    moved: Moved,
) -> Iterator[pa.RecordBatch]:
    """The same rows with what they share written beside them."""
    done = 0
    for batch in batches:
        shared = {"model": model.name, "model_version": model.version, "ds": ds}
        columns = [
            pa.repeat(pa.scalar(shared[field.name], field.type), batch.num_rows)
            if field.name in shared
            else batch.column(field.name)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
        done += batch.num_rows
        moved(done, n_expected, f"{model.name}: rows")
