from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.train.arrays import Sequences, build_sequences
from tasks.train.sequences import (
    StepArrays,
    StepSampler,
    epoch_steps,
    last_steps,
    make_step_sampler,
)

LENGTH, MOST = 4, 12
USERS, ITEMS = pa.array(["ann", "bob", "cleo"]), pa.array(["ink", "oil", "tea"])
histories = st.lists(st.lists(st.integers(0, 9), max_size=MOST), min_size=1, max_size=40)


def table(*steps: str) -> pa.Table:
    """Of a user and an item each, and a weight where it is not 1."""
    known = [[*step.split(), "1"][:3] for step in steps]
    users, items, weights = ([row[n] for row in known] for n in range(3))
    columns = [pa.array(users, pa.string()), pa.array(items, pa.string())]
    weight = pa.array([float(each) for each in weights], pa.float64())
    return pa.table([*columns, weight], names=["user_id", "item_id", "weight"])


def as_lists(sequences: Sequences) -> list[list[int]]:
    return [part.tolist() for part in np.split(sequences.items, sequences.indptr[1:-1])]


def of(rows: list[list[int]], n_items: int = 10) -> Sequences:
    indptr = np.cumsum([0, *map(len, rows)])
    items = np.array([*chain.from_iterable(rows)], dtype=np.int32)
    return Sequences(indptr, items, 1 + items.astype(np.float32), n_items)


def sampler(rows: list[list[int]], *, with_negatives: bool = False) -> StepSampler:
    return make_step_sampler(of(rows), LENGTH, with_negatives=with_negatives)


def predicted(batch: StepArrays) -> list[tuple[list[int], list[int]]]:
    """Inputs and targets of each sequence of a batch, without pads."""
    ends = np.cumsum(batch.past.sizes)
    targets = np.split(batch.targets, ends[:-1])
    rows = zip(batch.past.items, batch.past.sizes, targets, strict=True)
    return [(row[:size].tolist(), after.tolist()) for row, size, after in rows]


def test_steps_stand_by_user_in_the_order_they_came(tmp_path: Path) -> None:
    rows = table("bob tea", "ann oil", "bob ink", "ann ink", "bob tea")
    assert as_lists(build_sequences(rows, USERS, ITEMS, tmp_path)) == [[1, 0], [2, 0, 2], []]


def test_an_item_several_times_in_a_row_is_one_step(tmp_path: Path) -> None:
    rows = table("ann ink", "ann ink", "ann oil", "bob oil", "bob oil", "bob ink", "bob oil")
    assert as_lists(build_sequences(rows, USERS, ITEMS, tmp_path)) == [[0, 1], [1, 0, 1], []]


def test_a_step_is_as_strong_as_the_strongest_of_its_row(tmp_path: Path) -> None:
    rows = table("ann ink 1", "bob ink 2", "ann ink 3", "ann oil 0.5", "ann ink 1")
    found = build_sequences(rows, USERS, ITEMS, tmp_path)
    assert as_lists(found) == [[0, 1, 0], [0], []]
    assert found.strengths.tolist() == [3, 0.5, 1, 2]
    assert isinstance(found.strengths, np.memmap)


def test_unknown_users_and_items_are_left_out(tmp_path: Path) -> None:
    rows = table("ann ink", "ann wax", "ann ink", "zoe ink", "ann tea")
    assert as_lists(build_sequences(rows, USERS, ITEMS, tmp_path)) == [[0, 2], [], []]


def test_no_steps_are_empty_rows_and_arrays_are_mapped(tmp_path: Path) -> None:
    found = build_sequences(table(), USERS, ITEMS, tmp_path)
    assert as_lists(found) == [[], [], []]
    assert isinstance(build_sequences(table("ann ink"), USERS, ITEMS, tmp_path).items, np.memmap)


def test_a_stream_gives_the_same_as_a_table(tmp_path: Path) -> None:
    rows = table("bob tea", "ann oil", "bob ink", "ann ink")
    reader = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(1))
    one, two = (build_sequences(each, USERS, ITEMS, tmp_path) for each in (rows, reader))
    assert as_lists(one) == as_lists(two)


def test_who_had_what() -> None:
    had = of([[3, 1, 3], [], [2]], 4).had()
    assert (had.indptr.tolist(), had.indices.tolist()) == ([0, 2, 2, 3], [1, 3, 2])


@settings(deadline=None)
@given(rows=histories, batch_size=st.integers(1, 9), seed=st.integers(0, 9))
def test_an_epoch_predicts_the_last_steps_of_each_user_once(
    rows: list[list[int]], batch_size: int, seed: int
) -> None:
    batches = list(epoch_steps(sampler(rows), batch_size, seed=seed, epoch=1))
    expected = [(row[-LENGTH - 1 : -1], row[1:][-LENGTH:]) for row in rows if len(row) > 1]
    assert sorted(chain.from_iterable(map(predicted, batches))) == sorted(expected)
    again = list(epoch_steps(sampler(rows), batch_size, seed=seed, epoch=1))
    assert list(map(predicted, batches)) == list(map(predicted, again))
    for batch in batches:
        step = np.arange(batch.past.items.shape[1])
        real = step < batch.past.sizes[:, None]
        assert batch.places.tolist() == np.flatnonzero(real).tolist()
        # in `of`, the strength of a step is its item's number and one
        assert (batch.past.strengths == np.where(real, batch.past.items + 1, 0)).all()


def test_another_epoch_and_another_seed_mix_anew() -> None:
    drawn = sampler([[n % 10, (n * 3) % 10, 1] for n in range(64)])
    seen = [
        [predicted(batch) for batch in epoch_steps(drawn, 8, seed=seed, epoch=epoch)]
        for seed, epoch in ((1, 1), (1, 2), (2, 1))
    ]
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_batches_hold_about_equally_many_steps_and_little_padding() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 10, size).tolist() for size in rng.integers(2, 60, 640)]
    drawn = make_step_sampler(of(rows), 50, with_negatives=False)
    batches = list(epoch_steps(drawn, 32, seed=0, epoch=1))
    n = [len(batch.targets) for batch in batches]
    assert max(n) - min(n) <= 100
    assert sum(batch.past.items.size for batch in batches) < 1.2 * sum(n)


@settings(deadline=None)
@given(rows=histories, seed=st.integers(0, 9))
def test_a_negative_is_never_an_item_its_user_had(rows: list[list[int]], seed: int) -> None:
    drawn = make_step_sampler(of(rows), MOST, with_negatives=True)
    assert drawn.n_users_dropped == sum(len(set(row)) == 10 for row in rows)
    for batch in epoch_steps(drawn, 4, seed=seed, epoch=1):
        assert batch.negatives is not None
        assert len(batch.negatives) == len(batch.targets)
        parts = np.split(batch.negatives, np.cumsum(batch.past.sizes)[:-1])
        for (inputs, targets), negatives in zip(predicted(batch), parts, strict=True):
            assert not {*negatives.tolist()} & {*inputs, *targets}


@settings(deadline=None)
@given(rows=histories)
def test_last_steps_are_those_of_everyone_who_has_one(rows: list[list[int]]) -> None:
    asked = np.arange(len(rows), dtype=np.int64)[::-1]
    found = {}
    for block, steps in last_steps(of(rows), asked, LENGTH):
        for at, items, size in zip(block, steps.items, steps.sizes, strict=True):
            found[int(asked[at])] = items[:size].tolist()
    assert found == {user: row[-LENGTH:] for user, row in enumerate(rows) if row}


def test_blocks_of_last_steps_are_bounded() -> None:
    rows = of([[1, 2, 3]] * 20_000)
    blocks = [steps for _, steps in last_steps(rows, np.arange(20_000), LENGTH)]
    assert len(blocks) > 3
    assert max(steps.items.size for steps in blocks) <= 1 << 14


@given(histories, st.integers(0, 9), st.booleans())
def test_an_epoch_gone_on_with_has_the_same_batches(
    rows: list[list[int]], skip: int, with_negatives: bool
) -> None:
    made = sampler(rows, with_negatives=with_negatives)
    whole = list(epoch_steps(made, 2, seed=0, epoch=1))
    left = list(epoch_steps(made, 2, seed=0, epoch=1, skip=skip))
    for one, two in zip(whole[skip:], left, strict=True):
        for name in ("items", "sizes", "strengths"):
            np.testing.assert_array_equal(getattr(one.past, name), getattr(two.past, name))
        for name in ("places", "targets", "negatives"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@given(histories, st.integers(1, 5))
def test_parts_of_a_batch_are_its_sequences(rows: list[list[int]], n_parts: int) -> None:
    for batch in epoch_steps(sampler(rows, with_negatives=True), 4, seed=0, epoch=1):
        bounds = [len(batch.past.sizes) * n // n_parts for n in range(n_parts + 1)]
        parts = [batch.part(*each) for each in pairwise(bounds) if each[0] < each[1]]
        assert [each for part in parts for each in predicted(part)] == predicted(batch)
        for part in parts:
            assert part.negatives is not None
            assert len(part.negatives) == len(part.places) == part.past.sizes.sum()
            real = np.arange(part.past.items.shape[1]) < part.past.sizes[:, None]
            assert part.places.tolist() == np.flatnonzero(real).tolist()
