"""A sparse boolean matrix in compressed rows: who has what, by position."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
OffsetArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Csr:
    """Row r holds the ascending, distinct columns indices[indptr[r] : indptr[r + 1]]."""

    indptr: OffsetArray  # [n_rows + 1]
    indices: IntArray  # [nnz]
    n_columns: int

    @property
    def n_rows(self) -> int:
        """One row per user."""
        return len(self.indptr) - 1

    def sizes(self) -> OffsetArray:
        """Number of columns in each row, [n_rows]."""
        return np.diff(self.indptr)

    def rows(self) -> OffsetArray:
        """The row of each entry, [nnz]."""
        return np.repeat(np.arange(self.n_rows, dtype=np.int64), self.sizes())

    def keys(self) -> OffsetArray:
        """row * n_columns + column of each entry, strictly ascending, [nnz]."""
        return self.rows() * self.n_columns + self.indices

    def slice(self, start: int, stop: int) -> "Csr":
        """Rows start to stop, counted from zero again."""
        begin, end = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - begin
        return Csr(indptr, self.indices[begin:end], self.n_columns)

    def only(self, rows: OffsetArray) -> "Csr":
        """The same matrix with all but the given rows empty."""
        kept = np.zeros(self.n_rows, dtype=np.bool_)
        kept[rows] = True
        sizes = np.where(kept, self.sizes(), 0)
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Csr(indptr, self.indices[kept[self.rows()]], self.n_columns)

    def take(self, rows: OffsetArray) -> "Csr":
        """The given rows, in the given order."""
        sizes = self.sizes()[rows]
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        shift = np.repeat(self.indptr[rows] - indptr[:-1], sizes)
        return Csr(indptr, self.indices[shift + np.arange(indptr[-1])], self.n_columns)


def from_keys(keys: OffsetArray, n_rows: int, n_columns: int) -> Csr:
    """The matrix whose ascending, distinct entries have these `Csr.keys`."""
    indptr = np.searchsorted(keys, np.arange(n_rows + 1, dtype=np.int64) * n_columns)
    return Csr(indptr.astype(np.int64), (keys % max(n_columns, 1)).astype(np.int32), n_columns)
