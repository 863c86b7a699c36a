"""What really happened, and how much every user likes every item.

Nothing of the nightly pipeline may read this folder; evaluations get it as an argument.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from tasks.errors import SourceError
from tasks.sample import rows
from tasks.sample.behaviour import examination
from tasks.sample.causes import Causes
from tasks.sample.settings import BEHAVIOURS, DEVICES
from tasks.sample.world import (
    ITEM_KINDS,
    SHOPPER_KINDS,
    Bools,
    Floats,
    Ints,
    World,
    liking_logit,
    sigmoid,
)

RELEVANT_SHARE = 0.05  # of the items given, per user
MARKER = "world.json"  # written last: without it the folder is unfinished

DayCounts = list[dict[str, int]]
DirtCounts = dict[str, Counter[tuple[str, int]]]


@dataclass(frozen=True)
class Truth:
    """The tastes of a finished sample; ids as in `landing/`."""

    folder: Path
    user_ids: pl.Series
    item_ids: pl.Series
    p: Floats  # [n_users, d_taste]
    q: Floats  # [n_items, d_taste]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open a truth folder; refuses an unfinished one."""
        if not (folder / MARKER).is_file():
            raise SourceError(
                "this is not the truth folder of a finished sample shop",
                where=str(folder),
                unchanged="nothing was read",
                fix="write the sample first, then name its truth folder",
            )
        users = pl.read_parquet(folder / "users.parquet", columns=["user_id", "taste"])
        items = pl.read_parquet(folder / "items.parquet", columns=["item_id", "taste"])
        p, q = users["taste"].to_numpy(), items["taste"].to_numpy()
        return cls(folder, users["user_id"], items["item_id"], p, q)

    def table(self, name: str) -> pl.DataFrame:
        """A table of the folder, such as items, stock, promotions, daily or dirt."""
        return pl.read_parquet(self.folder / f"{name}.parquet")

    def world(self) -> dict[str, object]:
        """Settings, seed and counts."""
        facts: dict[str, object] = json.loads((self.folder / MARKER).read_text())
        return facts

    def liking(
        self, user_ids: Sequence[str] | pl.Series, item_ids: Sequence[str] | pl.Series
    ) -> Floats:
        """r_ui of pairs, in (0, 1); [n], [n] -> [n]."""
        p = self.p[_places(self.user_ids, user_ids)]
        return sigmoid(liking_logit(p, self.q[_places(self.item_ids, item_ids)]))

    def liking_matrix(
        self,
        user_ids: Sequence[str] | pl.Series,
        item_ids: Sequence[str] | pl.Series | None = None,
    ) -> Floats:
        """r_ui of each user with each item (all by default); [n_users, n_items]."""
        p = self.p[_places(self.user_ids, user_ids)]
        q = self.q if item_ids is None else self.q[_places(self.item_ids, item_ids)]
        return sigmoid(2 * np.einsum("ud,id->ui", p, q) / np.sqrt(p.shape[1]) - 1)

    def relevant(
        self,
        user_ids: Sequence[str] | pl.Series,
        item_ids: Sequence[str] | pl.Series | None = None,
    ) -> Bools:
        """Whether an item is in the user's best 5 % of those given; [n_users, n_items]."""
        liking = self.liking_matrix(user_ids, item_ids)
        n_best = max(1, round(RELEVANT_SHARE * liking.shape[1]))
        best = np.argsort(-liking, axis=1, kind="stable")[:, :n_best]
        is_relevant = np.zeros(liking.shape, dtype=np.bool_)
        np.put_along_axis(is_relevant, best, True, axis=1)
        return is_relevant


def write_truth(
    world: World, folder: Path, days: DayCounts, dirt: DirtCounts, chunks: Sequence[Causes]
) -> None:
    """Write every table of the folder; the marker is not ours to write."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "users": _users(world),
        "items": _items(world),
        "stock": _stock(world),
        "brands": _brands(world),
        "promotions": _promotions(world),
        "types": _types(world),
        "examination": _examination(world),
        "dirt": _dirt(world, dirt),
        "intended": pl.concat([table for chunk in chunks for table in chunk.intended]),
        "browsed": pl.concat([table for chunk in chunks for table in chunk.browsed]),
        "daily": pl.DataFrame({"dt": world.settings.days}).hstack(pl.DataFrame(days)),
    }
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")


def _places(known: pl.Series, wanted: Sequence[str] | pl.Series) -> Ints:
    """Rows of these ids; ids are sorted."""
    wanted = pl.Series(wanted, dtype=pl.String)
    places = known.search_sorted(wanted).to_numpy().astype(np.int64)
    inside = np.minimum(places, len(known) - 1)
    if (unknown := known.gather(inside).ne_missing(wanted)).any():
        raise KeyError(f"the sample shop has no {wanted.filter(unknown)[0]!r}")
    return places


def _users(world: World) -> pl.DataFrame:
    users = world.users
    return rows.registered(world).with_columns(
        persona=pl.Series(users.persona),
        shopper=pl.Series(SHOPPER_KINDS).gather(users.shopper),
        usual_device=pl.Series(DEVICES).gather(users.device),
        activity=pl.Series(users.activity),
        log_budget=pl.Series(users.log_budget),
        taste=pl.Series(users.taste),
        believed_taste=pl.Series(users.believed),
        brand_taste=pl.Series(users.brand_taste),
        **{f"habit_{k}": pl.Series(users.habit[:, nth]) for nth, k in enumerate(BEHAVIOURS)},
    )


def _items(world: World) -> pl.DataFrame:
    items = world.items
    return rows.catalogue(world).with_columns(
        kind=pl.Series(ITEM_KINDS).gather(items.kind),
        arrival_day=pl.Series(items.arrival),
        log_popularity=pl.Series(items.log_popularity),
        taste=pl.Series(items.taste),
        **{f"mix_{k}": pl.Series(items.mix[:, nth]) for nth, k in enumerate(BEHAVIOURS)},
    )


def _stock(world: World) -> pl.DataFrame:
    """In stock or not, per day and item; also eligible: in stock and arrived."""
    n_days, n_items = world.items.in_stock.shape
    arrived = world.items.arrival <= np.arange(n_days)[:, None]
    item_id = rows.catalogue(world)["item_id"]
    return pl.DataFrame(
        {
            "dt": pl.Series(world.settings.days).gather(np.repeat(np.arange(n_days), n_items)),
            "item_id": item_id.gather(np.tile(np.arange(n_items), n_days)),
            "in_stock": world.items.in_stock.ravel(),
            "eligible": (world.items.in_stock & arrived).ravel(),
        }
    )


def _brands(world: World) -> pl.DataFrame:
    names = [f"b{n:02d}" for n in range(world.settings.n_brands)]
    return pl.DataFrame({"brand": names, "style": world.brands.style})


def _promotions(world: World) -> pl.DataFrame:
    n_days, n_brands = world.brands.promo.shape
    names = pl.Series([f"b{n:02d}" for n in range(n_brands)])
    return pl.DataFrame(
        {
            "dt": pl.Series(world.settings.days).gather(np.repeat(np.arange(n_days), n_brands)),
            "brand": names.gather(np.tile(np.arange(n_brands), n_days)),
            "promo": world.brands.promo.ravel(),
        }
    )


def _types(world: World) -> pl.DataFrame:
    types = world.types
    return pl.DataFrame(
        {
            "product_type": [f"t{n:02d}" for n in range(world.settings.n_types)],
            "category": [f"c{n:02d}" for n in types.category],
            "succ": [f"t{n:02d}" for n in types.succ],
            "taste": types.taste,
            "log_price": types.log_price,
        }
    )


def _examination(world: World) -> pl.DataFrame:
    theta = examination(world.settings)
    n_positions, n_devices = theta.shape
    return pl.DataFrame(
        {
            "position": np.repeat(np.arange(1, n_positions + 1), n_devices),
            "device": list(DEVICES) * n_positions,
            "p_examined": theta.ravel(),
        }
    )


def _dirt(world: World, dirt: DirtCounts) -> pl.DataFrame:
    """Rows per kind, dataset and delivery day; the undelivered by the day they occurred."""
    days = world.settings.days
    counts = [
        (kind, dataset, days[day], n)
        for dataset, counter in dirt.items()
        for (kind, day), n in sorted(counter.items())
    ]
    return pl.DataFrame(counts, schema=["kind", "dataset", "dt", "n"], orient="row")
