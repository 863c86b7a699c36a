"""The world holds the biases that the methods claim to remove, and what removes them."""

import numpy as np
import polars as pl
import pytest

from tests.tasks.sample.conftest import Sample, Write, ndcg


def uniform_mean(sample: Sample, requests: pl.DataFrame) -> float:
    """Mean r_ui over all eligible items of the day, averaged over requests (user_id, dt)."""
    truth = sample.truth
    stock = truth.table("stock").filter("eligible")
    total = 0.0
    for (dt,), of_day in requests.group_by("dt"):
        items = stock.filter(dt=pl.lit(dt))["item_id"]
        total += truth.liking_matrix(of_day["user_id"], items).mean(axis=1).sum()
    return total / requests.height


@pytest.fixture(scope="module")
def main(default: Sample) -> pl.DataFrame:
    """Shown rows of the main policy whose whole slate could be read."""
    rows = default.shown.filter(policy="main")
    return rows.filter(pl.len().over("request_id") == default.settings.slate_size)


@pytest.fixture(scope="module")
def mean_of_all(default: Sample, main: pl.DataFrame) -> float:
    return uniform_mean(default, main.filter(position=1))


def test_naive_mean_of_exposed_liking_is_far_off(main: pl.DataFrame, mean_of_all: float) -> None:
    naive = main["liking"].to_numpy().mean()
    print(f"\nnaive {naive:.3f}, uniform {mean_of_all:.3f}")
    assert naive > mean_of_all + 0.1


def test_ips_with_logged_probabilities_finds_the_uniform_mean(
    main: pl.DataFrame, mean_of_all: float
) -> None:
    """Des Raj: items above count as seen, 1 / p stands for those still free; exact at each k."""
    y = main["liking"].to_numpy().reshape(-1, 10)
    p = main["propensity"].to_numpy().reshape(-1, 10)
    n = main["n_eligible"].to_numpy().reshape(-1, 10)
    des_raj = (np.cumsum(y, axis=1) - y + y / p) / n
    print(f"\nDes Raj {des_raj.mean():.4f}, position 1 {des_raj[:, 0].mean():.4f}")
    assert des_raj.mean() == pytest.approx(mean_of_all, abs=0.01)
    assert des_raj[:, 0].mean() == pytest.approx(mean_of_all, abs=0.01)


def test_row_weights_are_near_too_and_carry_enough_sample(
    main: pl.DataFrame, mean_of_all: float
) -> None:
    """1 / (p (n - k + 1)) finds the mean of the items still free: a little lower."""
    w = (1 / (main["propensity"] * (main["n_eligible"] - main["position"] + 1))).to_numpy()
    y = main["liking"].to_numpy()
    ess = w.sum() ** 2 / (w**2).sum() / w.size
    print(f"\nIPS {(w * y).mean():.4f}, SNIPS {(w * y).sum() / w.sum():.4f}, ESS {ess:.1%}")
    assert w.mean() == pytest.approx(1, abs=0.01)
    assert (w * y).sum() / w.sum() == pytest.approx(mean_of_all, abs=0.01)
    assert w.max() <= 10 + 1e-9
    assert ess > 0.35


def test_uniform_slice_needs_no_weights(default: Sample) -> None:
    rows = default.shown.filter(policy="uniform")
    p = 1 / (rows["n_eligible"] - rows["position"] + 1)
    np.testing.assert_allclose(rows["propensity"], p, rtol=1e-12)
    truth = uniform_mean(default, rows.filter(position=1))
    assert rows["liking"].mean() == pytest.approx(truth, abs=0.01)


def test_click_rate_over_examination_is_flat_on_the_uniform_slice(write: Write) -> None:
    rows = write(n_days=4, uniform_requests=1.0, n_items=300).shown
    by_position = rows.group_by("position").agg("clicked", "p_examined").sort("position")
    clicks = by_position["clicked"].list.sum().to_numpy()
    examined = by_position["p_examined"].list.sum().to_numpy()
    expected = examined * clicks.sum() / examined.sum()
    chi_square = ((clicks - expected) ** 2 / expected).sum()
    print("\nclicks / theta:", np.round(clicks / examined, 3), f"chi2(9) = {chi_square:.1f}")
    assert chi_square < 21.7  # 99 %
    assert clicks[0] > 4 * clicks[-1]


def test_promotion_makes_a_brand_popular(default: Sample) -> None:
    """Shown and clicked more on the days of its promotion, against its own other days."""
    truth = default.truth
    brand = truth.table("items").select("item_id", "brand")
    stock = truth.table("stock").filter("eligible").join(brand, on="item_id")
    shelf = stock.group_by("dt", "brand").agg(n_items=pl.len())
    rows = default.shown.filter(policy="main").join(brand, on="item_id")
    by_day = rows.group_by("dt", "brand").agg(n=pl.len(), n_clicks=pl.col("clicked").sum())
    by_day = by_day.join(shelf, on=["dt", "brand"])
    by_day = by_day.join(truth.table("promotions"), on=["dt", "brand"])
    for count in ("n", "n_clicks"):
        rate = (pl.col(count) + 0.5).log() - pl.col("n_items").log()
        beside = by_day.select(
            rate=rate - rate.mean().over("brand"),
            promo=pl.col("promo") - pl.col("promo").mean().over("brand"),
        )
        correlation = beside.select(pl.corr("rate", "promo")).item()
        print(f"\n{count} with promotion: {correlation:.2f}")
        assert correlation > 0.3


def test_ranking_by_truth_is_perfect_and_simple_rankings_are_far_below(default: Sample) -> None:
    truth = default.truth
    relevant = truth.relevant(truth.user_ids)
    clicks = default.events.filter(event="click")["item_id"].value_counts()
    popularity = np.zeros(relevant.shape)
    popularity[:, truth.item_ids.search_sorted(clicks["item_id"]).to_numpy()] = clicks["count"]
    random = np.random.default_rng(0).random(relevant.shape)
    found = {
        "truth": ndcg(truth.liking_matrix(truth.user_ids), relevant),
        "popularity": ndcg(popularity, relevant),
        "random": ndcg(random, relevant),
    }
    print("\nNDCG@20", {k: round(v, 3) for k, v in found.items()})
    assert found["truth"] == pytest.approx(1)
    assert found["popularity"] < 0.3
    assert found["random"] < 0.08


def test_clicks_hold_more_than_popularity(default: Sample) -> None:
    """A plain factorisation of the clicks beats popularity by far: the signal is there."""
    truth = default.truth
    clicks = default.events.filter(event="click").select("user_id", "item_id").unique()
    seen = np.zeros((len(truth.user_ids), len(truth.item_ids)))
    user = truth.user_ids.search_sorted(clicks["user_id"]).to_numpy()
    seen[user, truth.item_ids.search_sorted(clicks["item_id"]).to_numpy()] = 1
    popularity = seen.sum(axis=0) + 1
    u, s, vt = np.linalg.svd(seen / np.sqrt(popularity), full_matrices=False)
    scores = (u[:, :9] * s[:9]) @ vt[:9]
    relevant = truth.relevant(truth.user_ids)
    print(f"\nSVD of clicks: NDCG@20 {ndcg(scores, relevant):.3f}")
    assert ndcg(scores, relevant) > 1.5 * ndcg(np.tile(popularity, (len(seen), 1)), relevant)


def test_greedy_logs_no_probability(write: Write) -> None:
    rows = write(n_days=1, n_users=100, n_items=60, main_policy="greedy").impressions
    assert rows["propensity"].is_null().all()
    assert rows["score"].is_not_null().all()
    assert set(rows["policy"]) == {"main", "uniform"}
