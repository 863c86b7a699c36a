"""How often the gate holds a release, by how much better or worse its lists truly are.

Nights of default sample shops. What is served are the trial lists of BPR, trained as a night trains
it. A candidate has half of each list changed for items that the same model ranks 21st to 100th (as
real lists of two nights differ by half): for those that are truly liked less or more, by as much as
makes the true value of the lists after the cut what it shall be. Both are laid down as trial lists,
compared as a night compares them, and judged by the gate of the default settings.

Writes results/gate_power.json, one world at a time, so that it goes on where it was stopped.
python -m tests.benchmarks.gate_power [worlds]; --quick judges the nights of the first world anew,
tells them beside what is in the file, and writes nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.estimate.comparison import Lists, compared
from tasks.estimate.log import opened_log
from tasks.lake.session import session
from tasks.sample import ShopSettings
from tasks.serve.gate import Facts, verdicts
from tasks.serve.release import build_rules
from tasks.settings import Settings
from tasks.shop import Shop, name_positives, parameters
from tasks.train.night import train_model
from tasks.transform import build_increments, build_snapshot
from tests.benchmarks import origins
from tests.scenarios.truths import World, build

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RESULTS = Path(__file__).parent / "results" / "gate_power.json"
CHANGES = (-0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2)  # of true value
WORLDS = 50
FIRST_SEED = 1_000
NIGHTS = (13, 20)  # days of a world whose night is judged: their holdouts do not overlap
K, SWAPPED = 20, 10  # items of a list, and how many of them the candidate has otherwise
MUCH_BETTER = 0.1  # more than this takes lists of which every item is another
CLOSE = 0.002  # to the true change that is aimed at
N_RANKED = 100
FACTS = Facts(n_users=2_000, n_rows=40_000, n_items=700, top_item_share=0.3)  # the same for both


@dataclass(frozen=True)
class Night:
    """A world on one of its days: only slots after the cut count."""

    world: World
    ds: date
    cut: date

    def value(self, lists: Ints) -> float:
        """The true mean reward per slot of lists [n_users, K] of item positions."""
        own = np.zeros_like(self.world.p_click)
        np.put_along_axis(own, lists, 1.0, axis=1)
        found = self.world.value(np.zeros(self.world.n_items), own)
        return found["all positions"]


def nights(world: World) -> Iterator[Night]:
    """The nights of a world that are judged."""
    start = world.ds - timedelta(days=max(NIGHTS))
    n_days = world.shop.mapping.behaviours.holdout_days
    for number in NIGHTS:
        after = pl.col("day").is_between(number - n_days + 1, number)
        seen = replace(world, slots=world.slots.filter(after))
        ds = start + timedelta(days=number)
        yield Night(seen, ds, ds - timedelta(days=n_days))


def ranked(night: Night) -> Ints:
    """What BPR would have listed of N_RANKED items, trained up to the cut, [n_users, N_RANKED]."""
    shop, ds = _with_long_lists(night.world.shop), night.ds
    params = parameters(shop, ds)
    with session(shop.lake, shop.settings.compute) as s:
        name_positives(s, shop)
        build_increments(s, "features.behaviours_daily", params)
        for name in ("features.item_propensities", "train.examples", "train.holdout"):
            build_snapshot(s, name, params)
    build_rules(shop, ds)
    for model in ("popularity", "bpr"):
        train_model(shop, ds, f"{ds}-ranked", model, lambda *_: None)
    return _read(shop, ds, night.world)


def _with_long_lists(shop: Shop) -> Shop:
    publish = shop.settings.publish.model_copy(update={"k": N_RANKED})
    return replace(shop, settings=shop.settings.model_copy(update={"publish": publish}))


def _read(shop: Shop, ds: date, world: World) -> Ints:
    """The lists by position; who has none, because nothing came of them after the cut, the last."""
    with session(shop.lake, shop.settings.compute) as s:
        s.read("serve.trials", since=ds, upto=ds)
        rows = pl.DataFrame(
            s.stream(
                "SELECT user_id, item_id FROM serve.trials WHERE model = 'bpr' "
                f"AND release_id = '{ds}-ranked' ORDER BY user_id, rank"
            ).read_all()
        )
    users, items = (
        {name: place for place, name in enumerate(ids)}
        for ids in (world.truth.user_ids, world.truth.item_ids)
    )
    user = rows["user_id"].replace_strict(users, return_dtype=pl.Int64).to_numpy()
    item = rows["item_id"].replace_strict(items, return_dtype=pl.Int64).to_numpy()
    found = np.tile(item[-N_RANKED:], (len(users), 1))
    found[user.reshape(-1, N_RANKED)[:, 0]] = item.reshape(-1, N_RANKED)
    return found


def candidate(night: Night, found: Ints, change: float, seed: int) -> Ints:
    """Lists with SWAPPED items changed, of a true value `change` away from that of the first K."""
    base, p_click = night.value(found[:, :K]), night.world.p_click
    n_swapped = K if change > MUCH_BETTER else SWAPPED
    aim = change * K / n_swapped
    for _ in range(6):  # the value is nearly linear in what is aimed at
        made = _swapped(p_click, found, 1 + aim, n_swapped, seed)
        missed = change - (night.value(made) / base - 1)
        if abs(missed) < CLOSE:
            break
        aim += missed * K / n_swapped
    return made


def _swapped(p_click: Floats, found: Ints, factor: float, n_swapped: int, seed: int) -> Ints:
    """The first K with the same places of each changed for later items `factor` as much liked."""
    rng = np.random.default_rng(seed)
    places = rng.permuted(np.tile(np.arange(K), (len(found), 1)), axis=1)[:, :n_swapped]
    rows = np.arange(len(found))
    made, pool = found[:, :K].copy(), found[:, K:]
    # A little noise, so that not every user gets the very nearest.
    near = np.take_along_axis(p_click, pool, axis=1) * rng.uniform(0.9, 1.1, pool.shape)
    for place in places.T:
        wanted = p_click[rows, made[rows, place]] * factor
        chosen = np.abs(near - wanted[:, None]).argmin(axis=1)
        made[rows, place] = pool[rows, chosen]
        near[rows, chosen] = np.inf
    return made


def lay_down(night: Night, release: str, lists: Ints) -> Lists:
    """Write lists as the trial lists of a release."""
    world = night.world
    users = np.repeat(np.array(world.truth.user_ids), K)
    items = np.array(world.truth.item_ids)[lists.ravel()]
    n = len(users)
    schema = world.shop.lake.schema("serve.trials")
    columns = {
        "user_id": users,
        "item_id": items,
        "rank": np.tile(np.arange(1, K + 1, dtype=np.int32), len(lists)),
        "score": np.zeros(n),
        "cut": pa.repeat(pa.scalar(night.cut), n),
        "ds": pa.repeat(pa.scalar(night.ds), n),
        "release_id": pa.repeat(pa.scalar(release), n),
        "model": pa.repeat(pa.scalar("bpr"), n),
    }
    table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    where = {"ds": night.ds, "release_id": release, "model": "bpr"}
    world.shop.lake.rewrite("serve.trials", where, lambda _: table)  # type: ignore[arg-type]
    return Lists(release, night.ds, "bpr")


def judged(night: Night, seed: int) -> Iterator[dict[str, Any]]:
    """One row per candidate: its true change, what was estimated, and what the gate says."""
    found = ranked(night)
    lists = found[:, :K]
    champion, base = lay_down(night, f"{night.ds}-served", lists), night.value(lists)
    for change in CHANGES:
        made = candidate(night, found, change, seed + 1)
        challenger = lay_down(night, f"{night.ds}-candidate", made)
        with opened_log(night.world.shop, night.ds) as log:
            rows = list(compared(log, challenger, champion))
        judgements = verdicts(night.world.shop.settings, FACTS, FACTS, rows)
        held = [each.rule for each in judgements if each.verdict == "hold"]
        value = next(each for each in judgements if each.rule == "value")
        yield {
            "seed": seed,
            "ds": str(night.ds),
            "aimed": change,
            "true": round(night.value(made) / base - 1, 5),
            "value": value.verdict,
            "held_by": held,
            "estimates": {
                row["estimator"]: [_rounded(row["change"]), _rounded(row["se"])]
                for row in rows
                if row["segment_kind"] == "all"
            },
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often each candidate was held, and by the rule of the value."""
    found = []
    for change in CHANGES:
        of_change = [row for row in rows if row["aimed"] == change]
        estimates = np.array([row["estimates"]["dr"] for row in of_change])
        found.append(
            {
                "aimed at": change,
                "mean true change": round(float(np.mean([row["true"] for row in of_change])), 4),
                "n_nights": len(of_change),
                "held": round(float(np.mean([bool(row["held_by"]) for row in of_change])), 4),
                "held by value": round(
                    float(np.mean(["value" in row["held_by"] for row in of_change])), 4
                ),
                "not judged": round(
                    float(np.mean([row["value"] == "not judged" for row in of_change])), 4
                ),
                "mean estimate": round(float(estimates[:, 0].mean()), 4),
                "mean se": round(float(estimates[:, 1].mean()), 4),
                "sd of estimates": round(float(estimates[:, 0].std()), 4),
            }
        )
    return found


def of_seed(seed: int) -> list[dict[str, Any]]:
    """The judged nights of one world."""
    with tempfile.TemporaryDirectory() as root:
        world = build(ShopSettings(seed=seed), Path(root))
        return [row for night in nights(world) for row in judged(night, seed)]


def main() -> None:
    """Judge the nights of the worlds that are missing, and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("worlds", type=int, nargs="?", default=WORLDS)
    parser.add_argument("--quick", action="store_true", help="one world, anew; not written")
    asked = parser.parse_args()
    n_worlds = asked.worlds
    rows = json.loads(RESULTS.read_text())["nights"] if RESULTS.exists() else []
    if asked.quick:
        print("now:", *summary(of_seed(FIRST_SEED)), sep="\n")
        if known := [row for row in rows if row["seed"] == FIRST_SEED]:
            print("in the file:", *summary(known), sep="\n")
        return
    for seed in range(FIRST_SEED, FIRST_SEED + n_worlds):
        if seed in {row["seed"] for row in rows}:
            continue
        rows += of_seed(seed)
        curve = summary(rows)
        gate = Settings().gate.model_dump()
        origins.keep(RESULTS, json.dumps({"gate": gate, "curve": curve, "nights": rows}) + "\n")
        origins.note("gate_power")
        print(f"world {seed - FIRST_SEED + 1} of {n_worlds}", flush=True)
    for row in summary(rows):
        print(row)


if __name__ == "__main__":
    main()
