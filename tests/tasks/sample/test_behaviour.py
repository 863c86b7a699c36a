import numpy as np
import polars as pl
import pytest

from tasks.sample import ShopSettings
from tasks.sample.behaviour import examination
from tests.tasks.sample.conftest import Sample

FUNNEL = {"view": "click", "favourite": "view", "cart": "view", "purchase": "cart"}


@pytest.fixture(scope="module")
def totals(default: Sample) -> pl.DataFrame:
    """Events per item and behaviour, one column each, beside the item's truth."""
    counts = default.events.pivot(
        "event", index="item_id", values="event_id", aggregate_function="len"
    )
    return default.truth.table("items").join(counts.fill_null(0), on="item_id")


def test_examination_falls_with_position_and_device() -> None:
    theta = examination(ShopSettings())
    assert theta.shape == (10, 3)
    assert theta[0].tolist() == [0.85, 1.0, 0.9]
    np.testing.assert_allclose(theta[9] / theta[0], 10**-0.7)


@pytest.mark.parametrize(("step", "before"), FUNNEL.items())
def test_every_step_follows_the_one_before(default: Sample, step: str, before: str) -> None:
    """Nearly: some earlier rows are lost to dirt."""
    keys = ["user_id", "item_id", "session_id"]
    later = default.events.filter(event=step)
    earlier = default.events.filter(event=before).group_by(keys).agg(first=pl.col("ts").min())
    matched = later.join(earlier, on=keys)
    assert matched.height > 0.98 * later.height
    assert (matched["ts"] > matched["first"]).to_numpy().mean() > 0.99


def test_volumes_are_those_of_a_shop(default: Sample) -> None:
    c = default.counts
    assert 100_000 < c.n_events < 180_000
    assert c.n_click > c.n_view > c.n_cart > c.n_purchase > 2000
    assert c.n_impressions == 10 * c.n_requests
    assert c.n_not_shown == 3 * c.n_requests
    assert c.n_requests == pytest.approx(40_000, rel=0.1)


def test_clickbait_is_clicked_and_gifts_are_bought(totals: pl.DataFrame) -> None:
    sums = totals.group_by("kind").agg(pl.col("click", "purchase").sum())
    bought = {k: p / c for k, c, p in sums.select("kind", "click", "purchase").iter_rows()}
    assert bought["clickbait"] < 0.5 * bought["plain"] < 0.5 * bought["gift"]
    means = dict(totals.group_by("kind").agg(pl.col("click").mean()).iter_rows())
    assert means["clickbait"] > 1.2 * means["plain"]


def test_habits_show_in_what_users_do(default: Sample) -> None:
    users = default.truth.table("users").select("user_id", "shopper")
    counts = default.events.join(users, on="user_id").group_by("shopper", "event").len()
    n = {(s, e): m for s, e, m in counts.iter_rows()}
    per_view = {s: n[s, "cart"] / n[s, "view"] for s in ("browser", "cart_filler", "buyer")}
    per_cart = {s: n[s, "purchase"] / n[s, "cart"] for s in ("browser", "cart_filler", "buyer")}
    assert per_view["cart_filler"] > per_view["buyer"] > per_view["browser"]
    assert per_cart["buyer"] > 1.5 * per_cart["cart_filler"]


def test_deeper_steps_are_liked_more(default: Sample) -> None:
    events = default.events.filter(pl.col("request_id").is_not_null())
    liking = pl.Series(default.truth.liking(events["user_id"], events["item_id"]))
    mean = dict(events.with_columns(r=liking).group_by("event").agg(pl.col("r").mean()).iter_rows())
    assert mean["click"] < mean["view"] < mean["cart"] < mean["purchase"]
    assert mean["click"] > default.shown["liking"].to_numpy().mean()


def test_price_against_budget_decides_purchases(default: Sample) -> None:
    users = default.truth.table("users").select("user_id", "log_budget")
    items = default.truth.table("items").select("item_id", pl.col("price").log().alias("log_price"))
    carts = default.events.filter(pl.col("event").is_in(["cart", "purchase"]))
    gap = (
        carts.join(users, on="user_id")
        .join(items, on="item_id")
        .select("event", gap=pl.col("log_price") - pl.col("log_budget"))
    )
    mean = dict(gap.group_by("event").agg(pl.col("gap").mean()).iter_rows())
    assert mean["purchase"] < mean["cart"] - 0.1


def test_searches_follow_true_taste_and_have_no_request(default: Sample) -> None:
    clicks = default.events.filter(event="click").filter(pl.col("request_id").is_null())
    others = [default.truth.table(name)["event_id"] for name in ("intended", "browsed")]
    searched = clicks.filter(~pl.col("event_id").is_in(pl.concat(others).implode()))
    assert searched.height == pytest.approx(default.counts.n_searches, rel=0.02)
    liking = default.truth.liking(searched["user_id"], searched["item_id"])
    assert liking.mean() > default.truth.liking_matrix(default.truth.user_ids[:200]).mean() + 0.15
