"""Every cause is a true one, and what is only browsed causes nothing."""

import polars as pl
import pytest

from tests.tasks.sample.conftest import Sample, Write


@pytest.fixture(scope="module")
def steps(default: Sample) -> pl.DataFrame:
    """Events with their type and category, and how many unintended clicks of the user are past."""
    intended = default.truth.table("intended")["event_id"]
    is_own = (pl.col("event") == "click") & ~pl.col("event_id").is_in(intended.implode())
    items = default.truth.table("items").select("item_id", "product_type", "category")
    return (
        default.events.drop_nulls("event")
        .join(items, on="item_id")
        .sort("user_id", "ts", "event_id")
        .with_columns(nth=is_own.cum_sum().over("user_id"))
    )


@pytest.fixture(scope="module")
def pairs(default: Sample, steps: pl.DataFrame) -> pl.DataFrame:
    """Intended clicks beside the event that caused them; nearly all, for dirt loses some."""
    intended = default.truth.table("intended")
    known = intended.join(steps, on="event_id").join(
        steps, left_on="parent_id", right_on="event_id", suffix="_parent"
    )
    assert known.height > 0.97 * intended.height > 4000
    return known


def test_an_effect_is_of_the_type_that_follows_its_cause(
    default: Sample, pairs: pl.DataFrame
) -> None:
    succ = default.truth.table("types").select("product_type", "succ")
    of = pairs.join(succ, left_on="product_type_parent", right_on="product_type")
    assert (of["product_type"] == of["succ"]).all()
    assert (of["category"] != of["category_parent"]).all()


def test_an_effect_is_a_click_of_the_same_user_soon_after_and_without_a_request(
    pairs: pl.DataFrame,
) -> None:
    assert set(pairs["event"]) == {"click"}
    assert set(pairs["event_parent"]) == {"cart", "purchase"}
    assert (pairs["user_id"] == pairs["user_id_parent"]).all()
    assert (pairs["ts"] > pairs["ts_parent"]).all()
    assert pairs["request_id"].is_null().all()
    # a cart may come after the next click of its slate
    between = (pairs["nth"].cast(pl.Int64) - pairs["nth_parent"]).to_numpy()
    assert between.min() >= 0
    assert (between <= 4).mean() > 0.99


def test_most_carts_cause_and_browsing_does_not(default: Sample, steps: pl.DataFrame) -> None:
    carts = steps.filter(pl.col("event") == "cart")
    causes = default.truth.table("intended")["parent_id"]
    assert len(causes) == causes.n_unique()
    # some users have no next click any more
    assert 0.5 < len(causes) / carts.height < 0.6
    assert not set(default.truth.table("browsed")["event_id"]) & set(causes)


def test_a_theme_is_clicks_of_one_category_in_one_session(
    default: Sample, steps: pl.DataFrame
) -> None:
    browsed = steps.join(default.truth.table("browsed"), on="event_id").filter(event="click")
    themes = browsed.group_by("session_id").agg(pl.col("category").n_unique(), n=pl.len())
    assert (themes["category"] == 1).all()
    assert themes["n"].to_numpy().max() == 3
    # side by side in a session are more of one category than of cause and effect
    n = themes["n"].to_numpy()
    assert (n * (n - 1)).sum() > default.truth.table("intended").height


def test_effects_go_on_to_carts_and_cause_in_turn(default: Sample, pairs: pl.DataFrame) -> None:
    effects = pairs.select("user_id", "item_id", "session_id")
    carts = default.events.filter(event="cart").join(effects, on=effects.columns, how="semi")
    causes = default.truth.table("intended").select(event_id="parent_id")
    assert carts.join(causes, on="event_id").height > 200


def test_without_causes_there_are_none_and_slates_stay_as_they_were(
    small: Sample, write: Write
) -> None:
    without = write(n_days=4, n_users=300, n_items=120, p_intention=0.0, p_browsing=0.0)
    assert not without.truth.table("intended").height + without.truth.table("browsed").height
    assert without.counts.n_impressions == small.counts.n_impressions
    shown = [shop.shown.select("request_id", "item_id", "propensity") for shop in (small, without)]
    both = shown[0].join(shown[1], on=["request_id", "item_id"], suffix="_without")
    assert both.height > 0.99 * max(each.height for each in shown)
    assert (both["propensity"] == both["propensity_without"]).all()
    assert without.counts.n_events < small.counts.n_events


def test_a_shop_without_the_type_that_follows_has_no_effect_of_it(write: Write) -> None:
    few = write(n_days=4, n_users=300, n_items=20)
    assert few.truth.table("intended").height
