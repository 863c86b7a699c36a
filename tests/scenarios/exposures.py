"""How likely each shown item truly was to be shown, from the sample shop's world."""

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.lake.session import session
from tasks.sample.exposure import policy_scores
from tasks.sample.world import build_world
from tests.scenarios.truths import World

Floats = npt.NDArray[np.float64]


def inclusion(chances: Floats, n_slots: int) -> Floats:
    """How likely each item is to be among `n_slots` drawn one after another, without replacement.

    chances: [n, n_items], of the first draw. 1 - exp(-t c) with t such that the sum is `n_slots`:
    the items that arrive first, where each arrives at a rate of its chance (B. Rosen, 1972).
    """
    t = np.full((len(chances), 1), float(n_slots))
    for _ in range(50):
        gone = np.exp(-t * chances)
        excess = (1 - gone).sum(axis=1, keepdims=True) - n_slots
        t -= excess / (chances * gone).sum(axis=1, keepdims=True)
    found: Floats = 1 - np.exp(-t * chances)
    return found


def true_exposure(world: World, rows: pl.DataFrame) -> Floats:
    """P(item shown in the request | user, date) of rows with user, item and day by number, [n]."""
    settings = world.settings
    made = build_world(settings)
    found = np.full(len(rows), np.nan)
    for (day,), of_day in rows.with_row_index("row").group_by("day", maintain_order=True):
        assert isinstance(day, int)
        items = made.eligible(day)
        place = np.full(settings.n_items, -1)
        place[items] = np.arange(len(items))
        users, user = np.unique(of_day["user"].to_numpy(), return_inverse=True)
        weights = np.exp(policy_scores(made, day, users, items))
        chances = (1 - settings.p_uniform) * weights / weights.sum(axis=1, keepdims=True)
        by_policy = inclusion(chances + settings.p_uniform / len(items), settings.slate_size)
        e = (1 - settings.uniform_requests) * by_policy
        e += settings.uniform_requests * settings.slate_size / len(items)
        at = place[of_day["item"].to_numpy()]
        assert (at >= 0).all()
        found[of_day["row"].to_numpy()] = e[user, at]
    return found


def estimates(world: World) -> pl.DataFrame:
    """The lake's propensities of shown rows, with user, item and day by number, and liking r_ui."""
    with session(world.shop.lake, world.shop.settings.compute) as s:
        s.read("features.impression_propensities")
        rows = pl.DataFrame(
            s.stream(
                "SELECT impression_id, user_id, item_id, position, p_estimated, p_exposed, "
                "is_clipped, estimator, ds FROM features.impression_propensities "
                "ORDER BY ds, impression_id"
            ).read_all()
        )
    users, items = (
        {name: place for place, name in enumerate(ids)}
        for ids in (world.truth.user_ids, world.truth.item_ids)
    )
    return rows.with_columns(
        user=rows["user_id"].replace_strict(users, return_dtype=pl.Int64),
        item=rows["item_id"].replace_strict(items, return_dtype=pl.Int64),
        day=(rows["ds"] - world.settings.start).dt.total_days(),
        liking=pl.Series(world.truth.liking(rows["user_id"], rows["item_id"])),
    )


def known_mean(world: World) -> float:
    """Mean liking of the items that could have been shown, over the slots of the log."""
    liking = world.truth.liking_matrix(world.truth.user_ids)
    by_day = np.stack([liking[:, of_day].mean(axis=1) for of_day in world.eligible])
    rows = estimates(world)
    return float(by_day[rows["day"].to_numpy(), rows["user"].to_numpy()].mean())


def errors(world: World, rows: pl.DataFrame, truth: float) -> dict[str, float]:
    """How far the naive mean, IPS and SNIPS of liking are off, and the effective sample.

    Weights as in sql/queries/exposure_sums.sql: of slots where the estimate is of slots.
    """
    n_eligible = world.eligible.sum(axis=1)[rows["day"].to_numpy()]
    free = n_eligible - rows["position"].to_numpy() + 1
    is_logged = (rows["estimator"] == "logged").to_numpy()
    even = np.where(is_logged, 1 / free, world.settings.slate_size / n_eligible)
    w, liking = even / rows["p_exposed"].to_numpy(), rows["liking"].to_numpy()
    return {
        "naive": float(liking.mean() - truth),
        "ips": float((w * liking).mean() - truth),
        "snips": float((w * liking).sum() / w.sum() - truth),
        "mean_weight": float(w.mean()),
        "ess": float(w.sum() ** 2 / np.square(w).sum() / len(w)),
        "clipped": float(rows["is_clipped"].to_numpy().mean()),
    }
