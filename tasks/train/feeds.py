"""What a model is trained on, batch by batch: triples, or sequences.

Feed            what the loop asks for
├── TripleFeed  a positive and a negative of one user
└── StepFeed    whole sequences, each of whose steps is predicted

Samples         one batch of a feed, or a part of it
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
    Past,
    SequenceConfig,
    SequenceModel,
    Steps,
)
from tasks.train.arrays import Interactions, Sequences
from tasks.train.csr import OffsetArray
from tasks.train.sampling import Triples, epoch_batches, make_sampler
from tasks.train.sequences import Padded, StepArrays, epoch_steps, last_steps, make_step_sampler


class Samples(Protocol):
    """Samples to learn from, and what the model loses on them."""

    @property
    def n(self) -> int:
        """How many."""

    def loss(self) -> Loss:
        """The mean loss of these samples."""

    def cut(self, n_parts: int) -> "list[Samples]":
        """The same samples in this many parts of about the same size, or as many as there can be.

        A loss that divides by the sum of its own weights does so within each part.
        """


class Feed(Protocol):
    """A model and its data."""

    n_users_dropped: int  # who have every item: nothing can be compared

    @property
    def n_samples(self) -> int:
        """Samples an epoch; 0 if there is nothing to learn from."""

    def batches(self, *, seed: int, epoch: int, skip: int = 0) -> Iterator[Samples]:
        """The batches of an epoch in their order, from number `skip` on (the first is 0)."""

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

    def batches(self, *, seed: int, epoch: int, skip: int = 0) -> Iterator[Samples]:
        """The batches of an epoch, from number `skip` on."""
        size = self.config.batch_size
        for triples in epoch_batches(self.sampler, size, seed=seed, epoch=epoch, skip=skip):
            yield _TripleSamples(self, triples)

    def settle(self, rows: OffsetArray | None = None) -> None:
        """The model has all it needs."""

    def batch(self, triples: Triples) -> Batch:
        """The triples as tensors on the model's device."""
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


@dataclass(frozen=True, eq=False)
class _TripleSamples:
    feed: TripleFeed
    triples: Triples

    @property
    def n(self) -> int:
        """Triples."""
        return len(self.triples.users)

    def loss(self) -> Loss:
        """The mean loss of the triples."""
        return self.feed.model.loss(self.feed.batch(self.triples))

    def cut(self, n_parts: int) -> list[Samples]:
        """By their order."""
        bounds = _bounds(self.n, n_parts)
        return [_TripleSamples(self.feed, self.triples.part(*each)) for each in bounds]


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

    def batches(self, *, seed: int, epoch: int, skip: int = 0) -> Iterator[Samples]:
        """The batches of an epoch, from number `skip` on."""
        size = self.config.batch_size
        for arrays in epoch_steps(self.sampler, size, seed=seed, epoch=epoch, skip=skip):
            yield _StepSamples(self, arrays)

    def settle(self, rows: OffsetArray | None = None) -> None:
        """Keep the state after the last step of each user; 0 where there is no step."""
        self.model.eval()
        if rows is None:
            rows = np.arange(self.model.n_users, dtype=np.int64)
        states = self.model.states
        states[self._tensor(rows)] = 0
        with torch.no_grad():
            for block, steps in last_steps(self.sequences, rows, self.config.length):
                found = self.model.last_states(past_of(steps, self.device))
                states[self._tensor(rows[block])] = found.to(states.dtype)

    def steps(self, arrays: StepArrays) -> Steps:
        """The sequences as tensors on the model's device."""
        negatives = arrays.negatives
        return Steps(
            past=past_of(arrays.past, self.device),
            places=self._tensor(arrays.places),
            targets=self._tensor(arrays.targets),
            negatives=None if negatives is None else self._tensor(negatives),
        )

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


@dataclass(frozen=True, eq=False)
class _StepSamples:
    feed: StepFeed
    arrays: StepArrays

    @property
    def n(self) -> int:
        """Steps to predict."""
        return len(self.arrays.targets)

    def loss(self) -> Loss:
        """The mean loss of the steps."""
        return self.feed.model.loss(self.feed.steps(self.arrays))

    def cut(self, n_parts: int) -> list[Samples]:
        """By sequences, which stay whole."""
        bounds = _bounds(len(self.arrays.past.sizes), n_parts)
        return [_StepSamples(self.feed, self.arrays.part(*each)) for each in bounds]


def past_of(padded: Padded, device: torch.device) -> Past:
    """Padded sequences as tensors."""
    items, sizes, strengths = (
        torch.from_numpy(array).to(device)
        for array in (padded.items, padded.sizes, padded.strengths)
    )
    return Past(items, sizes, strengths)


def _bounds(n: int, n_parts: int) -> list[tuple[int, int]]:
    """Where each of at most n_parts parts of n begins and ends."""
    n_parts = min(n_parts, n)
    return [(n * part // n_parts, n * (part + 1) // n_parts) for part in range(n_parts)]
