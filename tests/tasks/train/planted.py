"""Positives with a known pattern: two tastes that share no item."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.train.arrays import (
    Interactions,
    build_interactions,
    build_sequences,
    pairs_to_csr,
)
from tasks.train.loop import Holdout

N_USERS, N_ITEMS = 80, 60


def rows(seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Training and later positives; users and items of one taste have numbers of one parity."""
    rng = np.random.default_rng(seed)
    likes = np.arange(N_USERS)[:, None] % 2 == np.arange(N_ITEMS) % 2
    chosen = likes & (rng.random((N_USERS, N_ITEMS)) < 0.5)
    later = likes & ~chosen & (rng.random((N_USERS, N_ITEMS)) < 0.4)
    return table(chosen, rng), table(later, rng)


def table(pairs: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Rows of (user_id, item_id, weight) in random order; pairs [N_USERS, N_ITEMS] bool."""
    users, items = np.nonzero(pairs)
    order = rng.permutation(len(users))
    return pa.table(
        {
            "user_id": [f"u{user:03}" for user in users[order]],
            "item_id": [f"i{item:03}" for item in items[order]],
            "weight": rng.integers(1, 9, len(order)) / 4,
        }
    )


def power_law(positives: pa.Table) -> pa.Table:
    """Propensities (n_i / max n)^0.5."""
    counts = positives.group_by("item_id").aggregate([("item_id", "count")])
    n = counts["item_id_count"].to_numpy()
    return pa.table({"item_id": counts["item_id"], "propensity": (n / n.max()) ** 0.5})


def arrays(before: pa.Table, folder: Path) -> Interactions:
    """Positives with propensities, and sequences: everyone starts at an item of their own and goes
    round by the numbers of items.
    """
    data = build_interactions(before, folder, propensities=power_law(before))
    user, item = (_numbers(before[name]) for name in ("user_id", "item_id"))
    order = np.lexsort([(item - 7 * user) % N_ITEMS, user])
    steps = before.take(pa.array(order))
    return replace(data, sequences=build_sequences(steps, data.users, data.items, folder))


def _numbers(ids: pa.ChunkedArray) -> np.ndarray:
    return np.array([int(name[1:]) for name in ids.to_pylist()])


def data_and_holdout(folder: Path) -> tuple[Interactions, Holdout]:
    """The planted positives as arrays, and what comes later."""
    before, after = rows()
    data = arrays(before, folder)
    later = pairs_to_csr(after, data.users, data.items, folder)
    return data, Holdout(relevant=later, seen=data.csr())
