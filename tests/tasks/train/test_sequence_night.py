"""Models of sequences in the stages of a whole night: what they may know, and what they say."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sql
from models.contract import SequenceModel
from tasks.lake.session import session
from tasks.settings import Train
from tasks.shop import Shop, name_positives, open_shop
from tasks.train import lists, registry
from tasks.train.night import train_model
from tasks.train.registry import SavedModel
from tests.scenarios.nights import Place, day, rows

DS = day(5)
CONFIG: dict[str, Any] = {
    "width": 8,
    "length": 10,
    "batch_size": 16,
    "epochs": 3,
    "n_negatives": 16,
}


def quiet(*_: object) -> None:
    """The stage's progress is of no interest here."""


def shop_of(place: Place) -> Shop:
    shop = open_shop(place.settings, None, place.landing, place.lake)
    # so that a shop this small has edges
    configs: dict[str, dict[str, Any]] = {
        "sasrec": CONFIG,
        "causalrec": CONFIG | {"shrinkage": 0.1, "strong": 0.0},
    }
    train = Train(models=("popularity", "bpr", *configs), configs=configs)
    return Shop(shop.settings.model_copy(update={"train": train}), shop.mapping)


def trained(place: Place, name: str = "sasrec") -> tuple[Shop, SavedModel]:
    shop = shop_of(place)
    return shop, train_model(shop, DS, "release", name, quiet)[0]


def forget(shop: Shop, after: int) -> None:
    """Empty the histories of the days after day number `after`."""
    for number in range(after + 1, 6):
        shop.lake.put("features.user_history_daily", {"ds": day(number)}, [])


def trials(place: Place) -> list[tuple[Any, ...]]:
    return [row for row in rows(place.lake, "serve.trials") if "sasrec" in row]


def test_steps_are_positive_and_in_order_of_time_then_behaviour_then_item(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    shop = open_shop(None, None, tmp_path / "landing", tmp_path / "lake")
    early, late = (datetime(2026, 1, 10, hour, tzinfo=UTC) for hour in (9, 10))
    told = {
        day(5): [(late, "oil", "purchase"), (early, "wax", "view"), (early, "tea", "purchase")],
        day(4): [(late, "ink", "favourite"), (late, "oil", "cart"), (late, "ink", "cart")],
        day(6): [(late, "ink", "purchase")],
    }
    for ds, steps in told.items():
        named = [
            {"occurred_at": at + (ds - day(5)), "item_id": item, "behaviour": kind}
            for at, item, kind in steps
        ]
        row = {"user_id": "ann", "n_events": len(steps), "steps": named, "ds": ds}
        shop.lake.put("features.user_history_daily", {"ds": ds}, [row])
    with session(shop.lake, shop.settings.compute) as s:
        s.read("features.user_history_daily")
        name_positives(s, shop)
        asked = {"since": day(0), "upto": day(5)}
        found = s.rows(sql.read("queries/positive_steps"), asked)
    kinds = shop.mapping.behaviours.positives
    expected = [("cart", "ink"), ("cart", "oil"), ("favourite", "ink")]
    expected += [("purchase", "tea"), ("purchase", "oil")]
    assert found == [("ann", item, kinds[kind]) for kind, item in expected if kind in kinds]
    assert len(found) >= 3


@pytest.fixture(scope="module")
def night(one_night: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, SavedModel]:
    place = one_night.copy(tmp_path_factory.mktemp("sequences") / "shop")
    return place, trained(place)[1]


def test_it_is_trained_measured_and_scored_like_any_other(night: tuple[Place, SavedModel]) -> None:
    place, saved = night
    shop = shop_of(place)
    metrics = [row for row in rows(place.lake, "train.metrics") if "sasrec" in row]
    assert len(metrics) > 20
    (written,) = lists.score(shop, DS, saved, quiet)
    assert written.rows > 0
    with session(shop.lake, shop.settings.compute) as s:
        s.read("serve.candidates", since=DS, upto=DS)
        found = s.rows("SELECT DISTINCT model, max(rank) FROM serve.candidates GROUP BY ALL")
    assert ("sasrec", 20) in found


def test_everyone_with_a_positive_has_a_state(night: tuple[Place, SavedModel]) -> None:
    model = registry.load(night[1].path).model
    assert isinstance(model, SequenceModel)
    assert np.abs(model.user_vectors()).max(axis=1).min() > 0


def test_trials_know_nothing_of_the_days_after_the_cut_and_tonights_model_does(
    night: tuple[Place, SavedModel], tmp_path: Path
) -> None:
    place, saved = night
    other = place.copy(tmp_path / "shop")
    forget(shop_of(other), after=2)
    again = trained(other)[1]
    assert trials(other) == trials(place) != []
    assert again.model_version != saved.model_version


def test_causalrec_tells_its_graph_and_what_weighed_most_in_each_row(
    night: tuple[Place, SavedModel],
) -> None:
    place, _ = night
    shop, saved = trained(place, "causalrec")
    candidates, edges = lists.score(shop, DS, saved, quiet)
    assert (candidates.table, edges.table) == ("serve.candidates", "serve.causal_edges")
    assert edges.rows > 10
    again = lists.score(shop, DS, saved, quiet)
    assert [each.rows for each in again] == [candidates.rows, edges.rows]
    with session(shop.lake, shop.settings.compute) as s:
        for name in ("serve.candidates", "serve.causal_edges"):
            s.read(name, since=DS, upto=DS)
        s.read("features.user_history_daily", upto=DS)
        strange = s.value(
            "SELECT count(*) FROM serve.candidates AS c WHERE model = 'causalrec' AND NOT EXISTS ("
            "SELECT 1 FROM features.user_history_daily AS h WHERE h.user_id = c.user_id "
            "AND list_contains(list_transform(h.steps, lambda x: x.item_id), c.because))"
        )
        assert strange == 0
        n_rows = s.value(
            "SELECT count(*) FROM serve.causal_edges WHERE strength > control_strength "
            f"AND support > 0 AND model_version = '{saved.model_version}' AND cause <> effect"
        )
        assert n_rows == edges.rows
        met = "SELECT count(*) FROM serve.causal_edges WHERE mean_effect BETWEEN -1 AND 1"
        assert s.value(met) > edges.rows / 2
