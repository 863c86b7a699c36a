"""What a model is trained on, batch by batch: triples, or sequences.

Feed            what the loop asks for
├── TripleFeed  a positive and a negative of one user
└── StepFeed    whole sequences, each of whose steps is predicted
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.contract import (
    Batch,
    GradientConfig,
    GradientModel,
    Loss,
    SequenceConfig,
    SequenceModel,
    Steps,
)
from tasks.train.arrays import Interactions, Sequences
from tasks.train.csr import OffsetArray
from tasks.train.sampling import Triples, epoch_batches, make_sampler
from tasks.train.sequences import StepArrays, epoch_steps, last_steps, make_step_sampler


class Feed(Protocol):
    """A model and its data."""

    n_users_dropped: int  # who have every item: nothing can be compared

    @property
    def n_samples(self) -> int:
        """Samples an epoch; 0 if there is nothing to learn from."""

    def losses(self, *, seed: int, epoch: int) -> Iterator[tuple[Loss, int]]:
        """The loss of each batch of an epoch, with its number of samples."""

    def settle(self, rows: OffsetArray | None = None) -> None:
        """Let the model keep what it needs of the data to score these users; None: all."""


class TripleFeed:
    """Each positive once an epoch, with one sampled negative."""

    def __init__(
        self,
        model: GradientModel,
        config: GradientConfig,
        data: Interactions,
        device: torch.device,
    ) -> None:
        self.model, self.config, self.data, self.device = model, config, data, device
        self.sampler = make_sampler(data.csr())
        self.n_users_dropped = self.sampler.n_users_dropped

    @property
    def n_samples(self) -> int:
        """Triples an epoch."""
        return self.sampler.n_triples

    def losses(self, *, seed: int, epoch: int) -> Iterator[tuple[Loss, int]]:
        """The loss of each batch, with its number of triples."""
        size = self.config.batch_size
        for triples in epoch_batches(self.sampler, size, seed=seed, epoch=epoch):
            yield self.model.loss(self._batch(triples)), len(triples.users)

    def settle(self, rows: OffsetArray | None = None) -> None:
        """The model has all it needs."""

    def _batch(self, triples: Triples) -> Batch:
        propensity = self.data.propensity
        return Batch(
            users=self._tensor(triples.users.astype(np.int64)),
            positives=self._tensor(triples.positives.astype(np.int64)),
            negatives=self._tensor(triples.negatives.astype(np.int64)),
            weights=self._tensor(self.data.weights[triples.entries]),
            propensity=None if propensity is None else self._tensor(propensity[triples.positives]),
        )

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


class StepFeed:
    """Each sequence once an epoch, padded, with all its steps to predict."""

    def __init__(
        self,
        model: SequenceModel,
        config: SequenceConfig,
        sequences: Sequences,
        device: torch.device,
    ) -> None:
        self.model, self.config, self.sequences, self.device = model, config, sequences, device
        self.sampler = make_step_sampler(
            sequences, config.length, with_negatives=config.wants_negatives
        )
        self.n_users_dropped = self.sampler.n_users_dropped

    @property
    def n_samples(self) -> int:
        """Steps predicted an epoch."""
        return self.sampler.n_steps

    def losses(self, *, seed: int, epoch: int) -> Iterator[tuple[Loss, int]]:
        """The loss of each batch, with its number of steps."""
        size = self.config.batch_size
        for arrays in epoch_steps(self.sampler, size, seed=seed, epoch=epoch):
            yield self.model.loss(self._steps(arrays)), len(arrays.targets)

    def settle(self, rows: OffsetArray | None = None) -> None:
        """Keep the state after the last step of each user; 0 where there is no step."""
        self.model.eval()
        if rows is None:
            rows = np.arange(self.model.n_users, dtype=np.int64)
        states = self.model.states
        states[self._tensor(rows)] = 0
        with torch.no_grad():
            for block, steps in last_steps(self.sequences, rows, self.config.length):
                found = self.model.last_states(self._tensor(steps.items), self._tensor(steps.sizes))
                states[self._tensor(rows[block])] = found.to(states.dtype)

    def _steps(self, arrays: StepArrays) -> Steps:
        negatives = arrays.negatives
        return Steps(
            inputs=self._tensor(arrays.inputs),
            sizes=self._tensor(arrays.sizes),
            places=self._tensor(arrays.places),
            targets=self._tensor(arrays.targets),
            negatives=None if negatives is None else self._tensor(negatives),
        )

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)
