"""Batches of what users did, in order: for training and for scoring.

One padded sample is one sequence, not one step: a causal model predicts at all its steps at once.
Batches hold sequences of similar size, and about the same number of real steps each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.train.arrays import FloatArray, Sequences
from tasks.train.csr import BoolArray, IntArray, OffsetArray
from tasks.train.sampling import Sampler, draw_negatives, draw_ranks, make_sampler

POOL = 16  # batches whose sequences are ordered by size together: less padding, still random
BLOCK_STEPS = 1 << 14  # padded steps scored at a time


@dataclass(frozen=True, eq=False)
class Padded:
    """B sequences, each padded at its end with item 0 to T steps."""

    items: OffsetArray  # [B, T]
    sizes: OffsetArray  # [B], real steps
    strengths: FloatArray  # [B, T]; 0 at pads
    is_real: BoolArray  # [B, T]

    def part(self, start: int, stop: int) -> "Padded":
        """The sequences from `start` up to `stop`."""
        which = slice(start, stop)
        return Padded(
            self.items[which], self.sizes[which], self.strengths[which], self.is_real[which]
        )


@dataclass(frozen=True, eq=False)
class StepArrays:
    """One training batch, as `models.contract.Steps`."""

    past: Padded
    places: OffsetArray  # [N]
    targets: OffsetArray  # [N]
    negatives: OffsetArray | None  # [N]

    def part(self, start: int, stop: int) -> "StepArrays":
        """The sequences from `start` up to `stop`, in this order."""
        begin, end = np.concatenate([[0], np.cumsum(self.past.sizes)])[[start, stop]]
        offset = start * self.past.items.shape[1]
        return StepArrays(
            past=self.past.part(start, stop),
            places=self.places[begin:end] - offset,
            targets=self.targets[begin:end],
            negatives=None if self.negatives is None else self.negatives[begin:end],
        )


@dataclass(frozen=True, eq=False)
class StepSampler:
    """What every epoch draws from: users with a step that follows another."""

    sequences: Sequences
    rows: OffsetArray  # [n] those users
    sizes: OffsetArray  # [n] steps of each to predict, 1 to length
    free: Sampler | None  # where negatives come from, if any
    n_users_dropped: int  # left out: they had every item, so that there is no negative

    @property
    def n_steps(self) -> int:
        """Steps predicted in an epoch."""
        return int(self.sizes.sum())


def make_step_sampler(sequences: Sequences, length: int, *, with_negatives: bool) -> StepSampler:
    """Prepare sampling; a user is left out whose steps cannot be predicted or compared."""
    # the last `length` targets; the first step of all follows nothing
    sizes = np.minimum(sequences.sizes() - 1, length)
    can = sizes > 0
    if not with_negatives:
        rows = np.flatnonzero(can)
        return StepSampler(sequences, rows, sizes[rows], None, 0)
    had = sequences.had()
    has_all = can & (had.sizes() == had.n_columns)
    rows = np.flatnonzero(can & ~has_all)
    return StepSampler(sequences, rows, sizes[rows], make_sampler(had), int(has_all.sum()))


def epoch_steps(
    sampler: StepSampler, batch_size: int, *, seed: int, epoch: int, skip: int = 0
) -> Iterator[StepArrays]:
    """Each sequence of the epoch once; the same (seed, epoch, batch_size) gives the same batches.

    A batch holds as many steps as `batch_size` sequences have on average. With `skip`, the same
    without the first so many batches.
    """
    rng = np.random.default_rng([seed, epoch])
    for number, chosen in enumerate(_batches(sampler.sizes, batch_size, rng)):
        if number >= skip:
            yield _steps(sampler, chosen, rng)
        elif sampler.free is not None:
            draw_ranks(sampler.free, _users(sampler, chosen), rng)


def _batches(
    sizes: OffsetArray, batch_size: int, rng: np.random.Generator
) -> Iterator[OffsetArray]:
    """Which sequences form a batch. Pools are random, within a pool batches have similar sizes."""
    order = rng.permutation(len(sizes))
    for start in range(0, len(order), batch_size * POOL):
        pool = order[start : start + batch_size * POOL]
        pool = pool[np.argsort(sizes[pool], kind="stable")]
        n_batches = -(-len(pool) // batch_size)
        ends = np.cumsum(sizes[pool])
        bounds = np.searchsorted(ends, ends[-1] * np.arange(1, n_batches) / n_batches)
        for part in rng.permutation(n_batches):
            begin = 0 if part == 0 else bounds[part - 1]
            batch = pool[begin : bounds[part] if part < n_batches - 1 else None]
            if len(batch):
                yield batch


def _steps(sampler: StepSampler, chosen: OffsetArray, rng: np.random.Generator) -> StepArrays:
    rows, sizes = sampler.rows[chosen], sampler.sizes[chosen]
    ends = sampler.sequences.indptr[rows + 1]
    past, after = (_padded(sampler.sequences, ends - shift, sizes) for shift in (1, 0))
    places = np.flatnonzero(past.is_real)
    negatives = None
    if sampler.free is not None:
        negatives = draw_negatives(sampler.free, _users(sampler, chosen), rng).astype(np.int64)
    return StepArrays(past, places, after.items[after.is_real], negatives)


def _users(sampler: StepSampler, chosen: OffsetArray) -> IntArray:
    """Who made each step of these sequences, [N]."""
    return np.repeat(sampler.rows[chosen], sampler.sizes[chosen]).astype(np.int32)


def _padded(sequences: Sequences, ends: OffsetArray, sizes: OffsetArray) -> Padded:
    """The last `sizes` steps before `ends`, row by row. Both [B]."""
    step = np.arange(sizes.max(initial=0))  # [T]
    is_real = step < sizes[:, None]  # [B, T]
    at = np.where(is_real, (ends - sizes)[:, None] + step, 0)  # [B, T]
    items = np.where(is_real, sequences.items[at], 0).astype(np.int64)
    strengths = np.where(is_real, sequences.strengths[at], np.float32(0))
    return Padded(items, sizes, strengths, is_real)


def last_steps(
    sequences: Sequences, rows: OffsetArray, length: int
) -> Iterator[tuple[OffsetArray, Padded]]:
    """The last steps of the given users, some users at a time: which of `rows`, and their steps.

    A user without a step is in no block.
    """
    sizes = np.minimum(sequences.sizes()[rows], length)
    order = np.argsort(sizes, kind="stable")
    order = order[np.searchsorted(sizes[order], 1) :]
    start = 0
    while start < len(order):
        ahead = order[start : start + BLOCK_STEPS]
        # sizes ascend: the last of a block is its longest
        padded = sizes[ahead] * np.arange(1, len(ahead) + 1)
        block = ahead[: max(int(np.searchsorted(padded, BLOCK_STEPS, "right")), 1)]
        ends = sequences.indptr[rows[block] + 1]
        yield block, _padded(sequences, ends, sizes[block])
        start += len(block)
