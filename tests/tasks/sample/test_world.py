from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from tasks.errors import SettingsError
from tasks.sample import DirtRates, ShopSettings
from tasks.sample.world import Draw, Items, Users, World, build_world, generator, sigmoid


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(ShopSettings())


@pytest.mark.parametrize(
    "numbers",
    [
        {"n_days": 0},
        {"n_users": 0},
        {"n_users": 1_000_001},
        {"n_items": 12},
        {"n_items": 100_001},
        {"seed": -1},
        {"n_types": 30},
        {"n_brands": 1},
        {"slate_size": 0},
        {"n_not_shown": -1},
        {"requests_per_day": -1.0},
        {"requests_per_day": 0.0, "searches_per_day": 0.0},
        {"uniform_share": 1.5},
        {"main_policy": "best"},
        {"taste_weights": (1.0, 2.0)},
        {"event_dirt": DirtRates(late=0.6, future=0.6)},
        {"impression_dirt": DirtRates(late=-0.1)},
    ],
)
def test_nonsense_settings_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="a sample shop cannot have"):
        ShopSettings(**numbers)


def test_a_day_with_empty_shelves_is_refused() -> None:
    with pytest.raises(SettingsError, match="items could be shown on day"):
        build_world(ShopSettings(n_items=20, p_stock_out=0.9, p_restock=0.1))


def test_same_seed_same_world_and_other_seed_another() -> None:
    one, same, other = (build_world(ShopSettings(seed=s, n_days=3)) for s in (1, 1, 2))
    for part in ("items", "users"):
        for f in fields(Items if part == "items" else Users):
            a, b = (getattr(getattr(w, part), f.name) for w in (one, same))
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.users.taste, other.users.taste)


def test_generators_are_their_own() -> None:
    s = ShopSettings()
    keys = [(Draw.SLATES, 0, 0), (Draw.SLATES, 0, 1), (Draw.SLATES, 1, 0), (Draw.VISITS, 0, 0)]
    firsts = {generator(s, draw, *key).random() for draw, *key in keys}
    assert len(firsts) == len(keys)


def test_successor_is_of_another_category(world: World) -> None:
    category = world.types.category
    assert (category[world.types.succ] != category).all()
    assert len(np.unique(category)) == world.settings.n_categories


def test_tenth_of_users_and_items_arrive_during_the_window(world: World) -> None:
    for day in (world.users.joined, world.items.arrival):
        assert 0.07 < (day > 0).mean() < 0.13
        assert day.max() < world.settings.n_days
        assert not (day == 0).any()


def test_stock_is_sticky_and_mostly_there(world: World) -> None:
    stock = world.items.in_stock
    assert 0.88 < stock.mean() < 0.94
    assert (stock[1:] == stock[:-1]).mean() > 0.9
    assert np.isin(world.eligible(3), np.flatnonzero(stock[3])).all()


def test_promotions_last_and_end(world: World) -> None:
    promo = world.brands.promo
    assert 0.2 < promo.mean() < 0.5
    assert (promo[1:] != promo[:-1]).any(axis=0).mean() > 0.5


def explained(groups: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance that lies between groups."""
    means = np.array([values[groups == g].mean(axis=0) for g in np.unique(groups)])
    n = np.unique(groups, return_counts=True)[1]
    between = (n[:, None] * (means - values.mean(axis=0)) ** 2).sum()
    return float(between / ((values - values.mean(axis=0)) ** 2).sum())


def test_brand_and_taste_are_correlated(world: World) -> None:
    shuffled = np.random.default_rng(0).permutation(world.items.brand)
    assert explained(world.items.brand, world.items.taste) > 0.1
    assert explained(shuffled, world.items.taste) < 0.06


def test_age_and_country_follow_the_persona(world: World) -> None:
    users = world.users
    for trait in (users.age_band, users.country):
        assert explained(users.persona, np.eye(6)[trait]) > 0.05


def test_one_user_and_one_day_make_a_world() -> None:
    world = build_world(ShopSettings(n_users=1, n_days=1, n_items=40))
    assert world.users.joined[0] < 0


def test_sigmoid_is_safe_and_right() -> None:
    x = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
    np.testing.assert_allclose(sigmoid(x)[1:4], 1 / (1 + np.exp(-x[1:4])))
    assert sigmoid(x)[[0, 4]].tolist() == [0, 1]
