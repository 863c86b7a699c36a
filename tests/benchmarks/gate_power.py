"""How often the gate holds a release, by how much better or worse its lists truly are.

Nights of default sample shops. What is served, and the candidate, are lists of 20 items a user
whose true values are known: the candidate has half of each list changed for items that are liked
less or more, by as much as makes its true value after the cut what it shall be. Both are laid down
as trial lists, compared as a night compares them, and judged by the gate of the default settings.

Writes results/gate_power.json, one world at a time, so that it goes on where it was stopped.
python -m tests.benchmarks.gate_power [worlds]
"""

import json
import sys
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
from tasks.sample import ShopSettings
from tasks.serve.gate import Facts, verdicts
from tasks.settings import Settings
from tests.scenarios.truths import World, build

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RESULTS = Path(__file__).parent / "results" / "gate_power.json"
CHANGES = (-0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2)  # of true value
WORLDS = 60
FIRST_SEED = 1_000
NIGHTS = (13, 20)  # days of a world whose night is judged: their holdouts do not overlap
K, SWAPPED = 20, 10  # items of a list, and how many of them the candidate has otherwise
MUCH_BETTER = 0.1  # more than this takes lists of which every item is another
CLOSE = 0.002  # to the true change that is aimed at
NOISE = 0.9  # standard deviation of what the served lists get wrong, in log liking
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


def served_lists(world: World, seed: int) -> Ints:
    """The K items that a good but noisy model likes best, [n_users, K]."""
    noise = NOISE * np.random.default_rng(seed).normal(size=world.p_click.shape)
    return np.argsort(-(np.log(world.p_click) + noise), axis=1)[:, :K]


def candidate(night: Night, lists: Ints, change: float, seed: int) -> Ints:
    """Lists with SWAPPED items changed, of a true value `change` away from that of `lists`."""
    base, p_click = night.value(lists), night.world.p_click
    n_swapped = K if change > MUCH_BETTER else SWAPPED
    aim = change * K / n_swapped
    for _ in range(5):  # the value is nearly linear in what is aimed at
        made = _swapped(p_click, lists, 1 + aim, n_swapped, seed)
        missed = change - (night.value(made) / base - 1)
        if abs(missed) < CLOSE:
            break
        aim += missed * K / n_swapped
    return made


def _swapped(p_click: Floats, lists: Ints, factor: float, n_swapped: int, seed: int) -> Ints:
    """The lists with the same places of each changed for items `factor` as much liked."""
    rng = np.random.default_rng(seed)
    places = rng.permuted(np.tile(np.arange(K), (len(lists), 1)), axis=1)[:, :n_swapped]
    rows = np.arange(len(lists))
    free = np.ones_like(p_click, dtype=bool)
    np.put_along_axis(free, lists, False, axis=1)
    # A little noise, so that not every user gets the very nearest.
    near = p_click * rng.uniform(0.9, 1.1, p_click.shape)
    made = lists.copy()
    for place in places.T:
        wanted = p_click[rows, lists[rows, place]] * factor
        distance = np.where(free, np.abs(near - wanted[:, None]), np.inf)
        chosen = distance.argmin(axis=1)
        made[rows, place] = chosen
        free[rows, chosen] = False
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
    lists = served_lists(night.world, seed)
    champion, base = lay_down(night, f"{night.ds}-served", lists), night.value(lists)
    for change in CHANGES:
        made = candidate(night, lists, change, seed + 1)
        challenger = lay_down(night, f"{night.ds}-candidate", made)
        with opened_log(night.world.shop, night.ds) as log:
            rows = list(compared(log, challenger, champion))
        found = verdicts(night.world.shop.settings, FACTS, FACTS, rows)
        held = [each.rule for each in found if each.verdict == "hold"]
        value = next(each for each in found if each.rule == "value")
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
                "true change": change,
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


def main() -> None:
    """Judge the nights of the worlds that are missing, and write the curve."""
    n_worlds = int(sys.argv[1]) if len(sys.argv) > 1 else WORLDS
    rows = json.loads(RESULTS.read_text())["nights"] if RESULTS.exists() else []
    for seed in range(FIRST_SEED, FIRST_SEED + n_worlds):
        if seed in {row["seed"] for row in rows}:
            continue
        with tempfile.TemporaryDirectory() as root:
            world = build(ShopSettings(seed=seed), Path(root))
            rows += [row for night in nights(world) for row in judged(night, seed)]
        curve = summary(rows)
        gate = Settings().gate.model_dump()
        RESULTS.write_text(json.dumps({"gate": gate, "curve": curve, "nights": rows}) + "\n")
        print(f"world {seed - FIRST_SEED + 1} of {n_worlds}", flush=True)
    for row in curve:
        print(row)


if __name__ == "__main__":
    main()
