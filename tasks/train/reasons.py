"""Which item of a user's own history weighed most in each row of their list.

The one without which the row's score would be lowest: each step is left out in turn, and the user's
vector made again of the rest. That costs as many passes as a history has steps, and asks nothing of
a model but to make vectors of histories. Of long ones the last LOOKED steps are left out in turn.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from models.contract import SequenceModel
from tasks.train.arrays import Sequences
from tasks.train.csr import IntArray, OffsetArray
from tasks.train.feeds import past_of
from tasks.train.scoring import Side
from tasks.train.sequences import Padded, last_steps

LOOKED = 50
_CPU = torch.device("cpu")


class WeighedMost:
    """The reasons of a model of sequences; see `topk.Reasons`."""

    def __init__(
        self,
        model: SequenceModel,
        length: int,
        sequences: Sequences,
        users: Side,
        items: Side,
        ids: pa.Array,
    ) -> None:
        """length: last steps that the model looks at. ids: of the items, as the model has them."""
        self._model, self._length, self._sequences = model, length, sequences
        self._users, self._items, self._ids = users, items, ids
        self._vectors = torch.from_numpy(model.item_vectors())  # [n_items, d]

    def of(self, first: int, listed: IntArray) -> pa.Array:
        """One id for each item listed."""
        users = self._users.at[first : first + len(listed)].astype(np.int64)
        items = self._items.at[listed].astype(np.int64)  # [U, k]; what -1 gives is left out below
        found = np.full(listed.shape, -1, dtype=np.int64)
        for block, steps in last_steps(self._sequences, users, self._length):
            place = self._needed_most(steps, torch.from_numpy(items[block]))
            found[block] = np.take_along_axis(steps.items, place, axis=1)
        chosen = found[listed >= 0]
        return self._ids.take(pa.array(chosen, mask=chosen < 0)).cast(pa.string())

    @torch.no_grad()
    def _needed_most(self, steps: Padded, items: torch.Tensor) -> OffsetArray:
        """The step of each sequence without which these items [B, k] score lowest, [B, k]."""
        lowest = np.full(items.shape, np.inf, dtype=np.float32)
        # a history of one step has no other
        place = np.zeros(items.shape, dtype=np.int64)
        for back in range(1, min(steps.items.shape[1], LOOKED) + 1):
            rows = np.flatnonzero(steps.sizes >= max(back, 2))
            left_out = steps.sizes[rows] - back
            states = self._model.last_states(past_of(_without(steps, rows, left_out), _CPU))
            vectors = self._vectors[items[rows]]  # [b, k, d]
            scores = (vectors @ states.unsqueeze(2)).squeeze(2).numpy()  # [b, k]
            is_lower = scores < lowest[rows]
            lowest[rows] = np.where(is_lower, scores, lowest[rows])
            place[rows] = np.where(is_lower, left_out[:, None], place[rows])
        return place


def _without(steps: Padded, rows: OffsetArray, place: OffsetArray) -> Padded:
    """These sequences, each without one of its steps."""
    # those after it move up by one
    kept = np.arange(steps.items.shape[1] - 1)
    at: npt.NDArray[np.int64] = kept + (kept >= place[:, None])  # [b, T - 1]
    take = rows[:, None], at
    return replace(
        steps,
        items=steps.items[take],
        sizes=steps.sizes[rows] - 1,
        strengths=steps.strengths[take],
        is_real=steps.is_real[take],
    )
