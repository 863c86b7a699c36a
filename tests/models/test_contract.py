"""What every registered model must do, whatever it is."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.contract import GradientModel, SequenceModel
from models.registry import MODELS, load
from tasks.train import registry
from tasks.train.arrays import Interactions
from tasks.train.loop import Holdout, Trained, train
from tests.tasks.train.planted import arrays, data_and_holdout, rows

FAST: dict[str, dict[str, object]] = {
    "popularity": {},
    "bpr": {"n_factors": 8, "batch_size": 256, "learning_rate": 0.02, "epochs": 15},
    "sasrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 15, "length": 20},
}
VARIANTS = [(name, FAST[name]) for name in MODELS]
VARIANTS += [("bpr", {**FAST["bpr"], "weighting": "ips", "strength_power": 0.0})]
VARIANTS += [("sasrec", {**FAST["sasrec"], "loss": loss}) for loss in ("bce", "full")]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Holdout]:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))


def same(one: Trained, two: Trained) -> bool:
    return (
        one.model.user_vectors().tobytes() == two.model.user_vectors().tobytes()
        and one.model.item_vectors().tobytes() == two.model.item_vectors().tobytes()
    )


@pytest.mark.parametrize(("name", "config"), VARIANTS)
class TestEveryModel:
    def test_vectors_fit_and_are_finite(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        data, _ = planted
        model = train(name, config, data, seed=1).model
        users, items = model.user_vectors(), model.item_vectors()
        assert users.dtype == items.dtype == np.float32
        assert users.shape == (data.n_users, items.shape[1])
        assert len(items) == data.n_items
        assert np.isfinite(users).all()
        assert np.isfinite(items).all()

    def test_the_loss_is_finite_and_falls(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        trained = train(name, config, planted[0], seed=1)
        if not isinstance(trained.model, GradientModel | SequenceModel):
            assert trained.losses == trained.ess_shares == ()
            return
        assert len(trained.ess_shares) == 15
        assert all(0 < share <= 1 for share in trained.ess_shares)
        assert len(trained.losses) == trained.n_epochs == 15
        assert np.isfinite(trained.losses).all()
        assert trained.losses[-1] < 0.7 * trained.losses[0]

    def test_the_same_seed_gives_the_same_bits(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        one, two = (train(name, config, planted[0], seed=5) for _ in range(2))
        assert same(one, two)
        assert one.losses == two.losses

    def test_the_order_of_the_rows_does_not_matter(
        self,
        name: str,
        config: dict[str, object],
        planted: tuple[Interactions, Holdout],
        tmp_path: Path,
    ) -> None:
        before, _ = rows()
        turned = before.take(pa.array(np.arange(before.num_rows)[::-1]))
        data = arrays(turned, tmp_path)
        assert same(train(name, config, planted[0], seed=5), train(name, config, data, seed=5))

    def test_saved_and_loaded_it_scores_the_same(
        self,
        name: str,
        config: dict[str, object],
        planted: tuple[Interactions, Holdout],
        tmp_path: Path,
    ) -> None:
        trained = train(name, config, planted[0], seed=2)
        loaded = registry.load(registry.save(trained, tmp_path).path)
        assert same(trained, loaded)
        assert loaded.config == trained.config
        assert loaded.users.equals(trained.users)

    def test_strangers_get_a_vector_if_and_only_if_declared(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        model = train(name, config, planted[0], seed=2).model
        width = model.item_vectors().shape[1]
        for declared, vector in (
            (load(name).serves_cold_users, model.cold_user_vector()),
            (load(name).serves_cold_items, model.cold_item_vector()),
        ):
            assert (vector is not None) == declared
            assert vector is None or vector.shape == (width,)
