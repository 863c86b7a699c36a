"""What every registered model must do, whatever it is."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.contract import FloatArray, GradientModel, Recommender, SequenceModel
from models.registry import MODELS, load
from tasks.train import registry
from tasks.train.arrays import Interactions
from tasks.train.loop import Holdout, Trained, train
from tasks.train.scoring import best_items
from tests.tasks.train.planted import arrays, data_and_holdout, rows

FAST: dict[str, dict[str, object]] = {
    "popularity": {},
    "bpr": {"n_factors": 8, "batch_size": 256, "learning_rate": 0.02, "epochs": 15},
    "ease": {"regularisation": 5.0},
    "ials": {"n_factors": 8, "regularisation": 1.0},
    "lightgcn": {"n_factors": 8, "batch_size": 256, "learning_rate": 0.02, "epochs": 15},
    "sasrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 15, "length": 20},
    "causalrec": {"width": 16, "batch_size": 8, "learning_rate": 0.01, "epochs": 15, "length": 20},
}
VARIANTS = [(name, FAST[name]) for name in MODELS]
VARIANTS += [("bpr", {**FAST["bpr"], "weighting": "ips", "strength_power": 0.0})]
VARIANTS += [("bpr", {**FAST["bpr"], "decay": 1e-4})]
VARIANTS += [("ials", {**FAST["ials"], "exact": True})]
VARIANTS += [("sasrec", {**FAST["sasrec"], "loss": loss}) for loss in ("bce", "full")]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Interactions, Holdout]:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))


def same(one: Trained, two: Trained) -> bool:
    return scores(one.model).tobytes() == scores(two.model).tobytes()


def scores(model: Recommender) -> FloatArray:
    return model.scores(np.arange(model.n_users))


@pytest.mark.parametrize(("name", "config"), VARIANTS)
class TestEveryModel:
    def test_scores_are_finite_and_a_users_own(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        data, _ = planted
        model = train(name, config, data, seed=1).model
        whole = scores(model)
        assert whole.dtype == np.float32
        assert whole.shape == (data.n_users, data.n_items)
        assert np.isfinite(whole).all()
        some = np.array([7, 3, 7])
        np.testing.assert_allclose(model.scores(some), whole[some], rtol=1e-5, atol=1e-6)

    def test_vectors_fit_and_are_finite(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        data, _ = planted
        model = train(name, config, data, seed=1).model
        if not model.has_vectors:
            assert not model.serves_cold_users
            assert not model.serves_cold_items
            with pytest.raises(NotImplementedError):
                model.user_vectors()
            return
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
        assert len(trained.ess_shares) == config["epochs"]
        assert all(0 < share <= 1 for share in trained.ess_shares)
        assert len(trained.losses) == trained.n_epochs == config["epochs"]
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
        for declared, vector in (
            (load(name).serves_cold_users, model.cold_user_vector()),
            (load(name).serves_cold_items, model.cold_item_vector()),
        ):
            assert (vector is not None) == declared
            assert vector is None or vector.shape == model.item_vectors().shape[1:]

    def test_it_finds_the_planted_tastes(
        self, name: str, config: dict[str, object], planted: tuple[Interactions, Holdout]
    ) -> None:
        data, holdout = planted
        model = train(name, config, data, seed=1).model
        lists = best_items(model, np.arange(data.n_users), 3, seen=holdout.seen).items
        of_own_taste = np.mean(lists % 2 == np.arange(data.n_users)[:, None] % 2)
        assert of_own_taste > (0.9 if name != "popularity" else 0.2)
