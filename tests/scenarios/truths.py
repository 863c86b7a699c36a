"""What stated policies would really have earned in a sample shop, from its truth folder."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.estimate.diagnostics import diagnose
from tasks.estimate.examination import examine
from tasks.estimate.log import opened_log
from tasks.estimate.policies import POPULARITY, UNIFORM, Stated, impute, sums_of
from tasks.estimate.propensities import steps
from tasks.estimate.values import Estimator, PolicyValue, Verdict, overlap, policy_values
from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.lake.connection import connect
from tasks.lake.literals import literal
from tasks.lake.session import session
from tasks.sample import ShopSettings, Truth, write_sample
from tasks.sample.settings import DEVICES, EVENT_DIRT
from tasks.sample.world import sigmoid
from tasks.settings import Propensity
from tasks.shop import Shop, name_positives, open_shop, parameters
from tasks.transform import build_increments, build_snapshot
from tests.disk import on_disk

Floats = npt.NDArray[np.float64]
DAILY = (
    "features.traffic_daily",
    "features.popularity_daily",
    "features.feedback_daily",
    "features.exposure_daily",
)
# Many requests of short slates: what the claims need, at a seventh of the rows of the default.
# Events that come days late are left out, for most would never come in so few days, and a click
# that is lost is a reward that no estimator finds.
SMALL = ShopSettings(
    n_days=2,
    n_users=4000,
    n_items=200,
    requests_per_day=8.0,
    slate_size=2,
    n_not_shown=0,
    event_dirt=replace(EVENT_DIRT, late=0.0),
)


@dataclass(frozen=True)
class World:
    """A sample shop whose log is in the lake, and what is true of it."""

    shop: Shop
    ds: date
    truth: Truth
    p_click: Floats  # [n_users, n_items], if examined
    eligible: npt.NDArray[np.bool_]  # [n_days, n_items]
    slots: pl.DataFrame  # request, user, item, position, p_logged, examination, in order
    settings: ShopSettings

    @property
    def n_items(self) -> int:
        """Items of the shop."""
        return len(self.truth.item_ids)

    def value(self, weights: Floats, own: Floats | None = None) -> dict[str, float]:
        """The mean probability of a click per slot, by which slots, had the policy filled them.

        weights: [n_items]; own: [n_users, n_items], added for that user.
        """
        of_user = np.tile(weights, (len(self.p_click), 1)) + (0 if own is None else own)
        clicks = of_user * self.p_click
        all_weight = np.stack([of_user @ day for day in self.eligible])  # [n_days, n_users]
        all_clicks = np.stack([clicks @ day for day in self.eligible])
        user, item, day = (self.slots[name].to_numpy() for name in ("user", "item", "day"))
        there = self.eligible[day, item]
        shown_weight, shown_clicks = of_user[user, item] * there, clicks[user, item] * there
        first = self.slots["is_first"].to_numpy()
        free = all_weight[day, user] - _above(shown_weight, first)
        expected = (all_clicks[day, user] - _above(shown_clicks, first)) / free
        reward = expected * self.slots["p_examined"].to_numpy()
        at_top = self.slots["position"].to_numpy() == 1
        return {
            "all positions": float(reward.mean()),
            "first position": float(reward[at_top].mean()),
        }


@dataclass(frozen=True, eq=False)
class Known:
    """A stated policy, and its weights worked out apart from the SQL that states it."""

    stated: Stated
    weights: Floats  # [n_items]
    own: Floats | None = None  # [n_users, n_items], added for that user


@dataclass(frozen=True)
class Finding:
    """What the log says of one policy and kind of slots, and what is true."""

    policy: str
    slots: str
    truth: float
    values: dict[Estimator, PolicyValue]
    verdict: Verdict

    def error(self, estimator: Estimator) -> float:
        """The estimate less the truth."""
        value = self.values[estimator].value
        assert value is not None
        return value - self.truth

    def is_covered(self, estimator: Estimator) -> bool:
        """Whether the interval of 95 % holds the truth."""
        found = self.values[estimator]
        assert found.lower is not None
        assert found.upper is not None
        return found.lower <= self.truth <= found.upper


def findings(world: World) -> Iterator[Finding]:
    """The estimates of clicks under three policies, beside the truth."""
    policies = known_policies(world)
    with opened_log(world.shop, world.ds) as log:
        impute(log, "click")
        for known in policies:
            truth = world.value(known.weights, known.own)
            for slots, sums in sums_of(log, known.stated, "click").items():
                values = {each.estimator: each for each in policy_values(sums)}
                verdict = overlap(sums).verdict
                yield Finding(known.stated.name, slots, truth[slots], values, verdict)


def known_policies(world: World) -> list[Known]:
    """Uniform, by popularity, and one that gives every user what they like least."""
    dislikes = 1 - world.truth.liking_matrix(world.truth.user_ids)
    contrary = Stated(
        name="contrary",
        states="a free item is as likely as the user would dislike it, plus 0.2",
        item_weights="SELECT DISTINCT item_id, 0.2 AS weight FROM clean.items",
        user_weights=f"FROM read_parquet({literal(str(_written(world, dislikes)))})",
    )
    return [
        Known(UNIFORM, np.ones(world.n_items)),
        Known(POPULARITY, _popularity(world)),
        Known(contrary, np.full(world.n_items, 0.2), dislikes),
    ]


def _written(world: World, own: Floats) -> Path:
    """The file of own weights that a policy is stated by."""
    users, items = world.truth.user_ids, world.truth.item_ids
    path = world.truth.folder.parent / "own_weights.parquet"
    pl.DataFrame(
        {
            "user_id": users.gather(np.repeat(np.arange(len(users)), len(items))),
            "item_id": items.gather(np.tile(np.arange(len(items)), len(users))),
            "weight": own.ravel(),
        }
    ).write_parquet(path)
    return path


def _popularity(world: World) -> Floats:
    """The root of the events of each item, plus one, by a plain count."""
    with session(world.shop.lake, world.shop.settings.compute) as s:
        s.read("clean.events")
        rows = s.rows(
            "SELECT item_id, count(*) FROM clean.events WHERE superseded_at IS NULL GROUP BY 1"
        )
    counts = dict(rows)
    return np.sqrt([1.0 + counts.get(item, 0) for item in world.truth.item_ids])


@dataclass(frozen=True)
class Liking:
    """The mean of the true liking, r_ui, by who is counted."""

    naive: float  # of what was shown
    weighted: float  # of what was shown, weighted by 1 / (p_logged x free items), self-normalised
    uniform: float  # of all items eligible for the same slots


def liking(world: World) -> Liking:
    """What weights make of the liking of shown rows."""
    user, item, day, position = (
        world.slots[name].to_numpy() for name in ("user", "item", "day", "position")
    )
    r = world.truth.liking_matrix(world.truth.user_ids)
    shown = r[user, item]
    n_eligible = world.eligible.sum(axis=1)
    w = 1 / (world.slots["p_logged"].to_numpy() * (n_eligible[day] - position + 1))
    mean = np.stack([r @ of_day for of_day in world.eligible]) / n_eligible[:, None]
    return Liking(
        naive=float(shown.mean()),
        weighted=float((w * shown).sum() / w.sum()),
        uniform=float(mean[day, user].mean()),
    )


def _above(values: Floats, first: npt.NDArray[np.bool_]) -> Floats:
    """The sum over what stands above in the same request."""
    before = np.cumsum(values) - values
    starts = np.flatnonzero(first)
    found: Floats = before - before[starts][np.cumsum(first) - 1]
    return found


def build(settings: ShopSettings, root: Path) -> World:
    """Write a sample shop, ingest it, and build the features that estimates read."""
    write_sample(settings, root)
    shop = open_shop(None, "sample_shop", root / "landing", root / "lake")
    ds, _ = ingest(shop, arrival(shop.landing, shop.mapping, None), "run")
    params = parameters(shop, ds)
    with session(shop.lake, shop.settings.compute) as s:
        name_positives(s, shop)
        for name in DAILY:
            build_increments(s, name, params)
    estimate_propensities(shop, ds)
    truth = Truth.read(root / "truth")
    stock = truth.table("stock").sort("dt", "item_id")
    eligible = stock["eligible"].to_numpy().reshape(settings.n_days, settings.n_items)
    slots = _slots(shop, settings, truth)
    return World(shop, ds, truth, _p_click(truth), eligible, slots, settings)


def estimate_propensities(shop: Shop, ds: date, **settings: Any) -> Shop:
    """Build propensities and examination by these settings of [propensity]; the shop of them."""
    propensity = Propensity.model_validate(settings)
    found = replace(shop, settings=shop.settings.model_copy(update={"propensity": propensity}))
    params, made_by = parameters(found, ds), steps(found)
    with session(found.lake, found.settings.compute) as s:
        for name, step in made_by.items():
            build_increments(s, name, params, step)
        examine(s, params)
        build_snapshot(s, "features.item_propensities", params)
    return found


def told(world: World, **settings: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    """What the night says of its propensities, by weight, measure and what it is about."""
    shop = estimate_propensities(world.shop, world.ds, **settings)
    with opened_log(shop, world.ds) as log:
        diagnose(log)
    rows = shop.lake.rows(shop.lake.pin("train.propensity_diagnostics"), {"ds": world.ds})
    return {(row["weight"], row["measure"], row["about"]): row for row in rows.to_pylist()}


def _p_click(truth: Truth) -> Floats:
    world: Any = truth.world()["settings"]
    users, items = truth.table("users"), truth.table("items")
    style = dict(truth.table("brands").iter_rows())
    of_item = np.array([style[brand] for brand in items["brand"]])
    affinity = users["brand_taste"].to_numpy() @ of_item.T / np.sqrt(of_item.shape[1])
    liking = 2 * truth.p @ truth.q.T / np.sqrt(truth.p.shape[1]) - 1
    logit = (
        world["base_logits"][0]
        + users["habit_click"].to_numpy()[:, None]
        + items["mix_click"].to_numpy()[None, :]
        + world["taste_weights"][0] * liking
        + world["w_brand"] * affinity
    )
    return sigmoid(logit)


def _slots(shop: Shop, settings: ShopSettings, truth: Truth) -> pl.DataFrame:
    """The slots of the log that the estimates use, with the examination of their device."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("features.feedback_daily")
        rows = pl.DataFrame(
            s.stream(
                "SELECT request_id, user_id, item_id, position, p_logged, ds "
                "FROM features.feedback_daily WHERE p_logged IS NOT NULL "
                "ORDER BY ds, request_id, position"
            ).read_all()
        )
    rows = rows.join(
        _devices(on_disk(shop.landing)), on="request_id", how="left", maintain_order="left"
    )
    rows = rows.join(
        truth.table("examination"), on=["position", "device"], how="left", maintain_order="left"
    )
    users, items = (
        {name: place for place, name in enumerate(ids)} for ids in (truth.user_ids, truth.item_ids)
    )
    return rows.with_columns(
        user=rows["user_id"].replace_strict(users, return_dtype=pl.Int64),
        item=rows["item_id"].replace_strict(items, return_dtype=pl.Int64),
        day=(rows["ds"] - settings.start).dt.total_days(),
        is_first=rows["request_id"] != rows["request_id"].shift(1, fill_value=""),
    )


def _devices(landing: Path) -> pl.DataFrame:
    """The device of each request, which only the raw lines have."""
    lines = literal(str(landing / "impressions/*/*.gz"))
    with connect() as con:
        found = con.sql(
            f"SELECT DISTINCT request_id, device FROM read_json({lines}, ignore_errors = true, "
            "format = 'newline_delimited', "
            "columns = {request_id: 'VARCHAR', device: 'VARCHAR'}) "
            f"WHERE device IN ({', '.join(map(literal, DEVICES))})"
        )
        return pl.DataFrame(found.to_arrow_table())
