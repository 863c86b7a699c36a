"""A training that begins where an earlier one ended."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.contract import Recommender
from models.registry import load
from tasks.train.arrays import Interactions, positions
from tasks.train.checkpoints import Checkpoints
from tasks.train.loop import train
from tasks.train.run import Step
from tasks.train.warm import begin_at
from tests.tasks.train.planted import arrays, rows

FAST: dict[str, dict[str, object]] = {
    "bpr": {"n_factors": 8, "batch_size": 256, "learning_rate": 0.02, "epochs": 15},
    "lightgcn": {"n_factors": 8, "batch_size": 256, "learning_rate": 0.02, "epochs": 15},
    "sasrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 15, "length": 20},
    "causalrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 15, "length": 20},
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Interactions]:
    """Some users and items, and others of whom many are the same."""
    before, _ = rows()
    users, items = (np.array([int(i[1:]) for i in before[n].to_pylist()]) for n in (0, 1))
    old, new = (before.filter(keep) for keep in ((users < 60) & (items < 50), users > 20))
    folders = (tmp_path_factory.mktemp(name) for name in ("old", "new"))
    return arrays(old, next(folders)), arrays(new, next(folders))


def fresh(name: str, config: dict[str, object], data: Interactions) -> Recommender:
    torch.manual_seed(1)
    kind = load(name)
    return kind(kind.config_type.from_dict(config), data.n_users, data.n_items)


@pytest.mark.parametrize("name", FAST)
def test_rows_go_by_id_and_others_stay_as_they_were(
    name: str, worlds: tuple[Interactions, Interactions]
) -> None:
    old, new = worlds
    before, model = fresh(name, FAST[name], old), fresh(name, FAST[name], new)
    untouched = fresh(name, FAST[name], new)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(100)
    assert begin_at(model, new.users, new.items, before, old.users, old.items)
    for kind, ids, known in (
        ("users", new.users, old.users),
        ("items", new.items, old.items),
    ):
        for row in (n for n, k in model.row_kinds.items() if k == kind):
            got, first, ended = (
                m.get_parameter(row).detach().numpy() for m in (model, untouched, before)
            )
            at = positions(ids, known)
            assert (at >= 0).sum() > 0
            np.testing.assert_array_equal(got[at >= 0], ended[at[at >= 0]])
            np.testing.assert_array_equal(got[at < 0], first[at < 0])
    for name_of, values in model.named_parameters():
        if name_of not in model.row_kinds:
            assert torch.equal(values, before.get_parameter(name_of))


def test_nodes_are_users_and_then_items(worlds: tuple[Interactions, Interactions]) -> None:
    old, new = worlds
    before, model = (
        fresh("lightgcn", FAST["lightgcn"], old),
        fresh("lightgcn", FAST["lightgcn"], new),
    )
    begin_at(model, new.users, new.items, before, old.users, old.items)
    got, ended = (m.get_parameter("e").detach().numpy() for m in (model, before))
    last_item = positions(new.items, old.items)[0]
    np.testing.assert_array_equal(got[new.n_users], ended[old.n_users + last_item])
    user = int(np.flatnonzero(positions(new.users, old.users) >= 0)[0])
    np.testing.assert_array_equal(got[user], ended[positions(new.users, old.users)[user]])


@pytest.mark.parametrize("name", FAST)
def test_it_begins_with_less_loss_and_is_another_training(
    name: str, worlds: tuple[Interactions, Interactions], tmp_path: Path
) -> None:
    old, new = worlds
    before = train(name, FAST[name], old, seed=0)
    cold = train(name, FAST[name], new, seed=0, epochs=1)
    warm = train(name, FAST[name], new, seed=0, epochs=1, start=before)
    assert warm.losses[0] < cold.losses[0]
    assert (warm.is_warm_start, cold.is_warm_start) == (True, False)
    plan, told = Checkpoints(tmp_path, seconds=0, steps=1), list[Step]()

    def stop(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(name, FAST[name], new, seed=0, epochs=1, checkpoints=plan, progress=stop)
    again = train(
        name,
        FAST[name],
        new,
        seed=0,
        epochs=1,
        checkpoints=plan,
        progress=told.append,
        start=before,
    )
    assert told[0].note == ""
    assert again.losses == warm.losses


def test_what_has_another_shape_begins_cold(worlds: tuple[Interactions, Interactions]) -> None:
    old, new = worlds
    wider = train("lightgcn", {**FAST["lightgcn"], "n_factors": 9}, old, seed=0, epochs=1)
    cold = train("lightgcn", FAST["lightgcn"], new, seed=0, epochs=1)
    warm = train("lightgcn", FAST["lightgcn"], new, seed=0, epochs=1, start=wider)
    assert not warm.is_warm_start
    assert warm.losses == cold.losses
