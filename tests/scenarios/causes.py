"""Sample shops whose true causes are known step by step, and how well a graph finds them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from models.causalrec import CausalRec
from models.contract import Past
from models.sasrec import SASRec, attend
from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.lake.session import session
from tasks.sample import ShopSettings, Truth, write_sample
from tasks.shop import Shop, name_positives, open_shop
from tasks.train.arrays import Interactions, Sequences, build_interactions, build_sequences
from tasks.train.feeds import past_of
from tasks.train.loop import Trained, train
from tasks.train.sequences import last_steps

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
LENGTH = 50
STEPS = """
    SELECT events.event_id, events.user_id, events.item_id, positives.weight
    FROM clean.events AS events
    INNER JOIN settings.positives AS positives USING (behaviour)
    WHERE events.superseded_at IS NULL
    ORDER BY events.user_id, events.occurred_at, events.behaviour, events.item_id, events.event_id
"""


@dataclass(frozen=True, eq=False)
class Causes:
    """The histories of a shop, and which step of a user caused which."""

    data: Interactions
    parents: pl.DataFrame  # user, step, parent: positions, the parent before the step
    types: npt.NDArray[np.int64]  # [n_items]
    categories: npt.NDArray[np.int64]  # [n_items]
    successor: npt.NDArray[np.int64]  # [n_items] the type that follows

    @property
    def sequences(self) -> Sequences:
        """Of all users."""
        assert self.data.sequences is not None
        return self.data.sequences


def causes(settings: ShopSettings, root: Path) -> Causes:
    """Write a sample shop, ingest it, and lay its histories beside the truth."""
    write_sample(settings, root)
    shop = open_shop(None, "sample_shop", root / "landing", root / "lake")
    ds, _ = ingest(shop, arrival(shop.landing, shop.mapping, None), "run")
    steps = _steps(shop, ds)
    given = steps.select("user_id", "item_id", "weight").to_arrow()
    pairs = steps.group_by("user_id", "item_id").agg(pl.col("weight").sum()).sort(pl.all())
    data = build_interactions(pairs.to_arrow(), root / "arrays")
    sequences = build_sequences(given, data.users, data.items, root / "arrays")
    truth = Truth.read(root / "truth")
    items = _of_items(truth, data)
    return Causes(
        data=replace(data, sequences=sequences),
        parents=_parents(steps, truth, data),
        types=items["product_type"].to_numpy(),
        categories=items["category"].to_numpy(),
        successor=items["succ"].to_numpy(),
    )


def _steps(shop: Shop, ds: date) -> pl.DataFrame:
    """Positive events with the number of their step: equal items in a row are one."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("clean.events", upto=ds)
        name_positives(s, shop)
        events = cast(pl.DataFrame, pl.from_arrow(s.stream(STEPS).read_all()))
    is_new = (pl.col("item_id") != pl.col("item_id").shift(1)).over("user_id").fill_null(True)
    return events.with_columns(step=is_new.cum_sum().over("user_id").cast(pl.Int64) - 1)


def _of_items(truth: Truth, data: Interactions) -> pl.DataFrame:
    """Types, categories and what follows, as numbers, by the position of the item."""
    types = truth.table("types").select("product_type", "succ")
    items = truth.table("items").select("item_id", "product_type", "category")
    known = pl.DataFrame({"item_id": data.items.to_pylist()})
    found = known.join(items.join(types, on="product_type"), on="item_id", how="left")
    number = {name: place for place, name in enumerate(types["product_type"].sort())}
    category = {name: place for place, name in enumerate(items["category"].unique().sort())}
    return found.select(
        pl.col("product_type", "succ").replace_strict(number, return_dtype=pl.Int64),
        pl.col("category").replace_strict(category, return_dtype=pl.Int64),
    )


def _parents(steps: pl.DataFrame, truth: Truth, data: Interactions) -> pl.DataFrame:
    users = pl.DataFrame({"user_id": data.users.to_pylist()}).with_row_index("user")
    of = steps.select("event_id", "user_id", "step")
    intended = truth.table("intended")
    pairs = intended.join(of, on="event_id").join(
        of.select(parent_id="event_id", parent="step"), on="parent_id"
    )
    known = pairs.join(users, on="user_id").select(pl.col("user").cast(pl.Int64), "step", "parent")
    return known.filter(pl.col("parent") < pl.col("step")).unique()


def trained(case: Causes, name: str, epochs: int, seed: int = 1, **config: Any) -> Trained:
    """A model of these histories."""
    return train(name, {"length": LENGTH, **config}, case.data, seed=seed, epochs=epochs)


Scores = Callable[[Past], Tensor]  # [B, T, T] of how each step seems to have caused each


def recency(past: Past) -> Tensor:
    """1 / (t - j)."""
    step = torch.arange(past.items.shape[1])
    lag = (step.unsqueeze(-1) - step).clamp(min=1)
    return lag.reciprocal().expand(len(past.sizes), -1, -1)


def attentions_of(model: SASRec) -> dict[str, Scores]:
    """Each block's attention by its rows: that of the step, and of the one that led to it."""
    found: dict[str, Scores] = {}
    for block in range(len(model.blocks)):
        for back, name in ((0, "own"), (1, "before")):
            found[f"block {block}, row of the step {name}"] = _attention(model, block, back)
    return found


def _attention(model: SASRec, block: int, back: int) -> Scores:
    def scores(past: Past) -> Tensor:
        seen: list[Tensor] = []

        def watch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            unit = torch.eye(q.shape[2]).expand(*q.shape[:3], q.shape[2])
            seen.append(attend(q, k, unit).mean(1))  # [B, T, T], over heads
            return attend(q, k, v)

        model.encoded(model.embedded(past), watch)
        # what led to a step is the state after the one before
        return seen[block].roll(back, dims=1) if back else seen[block]

    return scores


@dataclass(frozen=True, eq=False)
class Ranked:
    """All pairs of steps that could be cause and effect, of the last steps of all users."""

    user: npt.NDArray[np.int64]  # [n]
    is_cause: Bools  # [n]
    scores: dict[str, Floats]  # [n] each


def ranked(case: Causes, ways: dict[str, Scores]) -> Ranked:
    """What each way says of each pair, and what is true."""
    parts = list(_ranked(case, ways))
    return Ranked(
        user=np.concatenate([user for user, _, _ in parts]),
        is_cause=np.concatenate([truth for _, truth, _ in parts]),
        scores={name: np.concatenate([scores[name] for _, _, scores in parts]) for name in ways},
    )


def _ranked(
    case: Causes, ways: dict[str, Scores]
) -> Iterator[tuple[npt.NDArray[np.int64], Bools, dict[str, Floats]]]:
    users = np.arange(case.data.n_users)
    first = np.maximum(case.sequences.sizes() - LENGTH, 0)
    for block, steps in last_steps(case.sequences, users, LENGTH):
        past = past_of(steps, torch.device("cpu"))
        t = steps.items.shape[1]
        truth = np.zeros((len(block), t, t), dtype=np.bool_)
        row = np.full(case.data.n_users, -1)
        row[block] = np.arange(len(block))
        of = case.parents.filter(pl.col("user").is_in(block.tolist()))
        user, step, parent = (of[name].to_numpy() for name in ("user", "step", "parent"))
        inside = parent >= first[user]
        user, step, parent = user[inside], step[inside], parent[inside]
        truth[row[user], step - first[user], parent - first[user]] = True
        can = np.tril(np.ones((t, t), dtype=np.bool_), -1) & steps.is_real[:, :, None]
        with torch.no_grad():
            scores = {name: way(past).numpy()[can].astype(np.float64) for name, way in ways.items()}
        yield users[block][np.nonzero(can)[0]], truth[can], scores


def auprc(found: Ranked, way: str, weights: Floats | None = None) -> float:
    """Average precision of the pairs, users counting by weights [n_users] if given."""
    order = np.argsort(-found.scores[way], kind="stable")
    return _auprc(found, order, found.scores[way][order], weights)


def _auprc(
    found: Ranked, order: npt.NDArray[np.int64], scores: Floats, weights: Floats | None
) -> float:
    weight = np.ones(len(order)) if weights is None else weights[found.user[order]]
    hits = np.cumsum(weight * found.is_cause[order])
    all_so_far = np.cumsum(weight)
    # ties are one step of the curve
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))
    gained = np.diff(hits[ends], prepend=0.0)
    precision = hits[ends] / np.maximum(all_so_far[ends], 1e-300)
    return float((gained * precision).sum() / hits[-1])


def paired_interval(
    found: Ranked, one: str, other: str, n_draws: int = 200
) -> tuple[float, float, float]:
    """The difference of two AUPRCs, with its 95 % interval: users drawn again."""
    rng = np.random.default_rng(0)
    n_users = int(found.user.max()) + 1
    sorted_by = {}
    for way in (one, other):
        order = np.argsort(-found.scores[way], kind="stable")
        sorted_by[way] = order, found.scores[way][order]
    drawn = []
    for _ in range(n_draws):
        weights = np.bincount(rng.integers(n_users, size=n_users), minlength=n_users).astype(float)
        a, b = (_auprc(found, *sorted_by[way], weights) for way in (one, other))
        drawn.append(a - b)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return auprc(found, one) - auprc(found, other), float(low), float(high)


def edge_kinds(case: Causes, model: CausalRec, n: int = 100) -> dict[str, int]:
    """Of the strongest edges: how many follow the types, are of one category, or are neither."""
    edges = model.edges(case.sequences, n)
    follows = case.types[edges.effects] == case.successor[edges.causes]
    theme = (case.categories[edges.effects] == case.categories[edges.causes]) & ~follows
    return {
        "edges": len(edges.causes),
        "succ": int(follows.sum()),
        "theme": int(theme.sum()),
        "other": int((~follows & ~theme).sum()),
    }
