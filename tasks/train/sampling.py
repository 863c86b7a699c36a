"""Epochs of training triples: each positive once, in random order, with one sampled negative.

Negatives are uniform over the items the user has no positive with (Rendle et al., UAI 2009,
section 4.2), drawn exactly and without a rejection loop: draw a rank r among the user's
n_items - n_positives free items; with the user's ascending positives c_0 < c_1 < ..., the free
item of rank r is r + #{m : c_m - m <= r}.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.train.csr import Csr, IntArray, OffsetArray


@dataclass(frozen=True, eq=False)
class Sampler:
    """What every epoch draws from. Positives of users who have every item are left out."""

    positives: Csr
    users: IntArray  # [n] user of each positive that can be compared
    entries: OffsetArray  # [n] where that positive stands in positives.indices
    gaps: OffsetArray  # [nnz] user * n_items + (c_m - m), ascending
    n_users_dropped: int

    @property
    def n_triples(self) -> int:
        """Triples in an epoch."""
        return len(self.entries)


@dataclass(frozen=True, eq=False)
class Triples:
    """One batch; `entries` says where each positive's weight stands."""

    users: IntArray  # [B]
    positives: IntArray  # [B]
    negatives: IntArray  # [B]
    entries: OffsetArray  # [B]

    def part(self, start: int, stop: int) -> "Triples":
        """Those from `start` up to `stop`."""
        at = slice(start, stop)
        return Triples(self.users[at], self.positives[at], self.negatives[at], self.entries[at])


def make_sampler(positives: Csr) -> Sampler:
    """Prepare sampling; users who have all items can be compared with nothing."""
    n_items, sizes, rows = positives.n_columns, positives.sizes(), positives.rows()
    place = np.arange(len(rows), dtype=np.int64) - positives.indptr[rows]
    entries = np.flatnonzero(sizes[rows] < n_items)
    return Sampler(
        positives=positives,
        users=rows[entries].astype(np.int32),
        entries=entries,
        gaps=rows * n_items + positives.indices - place,
        n_users_dropped=int(np.sum((sizes == n_items) & (sizes > 0))),
    )


def epoch_batches(
    sampler: Sampler, batch_size: int, *, seed: int, epoch: int, skip: int = 0
) -> Iterator[Triples]:
    """All triples of one epoch; the same (seed, epoch, batch_size) gives the same batches.

    With `skip`, the same without the first so many batches; what they would have drawn is drawn,
    so that the others stay what they are, and costs a hundredth of a step each.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(sampler.n_triples)
    for number, start in enumerate(range(0, len(order), batch_size)):
        chosen = order[start : start + batch_size]
        users, entries = sampler.users[chosen], sampler.entries[chosen]
        if number < skip:
            draw_ranks(sampler, users, rng)
            continue
        negatives = draw_negatives(sampler, users, rng)
        yield Triples(users, sampler.positives.indices[entries], negatives, entries)


def draw_negatives(sampler: Sampler, users: IntArray, rng: np.random.Generator) -> IntArray:
    """One item per user, uniform over those the user has no positive with. [B] int32."""
    n_items, indptr = sampler.positives.n_columns, sampler.positives.indptr
    wide = users.astype(np.int64)
    rank = draw_ranks(sampler, users, rng)
    passed = np.searchsorted(sampler.gaps, wide * n_items + rank, side="right") - indptr[wide]
    return (rank + passed).astype(np.int32)


def draw_ranks(sampler: Sampler, users: IntArray, rng: np.random.Generator) -> OffsetArray:
    """One rank per user, uniform over the items the user has no positive with. [B] int64."""
    indptr, wide = sampler.positives.indptr, users.astype(np.int64)
    n_free = sampler.positives.n_columns - (indptr[wide + 1] - indptr[wide])
    return rng.integers(0, n_free)
