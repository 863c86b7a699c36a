"""Small training data for tests of one model, built without the night's arrays."""

from dataclasses import dataclass

import numpy as np

from models.contract import FloatArray, IntArray, OffsetArray


@dataclass(frozen=True)
class SmallPositives:
    """`models.contract.Positives` of a dense matrix of strengths, 0 where there is none."""

    dense: FloatArray

    @property
    def n_users(self) -> int:
        return len(self.dense)

    @property
    def n_items(self) -> int:
        n_items: int = self.dense.shape[1]
        return n_items

    @property
    def indptr(self) -> OffsetArray:
        return np.concatenate([[0], np.cumsum((self.dense > 0).sum(axis=1))]).astype(np.int64)

    @property
    def indices(self) -> IntArray:
        return np.nonzero(self.dense)[1].astype(np.int32)

    @property
    def weights(self) -> FloatArray:
        return self.dense[self.dense > 0]

    @property
    def propensity(self) -> None:
        return None


def random_positives(n_users: int, n_items: int, seed: int = 0) -> SmallPositives:
    """About two fifths of all pairs, with strengths of 1 to 3."""
    rng = np.random.default_rng(seed)
    strengths = rng.integers(1, 4, (n_users, n_items)) * (rng.random((n_users, n_items)) < 0.4)
    return SmallPositives(strengths.astype(np.float32))
