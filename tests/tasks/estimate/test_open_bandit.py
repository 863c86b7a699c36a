"""Real logged probabilities: each policy's value from the other one's log.

Y. Saito et al., "Open Bandit Dataset and Pipeline", NeurIPS Datasets 2021. The stated policy is the
other one's item x position share, counted in its own log: what it did, the context left out.
"""

from itertools import permutations, product

import numpy as np
import polars as pl
import pytest

from tasks.estimate.intervals import Z
from tasks.estimate.values import UserSums, overlap, policy_values
from tests.scenarios.real_data import FOLDER
from tests.tasks.estimate.test_values import by_name, sums

CASES = list(product(("all", "men", "women"), permutations(("random", "bts"), 2)))
PLACE = ["item_id", "position"]


@pytest.fixture(scope="module")
def logs() -> dict[tuple[str, str], pl.DataFrame]:
    """The rows of each campaign and policy."""
    folder = FOLDER / "obd-sample"
    if not folder.is_dir():
        pytest.skip("the Open Bandit sample is not here")
    found = {}
    for campaign in ("all", "men", "women"):
        rows = pl.read_parquet(folder / f"log_{campaign}.parquet")
        rows = rows.with_columns(pl.col("policy").cast(pl.String), pl.col("click").cast(pl.Float64))
        for policy in ("random", "bts"):
            found[campaign, policy] = rows.filter(policy=policy)
    return found


def stated_in(logged: pl.DataFrame, stated: pl.DataFrame) -> UserSums:
    """The slots of one log under the shares of another; every row is a user of its own.

    The imputed reward is the mean click of the item, by the other half of the rows, shrunk.
    """
    shares = (
        stated.group_by(PLACE)
        .agg(n=pl.len())
        .with_columns(share=pl.col("n") / pl.col("n").sum().over("position"))
    )
    rows = logged.with_row_index("user").with_columns(fold=pl.col("user") % 2)
    mean = float(rows["click"].to_numpy().mean())
    rates = rows.group_by("item_id", fold=1 - pl.col("fold")).agg(
        rate=(pl.col("click").sum() + 100 * mean) / (pl.len() + 100)
    )
    direct = (
        shares.join(rates, on="item_id")
        .group_by("position", "fold")
        .agg(d=(pl.col("share") * pl.col("rate")).sum())
    )
    rows = (
        rows.join(shares.select(*PLACE, "share"), on=PLACE, how="left")
        .join(rates, on=["item_id", "fold"], how="left")
        .join(direct, on=["position", "fold"], how="left")
        .with_columns(pl.col("share").fill_null(0.0), pl.col("rate").fill_null(mean))
        .sort("user")
    )
    w = (rows["share"] / rows["propensity"]).to_numpy()
    y, q, d = (rows[name].to_numpy() for name in ("click", "rate", "d"))
    return sums(rows["user"].to_numpy(), w, y, q, d)


@pytest.mark.parametrize(("campaign", "policies"), CASES)
@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_what_one_log_says_of_the_other_policy_is_what_it_earned(
    logs: dict[tuple[str, str], pl.DataFrame],
    campaign: str,
    policies: tuple[str, str],
    estimator: str,
) -> None:
    logged, stated = (logs[campaign, policy] for policy in policies)
    on_policy = stated["click"].to_numpy()
    se_on = on_policy.std(ddof=1) / np.sqrt(len(on_policy))
    found = stated_in(logged, stated)
    facts, estimate = overlap(found), by_name(policy_values(found))[estimator]
    print(
        f"\n{campaign}: {policies[1]} from {policies[0]}, {estimator}: {estimate.value}, "
        f"on policy {on_policy.mean():.4f}; ESS {facts.ess:.0f}, {facts.verdict}"
    )
    if facts.ess < 100:
        assert facts.verdict == "no overlap"
        assert estimate.value is None
        return
    assert estimate.value is not None
    assert estimate.se is not None
    assert abs(estimate.value - on_policy.mean()) <= Z * np.hypot(estimate.se, se_on)
