"""Begin a training where an earlier one ended, for users and items that both know.

Weights alone: what the optimiser had gathered is not taken over.
"""

import numpy as np
import pyarrow as pa
import torch

from models.contract import Recommender
from tasks.train.arrays import positions
from tasks.train.csr import OffsetArray


def begin_at(
    model: Recommender,
    users: pa.Array,
    items: pa.Array,
    before: Recommender,
    users_before: pa.Array,
    items_before: pa.Array,
) -> bool:
    """Copy the rows of users and items that `before` knows, and weights that have no rows.

    Others stay as they were drawn, and so does what has another shape now. Returns whether
    anything was copied.
    """
    at_users, at_items = positions(users, users_before), positions(items, items_before)
    at_nodes = np.where(at_items < 0, -1, at_items + len(users_before))
    at = {"users": at_users, "items": at_items, "nodes": np.concatenate([at_users, at_nodes])}
    old = dict(before.named_parameters())
    found = False
    for name, parameter in model.named_parameters():
        if name in old:
            kind = model.row_kinds.get(name)
            found |= _copy(parameter, old[name], None if kind is None else at[kind])
    return found


@torch.no_grad()
def _copy(new: torch.Tensor, old: torch.Tensor, at: OffsetArray | None) -> bool:
    """Row n of new is row at[n] of old, where that is not -1."""
    if at is None:
        if new.shape == old.shape:
            new.copy_(old)
        return new.shape == old.shape
    known = np.flatnonzero(at >= 0)
    if new.shape[1:] != old.shape[1:] or not len(known):
        return False
    new[torch.from_numpy(known)] = old[torch.from_numpy(at[known].astype(np.int64))].to(new.device)
    return True
