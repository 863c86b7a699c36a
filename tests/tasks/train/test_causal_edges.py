"""The mean effect of an edge is that of the model's graph over the times that it stands there."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from models.contract import Edges, Histories, Past
from tasks.train.arrays import Sequences, build_sequences
from tasks.train.causal_edges import mean_effects

ITEMS = pa.array(["a", "b", "c", "d"])


class Told:
    """Says that a step's effect on a later one is one by how many steps lie between."""

    def edges(self, histories: Histories, most: int) -> Edges:
        """Not asked."""
        raise AssertionError

    def effects(self, past: Past) -> Tensor:
        """[B, T, T]."""
        step = torch.arange(past.items.shape[1])
        lag = (step.unsqueeze(-1) - step).float()
        real = past.is_real.unsqueeze(-1) & past.is_real.unsqueeze(-2)
        return torch.where(lag > 0, 1 / lag, 0.0) * real


def histories(rows: list[str], work: Path) -> Sequences:
    table = [(f"u{n}", item, 1.0) for n, row in enumerate(rows) for item in row]
    steps = pl.DataFrame(table, ["user_id", "item_id", "weight"], orient="row").to_arrow()
    return build_sequences(steps, pa.array([f"u{n}" for n in range(len(rows))]), ITEMS, work)


def edges(*pairs: tuple[int, int]) -> Edges:
    causes, effects = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    m = len(causes)
    nothing = np.zeros(m, dtype=np.float32)
    return Edges(causes, effects, nothing, np.ones(m, np.int64), nothing)


def test_each_time_that_a_pair_stands_there_counts(tmp_path: Path) -> None:
    given = histories(["abc", "ab", "cab"], tmp_path)
    found = mean_effects(Told(), 5, given, edges((2, 0), (0, 2), (0, 1)))
    assert found.tolist() == pytest.approx([1.0, 0.5, 1.0])


def test_only_the_last_steps_are_looked_at_and_what_is_not_there_has_no_mean(
    tmp_path: Path,
) -> None:
    given = histories(["abcd", "ba"], tmp_path)
    found = mean_effects(Told(), 2, given, edges((0, 1), (1, 0), (2, 3), (3, 3)))
    assert np.isnan(found[[0, 3]]).all()
    assert found[1:3].tolist() == [1.0, 1.0]


def test_no_edges(tmp_path: Path) -> None:
    assert mean_effects(Told(), 5, histories(["ab"], tmp_path), edges()).tolist() == []
