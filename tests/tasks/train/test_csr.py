import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tasks.train.csr import Csr, from_keys

Matrix = np.ndarray
matrices = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=7))


def sparse(dense: Matrix) -> Csr:
    return from_keys(np.flatnonzero(dense), *dense.shape)


def dense(matrix: Csr) -> Matrix:
    full = np.zeros((matrix.n_rows, matrix.n_columns), dtype=bool)
    full[matrix.rows(), matrix.indices] = True
    return full


@given(matrices, st.data())
def test_slices_and_picked_rows_are_those_of_the_dense_matrix(
    full: Matrix, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(full)))
    stop = data.draw(st.integers(start, len(full)))
    picked = np.array(data.draw(st.lists(st.integers(0, len(full) - 1))), dtype=np.int64)
    np.testing.assert_array_equal(dense(sparse(full)), full)
    np.testing.assert_array_equal(dense(sparse(full).slice(start, stop)), full[start:stop])
    np.testing.assert_array_equal(dense(sparse(full).take(picked)), full[picked])


def test_without_items_rows_are_empty() -> None:
    empty = from_keys(np.empty(0, dtype=np.int64), 3, 0)
    assert empty.n_rows == 3
    assert not empty.sizes().any()
