"""A model of sequences on the loop: worlds whose next item is determined, and odd worlds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import TrainingError
from tasks.train import registry
from tasks.train.arrays import (
    Interactions,
    build_interactions,
    build_sequences,
    pairs_to_csr,
)
from tasks.train.csr import Csr
from tasks.train.loop import Holdout, Trained, train
from tasks.train.topk import top_k

FAST = {"width": 16, "length": 8, "batch_size": 8, "learning_rate": 0.01, "epochs": 30}
LOSSES = ("bce", "sampled", "full")
N_USERS, N_ITEMS, STEP = 60, 24, 7  # in the planted world item i is followed by i + 7, mod 24


def world(rows: list[list[int]], folder: Path) -> Interactions:
    """Users u000, u001 and so on, who did these items in this order."""
    pairs = [(f"u{user:03}", f"i{item:02}") for user, row in enumerate(rows) for item in row]
    users, items = (pa.array([pair[n] for pair in pairs], pa.string()) for n in (0, 1))
    weights = pa.array(np.ones(len(pairs)))
    steps = pa.table({"user_id": users, "item_id": items, "weight": weights})
    data = build_interactions(steps, folder)
    return replace(data, sequences=build_sequences(steps, data.users, data.items, folder))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Holdout]:
    """Everyone starts somewhere and takes 5 to 9 steps; the holdout is the step after."""
    rng = np.random.default_rng(0)
    rows = [
        [(start + STEP * t) % N_ITEMS for t in range(rng.integers(6, 11))]
        for start in rng.integers(0, N_ITEMS, N_USERS)
    ]
    folder = tmp_path_factory.mktemp("planted")
    data = world(rows, folder)
    after = {"user_id": data.users, "item_id": [f"i{(r[-1] + STEP) % N_ITEMS:02}" for r in rows]}
    later = pairs_to_csr(pa.table(after), data.users, data.items, folder)
    return data, Holdout(later, seen=data.csr())  # bce never tells what a user had from the next


def best(trained: Trained, k: int, seen: Csr | None = None) -> np.ndarray:
    model = trained.model
    return top_k(model.user_vectors(), model.item_vectors(), k, seen=seen).items


@pytest.mark.usefixtures("few_may_choose")
@pytest.mark.parametrize("loss", LOSSES)
def test_the_next_item_is_found_where_it_is_determined(
    loss: str, planted: tuple[Interactions, Holdout]
) -> None:
    data, holdout = planted
    trained = train("sasrec", {**FAST, "loss": loss, "patience": 30}, data, seed=0, holdout=holdout)
    assert np.mean(best(trained, 1, holdout.seen)[:, 0] == holdout.relevant.indices) > 0.95
    assert max(trained.ndcgs) > 0.95


@pytest.mark.usefixtures("few_may_choose")
def test_what_is_kept_is_the_best_epochs_state_of_every_user(
    planted: tuple[Interactions, Holdout],
) -> None:
    data, holdout = planted
    stopped = train("sasrec", {**FAST, "patience": 2}, data, seed=0, holdout=holdout)
    again = train("sasrec", FAST, data, seed=0, epochs=stopped.best_epoch)
    assert stopped.model.user_vectors().tobytes() == again.model.user_vectors().tobytes()
    assert np.linalg.norm(stopped.model.user_vectors(), axis=1).min() > 0


def test_a_user_without_a_step_has_the_vector_0_and_changes_nothing(tmp_path: Path) -> None:
    rows = [[n % 5, (n + 1) % 5, (n + 2) % 5] for n in range(20)]
    data = world(rows, tmp_path)
    assert data.sequences is not None
    cut = data.sequences.indptr.copy()
    cut[-1] = cut[-2]  # the last user did nothing
    emptied = replace(data, sequences=replace(data.sequences, indptr=cut))
    vectors = train("sasrec", {**FAST, "epochs": 2}, emptied, seed=0).model.user_vectors()
    assert not vectors[-1].any()
    assert vectors[:-1].any(axis=1).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_one_user(loss: str, tmp_path: Path) -> None:
    rows = [[0, 1, 2, 0, 1, 3, 0, 1]]
    data = world([*rows], tmp_path)
    if loss == "bce":
        with pytest.raises(TrainingError, match="each user has every item"):
            train("sasrec", {**FAST, "loss": loss}, data, seed=0)
        return
    trained = train("sasrec", {**FAST, "loss": loss, "epochs": 3}, data, seed=0)
    assert best(trained, 9).shape == (1, 9)
    assert sorted(best(trained, 9)[0, :4]) == [0, 1, 2, 3]
    assert set(best(trained, 9)[0, 4:]) == {-1}


def test_one_item_is_never_followed_by_another(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no user has two steps"):
        train("sasrec", FAST, world([[0, 0], [0]], tmp_path), seed=0)


def test_a_user_who_has_everything_is_left_out_of_bce_and_counted(tmp_path: Path) -> None:
    data = world([[0, 1, 2], [0, 1], [2, 0]], tmp_path)
    trained = train("sasrec", {**FAST, "loss": "bce", "epochs": 2}, data, seed=0)
    assert trained.n_users_dropped == 1
    assert trained.model.user_vectors().any(axis=1).all()  # and is served all the same


def test_without_sequences_it_is_refused(planted: tuple[Interactions, Holdout]) -> None:
    with pytest.raises(TrainingError, match="needs sequences and there are none"):
        train("sasrec", FAST, replace(planted[0], sequences=None), seed=0)


def test_a_saved_model_needs_no_sequences(
    planted: tuple[Interactions, Holdout], tmp_path: Path
) -> None:
    trained = train("sasrec", {**FAST, "epochs": 2}, planted[0], seed=0)
    loaded = registry.load(registry.save(trained, tmp_path).path)
    assert loaded.model.user_vectors().tobytes() == trained.model.user_vectors().tobytes()
