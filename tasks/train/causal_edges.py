"""serve.causal_edges: which item seems to cause which, by a model that has a graph."""

from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from models.contract import Edges, HasGraph
from tasks.lake.tables import Lake, Partition
from tasks.records import TableVersion
from tasks.train.arrays import Sequences
from tasks.train.feeds import past_of
from tasks.train.registry import SavedModel
from tasks.train.sequences import last_steps

MOST = 10_000  # edges of a model
_CPU = torch.device("cpu")


def write_edges(
    lake: Lake,
    ds: date,
    saved: SavedModel,
    model: HasGraph,
    length: int,
    histories: Sequences,
    ids: pa.Array,
) -> TableVersion:
    """Write the strongest edges of these histories; ids: of the items, by position."""
    edges = model.edges(histories, MOST)
    effects = mean_effects(model, length, histories, edges)
    m = len(edges.causes)
    columns = {
        "cause": ids.take(pa.array(edges.causes)),
        "effect": ids.take(pa.array(edges.effects)),
        "strength": pa.array(edges.strengths),
        "support": pa.array(edges.supports),
        "control_strength": pa.array(edges.controls),
        "mean_effect": pa.array(effects, mask=np.isnan(effects)),
        "model_version": pa.repeat(pa.scalar(saved.model_version), m),
        "ds": pa.repeat(pa.scalar(ds), m),
        "model": pa.repeat(pa.scalar(saved.model), m),
    }
    schema = lake.schema("serve.causal_edges")
    table = pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema)
    where: Partition = {"ds": ds, "model": saved.model}
    return lake.rewrite("serve.causal_edges", where, lambda _: table)


def mean_effects(
    model: HasGraph, length: int, histories: Sequences, edges: Edges
) -> npt.NDArray[np.float64]:
    """The mean of W over the times that the pair stands in users' last steps, [m]; NaN: never."""
    keys = edges.causes * histories.n_items + edges.effects
    order = np.argsort(keys)
    sums, counts = np.zeros(len(keys)), np.zeros(len(keys))
    users = np.arange(len(histories.indptr) - 1, dtype=np.int64)
    for _, steps in last_steps(histories, users, length) if len(keys) else ():
        with torch.no_grad():
            effects = model.effects(past_of(steps, _CPU)).numpy()  # [B, T, T]
        row, later, earlier = np.nonzero(effects)
        pairs = steps.items[row, earlier] * histories.n_items + steps.items[row, later]
        at = np.searchsorted(keys, pairs, sorter=order).clip(max=len(keys) - 1)
        is_edge = keys[order[at]] == pairs
        place = order[at[is_edge]]
        sums += np.bincount(place, effects[row, later, earlier][is_edge], len(keys))
        counts += np.bincount(place, minlength=len(keys))
    with np.errstate(invalid="ignore"):
        return sums / counts
