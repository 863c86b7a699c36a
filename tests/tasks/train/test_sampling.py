import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tasks.train.csr import Csr, from_keys
from tasks.train.sampling import Triples, draw_negatives, epoch_batches, make_sampler

Matrix = np.ndarray
matrices = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=8))


def sparse(dense: Matrix) -> Csr:
    return from_keys(np.flatnonzero(dense), *dense.shape)


def epoch(dense: Matrix, seed: int = 0, number: int = 1) -> list[Triples]:
    return list(epoch_batches(make_sampler(sparse(dense)), 3, seed=seed, epoch=number))


@given(matrices, st.integers(0, 9))
def test_an_epoch_gone_on_with_has_the_same_batches(dense: Matrix, skip: int) -> None:
    sampler = make_sampler(sparse(dense))
    left = list(epoch_batches(sampler, 3, seed=0, epoch=1, skip=skip))
    expected = epoch(dense)[skip:]
    assert [each.entries.tolist() for each in left] == [each.entries.tolist() for each in expected]
    assert [each.negatives.tolist() for each in left] == [
        each.negatives.tolist() for each in expected
    ]


@given(matrices)
def test_each_comparable_positive_comes_once_with_an_item_the_user_does_not_have(
    dense: Matrix,
) -> None:
    comparable = dense & ~dense.all(axis=1, keepdims=True)
    found = np.zeros(dense.shape, dtype=int)
    for batch in epoch(dense):
        np.add.at(found, (batch.users, batch.positives), 1)
        assert not dense[batch.users, batch.negatives].any()
        np.testing.assert_array_equal(sparse(dense).indices[batch.entries], batch.positives)
    np.testing.assert_array_equal(found, comparable)
    full = int((dense.all(axis=1) & dense.any(axis=1)).sum())
    assert make_sampler(sparse(dense)).n_users_dropped == full


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_an_epoch_depends_on_its_seed_and_number_only(seed: int, number: int) -> None:
    dense = np.eye(7, dtype=bool)
    one, two = epoch(dense, seed, number), epoch(dense, seed, number)
    for a, b in zip(one, two, strict=True):
        assert a.users.tolist() == b.users.tolist()
        assert a.negatives.tolist() == b.negatives.tolist()


def test_another_epoch_is_another_draw() -> None:
    dense = np.eye(50, dtype=bool)
    drawn = [np.concatenate([b.negatives for b in epoch(dense, 0, n)]) for n in (1, 2)]
    assert (drawn[0] != drawn[1]).any()


def test_negatives_are_uniform_over_what_the_user_does_not_have() -> None:
    dense = np.array([[1, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]], dtype=bool)
    users = np.repeat(np.array([0, 1], dtype=np.int32), 60_000)
    drawn = draw_negatives(make_sampler(sparse(dense)), users, np.random.default_rng(0))
    for user, free in ((0, 4), (1, 6)):
        share = np.bincount(drawn[users == user], minlength=7) / 60_000
        np.testing.assert_allclose(share, ~dense[user] / free, atol=0.01)
