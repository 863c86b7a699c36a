"""What stated policies would really have earned in a sample shop, from its truth folder."""

import gzip
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.lake.session import session
from tasks.sample import ShopSettings, Truth, write_sample
from tasks.sample.settings import DEVICES
from tasks.sample.world import sigmoid
from tasks.shop import Shop, name_positives, open_shop, parameters
from tasks.transform import build_increments, build_snapshot

Floats = npt.NDArray[np.float64]
DAILY = ("features.traffic_daily", "features.popularity_daily", "features.feedback_daily")


@dataclass(frozen=True)
class World:
    """A sample shop whose log is in the lake, and what is true of it."""

    shop: Shop
    ds: date
    truth: Truth
    p_click: Floats  # [n_users, n_items], if examined
    eligible: npt.NDArray[np.bool_]  # [n_days, n_items]
    slots: pl.DataFrame  # request, user, item, position, examination, in order

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
        build_snapshot(s, "features.item_propensities", params)
    truth = Truth.read(root / "truth")
    stock = truth.table("stock").sort("dt", "item_id")
    eligible = stock["eligible"].to_numpy().reshape(settings.n_days, settings.n_items)
    return World(shop, ds, truth, _p_click(truth), eligible, _slots(shop, settings, truth))


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
                "SELECT request_id, user_id, item_id, position, ds FROM features.feedback_daily "
                "WHERE p_logged IS NOT NULL ORDER BY ds, request_id, position"
            ).read_all()
        )
    rows = rows.join(_devices(shop.landing), on="request_id", how="left", maintain_order="left")
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
    found: dict[str, str] = {}
    for path in sorted((landing / "impressions").rglob("*.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row.get("device") in DEVICES:
                found[row["request_id"]] = row["device"]
    return pl.DataFrame({"request_id": list(found), "device": list(found.values())})
