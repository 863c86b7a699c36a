"""The training stage of a night: killed and run again, kept, and begun at what was kept."""

from pathlib import Path
from typing import Any

import pytest

from tasks.estimate.examination import examine
from tasks.lake.session import session
from tasks.lake.tables import Partition
from tasks.lake.warehouse import models_path
from tasks.shop import Shop, open_shop, parameters
from tasks.train import registry, versions
from tasks.train.night import train_model
from tasks.train.registry import SavedModel
from tasks.transform import build_snapshot
from tests.disk import on_disk
from tests.scenarios.nights import Place, day, rows

DS = day(5)
CUT = day(2)  # the shop holds the last three days out


class StoppedError(Exception):
    """Stands in for a kill."""


def shop_of(place: Place, **train: object) -> Shop:
    shop = open_shop(place.settings, None, place.landing, place.lake)
    configs = {"bpr": {**shop.settings.train.configs["bpr"], "batch_size": 64}}
    changed = shop.settings.train.model_copy(update={"configs": configs, **train})
    return Shop(shop.settings.model_copy(update={"train": changed}), shop.mapping)


def trained(shop: Shop, moved: Any = lambda *_: None) -> SavedModel:
    return train_model(shop, DS, "release", "bpr", moved)[0]


def losses(place: Place) -> list[Any]:
    return [row for row in rows(place.lake, "train.epochs") if "bpr" in row]


def kept(shop: Shop) -> dict[str, Any]:
    found = shop.lake.rows(
        shop.lake.pin("ops.models"),
        {
            "ds": DS,
        },
    ).to_pylist()
    return next(row for row in found if row["release_id"] == "release")


@pytest.fixture(scope="module")
def cold(one_night: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, SavedModel]:
    place = one_night.copy(tmp_path_factory.mktemp("cold") / "shop")
    return place, trained(shop_of(place))


def test_a_night_notes_its_models_and_its_champion(one_night: Place) -> None:
    one_night.refresh()
    models = one_night.ask(
        "SELECT model, model_version, ndcg > 0, len(pins) > 3 FROM ops.models ORDER BY model"
    )
    listed = one_night.ask("SELECT DISTINCT model, model_version FROM serve.candidates ORDER BY 1")
    assert [row[:2] for row in models] == listed
    assert [row[0] for row in models] == ["bpr", "popularity"]
    assert all(row[2] and row[3] for row in models)
    champion = one_night.ask(
        "SELECT c.model, c.model_version, c.ds, c.served_until FROM ops.champions AS c "
        "INNER JOIN serve.publications AS p ON p.decided_at = c.served_since"
    )
    served = one_night.ask("SELECT DISTINCT model_version FROM serve.current WHERE model = 'bpr'")
    assert champion == [("bpr", served[0][0], DS, None)]


@pytest.mark.parametrize("purpose", ["time split", "all days"])
def test_a_night_that_was_killed_goes_on_where_it_was(
    purpose: str, one_night: Place, cold: tuple[Place, SavedModel], tmp_path: Path
) -> None:
    place = one_night.copy(tmp_path / "shop")
    shop, told, stopped = shop_of(place, checkpoint_steps=1), list[str](), list[int]()

    def moved(done: float, total: float, note: str) -> None:
        assert 0 < done <= total
        told.append(note)
        if not stopped and sum(purpose in each for each in told) == 3:
            stopped.append(len(told))
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(shop, moved)
    folder = on_disk(models_path(shop.lake)) / "bpr"
    (left,) = folder.glob(".training-*")
    assert left.stat().st_size > 0
    saved = trained(shop, moved)
    assert any("gone on from epoch" in note for note in told[stopped[0] :])
    assert saved.model_version == cold[1].model_version
    assert losses(place) == losses(cold[0])
    assert not list(folder.glob(".training-*"))


@pytest.mark.parametrize("estimator", ["auto", "examination"])
def test_what_is_measured_is_weighted_with_what_was_known_at_the_cut(
    estimator: str, one_night: Place, tmp_path: Path
) -> None:
    place = one_night.copy(tmp_path / "shop")
    shop = shop_of(place, configs={"bpr": {"epochs": 2, "n_factors": 8, "weighting": "ips"}})
    of_items = shop.settings.propensity.model_copy(update={"estimator": estimator})
    shop = Shop(shop.settings.model_copy(update={"propensity": of_items}), shop.mapping)
    _estimate_items(shop)
    saved, told = trained(shop), losses(place)
    # after the cut the log says something else of the same positives
    where: Partition = {"ds": DS}
    for name in ("features.traffic_daily", "features.feedback_daily"):
        old = shop.lake.rows(shop.lake.pin(name), where).to_pylist()
        shop.lake.put(name, where, [_changed(row) for row in old])
    _estimate_items(shop)
    assert trained(shop).model_version != saved.model_version
    assert losses(place) == told


@pytest.mark.parametrize("weighting", ["none", "ips"])
def test_propensities_are_read_where_they_weigh_something(
    weighting: str, one_night: Place, tmp_path: Path
) -> None:
    place = one_night.copy(tmp_path / "shop")
    shop = shop_of(place, configs={"bpr": {"epochs": 1, "n_factors": 8, "weighting": weighting}})
    trained(shop)
    pins = {pin.partition("@")[0] for pin in kept(shop)["pins"]}
    assert ("features.item_propensities" in pins) == (weighting == "ips")
    assert ("features.traffic_daily" in pins) == (weighting == "ips")


def _changed(row: dict[str, Any]) -> dict[str, Any]:
    if "n_requests" in row:
        return row | {"n_requests": 50 * row["n_requests"]}
    return row | {"behaviours": [] if row["position"] > 1 else ["click"], "position": 1}


def _estimate_items(shop: Shop) -> None:
    with session(shop.lake, shop.settings.compute) as s:
        examine(s, parameters(shop, DS))
        build_snapshot(s, "features.item_propensities", parameters(shop, DS))


def test_days_after_the_cut_are_learnt_from_though_nothing_new_could_be_found_in_them(
    one_night: Place, tmp_path: Path
) -> None:
    place = one_night.copy(tmp_path / "shop")
    shop = shop_of(place)
    where: Partition = {"ds": DS}
    old = shop.lake.rows(shop.lake.pin("train.holdout"), where).to_pylist()
    # somebody new, who has what others had before
    shop.lake.put("train.holdout", where, [old[0] | {"user_id": "newcomer", "is_new": True}])
    saved = trained(shop)
    assert "newcomer" in registry.load(saved.path).users.to_pylist()
    assert not any(row for row in rows(place.lake, "train.metrics") if "bpr" in row)


def test_nights_begin_at_random_weights_unless_told_otherwise(
    cold: tuple[Place, SavedModel], tmp_path: Path
) -> None:
    place = cold[0].copy(tmp_path / "shop")
    assert trained(shop_of(place)).model_version == cold[1].model_version
    # what this night and later ones kept is no start for it
    told = shop_of(place, warm_start=True)
    versions.note(told.lake, day(6), "later", noted(cold[1]))
    assert trained(told).model_version == cold[1].model_version
    assert (kept(told)["is_warm_start"], kept(told)["began_at"]) == (False, None)


def noted(saved: SavedModel) -> versions.Kept:
    model = registry.load(saved.path)
    device = next(model.model.parameters()).device
    return versions.Kept(saved, model, [], [], device, 1.0, None)


def test_what_is_measured_never_began_at_a_model_that_knew_the_days_after_the_cut(
    cold: tuple[Place, SavedModel], tmp_path: Path
) -> None:
    place = cold[0].copy(tmp_path / "shop")
    shop = shop_of(place, warm_start=True)
    versions.note(shop.lake, day(3), "after the cut", noted(cold[1]))
    saved = trained(shop)
    assert losses(place) == losses(cold[0])
    assert saved.model_version != cold[1].model_version
    assert kept(shop)["began_at"] == cold[1].model_version
    versions.note(shop.lake, CUT, "before the cut", noted(cold[1]))
    trained(shop)
    assert losses(place)[0] != losses(cold[0])[0]
