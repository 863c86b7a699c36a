"""Which item of their history is named to users as what weighed most."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from models.contract import SequenceModel
from tasks.train.arrays import Interactions, build_interactions, build_sequences
from tasks.train.loop import Trained, train
from tasks.train.reasons import WeighedMost
from tasks.train.scoring import Side

N_USERS, N_TYPES = 1200, 4
CONFIG = {
    "width": 16,
    "length": 8,
    "batch_size": 64,
    "epochs": 30,
    "dropout": 0.0,
    "n_negatives": 16,
    "learning_rate": 5e-3,
}


def planted(work: Path) -> tuple[Interactions, list[str], list[str]]:
    """Noise, in which one step c0 .. c3 decides the last step, e0 .. e3.

    Also the deciding step of each user and what it leads to, of whom the last step is left out for
    the first half.
    """
    rng = np.random.default_rng(1)
    rows, causes, effects = [], [], []
    for user in range(N_USERS):
        kind, n = rng.integers(N_TYPES), rng.integers(3, 7)  # so that no length tells what comes
        place = rng.integers(n)
        steps = [f"n{each}" for each in rng.choice(8, n, replace=False)]
        steps[place] = f"c{kind}"
        causes.append(steps[place])
        effects.append(f"e{kind}")
        if user >= N_USERS // 2:
            steps.append(effects[-1])
        rows += [(f"u{user:04}", item, 1.0) for item in steps]
    table = pl.DataFrame(rows, ["user_id", "item_id", "weight"], orient="row").to_arrow()
    data = build_interactions(table.sort_by([("user_id", "ascending")]), work)
    sequences = build_sequences(table, data.users, data.items, work)
    return Interactions(**{**vars(data), "sequences": sequences}), causes, effects


@pytest.fixture(scope="module", params=["sasrec", "causalrec"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trained, Interactions, list[str], list[str]]:
    data, causes, effects = planted(tmp_path_factory.mktemp("planted"))
    return train(request.param, CONFIG, data, seed=1, epochs=30), data, causes, effects


def reasons(trained: Trained, data: Interactions, items: pa.Array) -> WeighedMost:
    assert isinstance(trained.model, SequenceModel)
    assert data.sequences is not None
    at = np.array([trained.items.to_pylist().index(item) for item in items.to_pylist()], np.int32)
    users = Side(data.users, np.arange(data.n_users, dtype=np.int32))
    return WeighedMost(trained.model, 8, data.sequences, users, Side(items, at), trained.items)


def test_the_step_that_decides_is_named(
    case: tuple[Trained, Interactions, list[str], list[str]],
) -> None:
    trained, data, causes, effects = case
    items = pa.array([f"e{kind}" for kind in range(N_TYPES)])
    half = N_USERS // 2
    listed = np.array([[int(effect[1:])] for effect in effects[:half]], dtype=np.int32)
    named = reasons(trained, data, items).of(0, listed).to_pylist()
    right = np.mean([one == other for one, other in zip(named, causes[:half], strict=True)])
    # by chance one of three to six
    assert right > 0.8


def test_places_that_hold_no_item_have_no_reason(
    case: tuple[Trained, Interactions, list[str], list[str]],
) -> None:
    trained, data, _, _ = case
    items = pa.array(["e0", "e1"])
    found = reasons(trained, data, items)
    listed = np.array([[0, -1], [1, 0], [-1, -1]], dtype=np.int32)
    assert len(found.of(5, listed)) == 3
    apart = [found.of(5 + user, listed[user : user + 1]).to_pylist() for user in range(3)]
    assert found.of(5, listed).to_pylist() == [name for each in apart for name in each]
