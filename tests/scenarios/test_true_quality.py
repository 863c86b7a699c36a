"""Ranking quality against the sample shop's truth: what lists find, had exposure been even."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tasks.estimate.quality import Quality
from tasks.estimate.ranking import Found, of_pairs
from tasks.lake.session import session
from tasks.sample import ShopSettings
from tasks.shop import name_positives, parameters
from tasks.train.arrays import Interactions, build_interactions, item_mask, pairs_to_csr
from tasks.train.csr import Csr
from tasks.train.measuring import KS, Case, measure
from tasks.transform import build_increments, build_snapshot
from tests.scenarios.truths import Floats, World, build

K = max(KS)
N_NUMBERS = 1800  # of items; those above the catalogue's are dirt
Key = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class Split:
    """A world whose days are split at the cut."""

    world: World
    data: Interactions  # up to the cut
    relevant: Csr  # new pairs after it
    allowed: npt.NDArray[np.bool_]  # [n_items]
    work: Path

    @property
    def users(self) -> npt.NDArray[np.int64]:
        """The number in the truth of each user of the data."""
        return np.array([int(name[1:]) for name in self.data.users.to_pylist()])

    @property
    def items(self) -> npt.NDArray[np.int64]:
        return np.array([int(name[1:]) for name in self.data.items.to_pylist()])

    @property
    def is_new(self) -> npt.NDArray[np.bool_]:
        """[n_users, n_items] of the data."""
        found = np.ones((self.data.n_users, self.data.n_items), dtype=np.bool_)
        found[self.data.csr().rows(), self.data.indices] = False
        return found

    def best(self, scores: Floats) -> Any:
        """The lists of the highest scores [n_users, n_items], of items that are new and allowed."""
        scores = np.where(self.is_new & self.allowed, scores, -np.inf)
        return np.argsort(-scores, axis=1, kind="stable")[:, :K].astype(np.int32)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    settings = ShopSettings(n_days=10, uniform_requests=0.15, seed=6)
    root = tmp_path_factory.mktemp("world")
    return split_at_cut(build(settings, root), root / "work")


def split_at_cut(world: World, work: Path) -> Split:
    shop, params = world.shop, parameters(world.shop, world.ds)
    with session(shop.lake, shop.settings.compute) as s:
        name_positives(s, shop)
        build_increments(s, "features.behaviours_daily", params)
        for name in ("train.examples", "train.holdout", "serve.eligible_items"):
            build_snapshot(s, name, params)
        for name in ("train.examples", "train.holdout", "serve.eligible_items"):
            s.read(name)
        positives = s.stream("SELECT user_id, item_id, weight FROM train.examples")
        data = build_interactions(positives, work / "a")
        new = s.stream("SELECT user_id, item_id FROM train.holdout WHERE is_new")
        relevant = pairs_to_csr(new, data.users, data.items, work / "b")
        eligible = s.stream("SELECT item_id FROM serve.eligible_items").read_all().column(0)
    return Split(world, data, relevant, item_mask(eligible.combine_chunks(), data.items), work)


def lists_of(split: Split, name: str) -> Any:
    if name == "popular":
        counts = np.bincount(split.data.indices, minlength=split.data.n_items).astype(float)
        return split.best(np.tile(counts, (split.data.n_users, 1)))
    return split.best(wide(split.world.p_click)[np.ix_(split.users, split.items)])


def measured(split: Split, lists: Any) -> list[Quality]:
    shop = split.world.shop
    rows = np.flatnonzero(split.relevant.sizes())
    with session(shop.lake, shop.settings.compute) as s:
        for name in ("train.examples", "train.holdout", "serve.eligible_items"):
            s.read(name)
        case = Case(split.data, split.relevant, lists[rows])
        return measure(s, shop, split.world.ds, case, split.work / "c")


def of_all_pairs(qualities: list[Quality]) -> Mapping[Key, Quality]:
    return {
        (each.evaluation, each.metric, each.k): each
        for each in qualities
        if each.segment_kind == "all" and each.average == "pairs"
    }


def truth(split: Split, lists: Any) -> dict[tuple[str, int], float]:
    """What a positive impression finds on average, had free items filled each slot evenly."""
    world, params = split.world, parameters(split.world.shop, split.world.ds)
    n_users, n_items = wide(world.p_click).shape
    slots = world.slots.filter(world.slots["ds"] > params["cut"])
    known = np.zeros((n_users, n_items))
    known[np.ix_(split.users, split.items)] = split.is_new
    p_click = wide(world.p_click) * known
    rank = np.zeros((n_users, n_items), dtype=np.int32)
    at = (np.repeat(split.users, K), split.items[lists].ravel())
    rank[at] = np.tile(np.arange(1, K + 1), len(lists))
    gains = {}
    for k in KS:
        for metric, values in of_pairs(Found(np.arange(rank.size), rank.ravel()), k).items():
            gains[metric, k] = values.reshape(rank.shape)
    total = expected(world, slots, p_click)
    return {key: expected(world, slots, p_click * gain) / total for key, gain in gains.items()}


def wide(of_items: Any) -> Any:
    """With columns for the items that no catalogue knows: nothing happens to them."""
    return np.pad(of_items, ((0, 0), (0, N_NUMBERS - of_items.shape[1])))


def expected(world: World, slots: Any, values: Floats) -> float:
    """The sum over slots of what its free items are worth, times its chance to be looked at."""
    user, item, day = (slots[name].to_numpy() for name in ("user", "item", "day"))
    eligible = wide(world.eligible)
    of_day = np.stack([values @ each for each in eligible])  # [n_days, n_users]
    shown = values[user, item] * eligible[day, item]
    before = np.cumsum(shown) - shown
    starts = np.flatnonzero(slots["is_first"].to_numpy())
    above = before - before[starts][np.cumsum(slots["is_first"].to_numpy()) - 1]
    return float(((of_day[day, user] - above) * slots["p_examined"].to_numpy()).sum())


@pytest.fixture(scope="module", params=["popular", "liked"])
def case(request: pytest.FixtureRequest, split: Split) -> tuple[Mapping[Key, Quality], Any]:
    """What is measured of two sets of lists, and what is true of them."""
    lists = lists_of(split, request.param)
    found, true = of_all_pairs(measured(split, lists)), truth(split, lists)
    for reading in ("time split", "random slice", "snips"):
        each = found[reading, "recall", K]
        print(
            f"\n{request.param}: true {true['recall', K]:.4f}, {reading} {each.value:.4f} ", end=""
        )
        print(f"({each.se:.4f}; {each.n_pairs} pairs, {each.ess:.0f} effective)", end="")
    return found, true


def test_snips_and_the_random_slice_find_what_even_exposure_would_have(case: Any) -> None:
    found, true = case
    assert len(true) == 3 * len(KS)
    for (metric, k), value in true.items():
        for reading in ("snips", "random slice"):
            each = found[reading, metric, k]
            assert abs(each.value - value) < 3 * each.se, (reading, metric, k)
    each = found["snips", "recall", K]
    assert each.lower < true["recall", K] < each.upper
    assert each.se < 0.2 * each.value


def test_the_time_split_flatters_lists_that_are_shown_anyway(case: Any) -> None:
    found, true = case
    for (metric, k), value in true.items():
        each = found["time split", metric, k]
        assert each.value > 1.4 * value, (metric, k)
        assert each.lower > value


def test_the_random_slice_and_snips_agree(case: Any) -> None:
    found, true = case
    for metric, k in true:
        one, other = (found[reading, metric, k] for reading in ("random slice", "snips"))
        assert abs(one.value - other.value) < 3 * np.hypot(one.se, other.se), (metric, k)


def test_every_number_is_a_number_and_its_segments_are_large(split: Split) -> None:
    rows = measured(split, lists_of(split, "liked"))
    assert all(np.isfinite([each.value, each.ess]).all() for each in rows)
    kinds = {each.segment_kind for each in rows}
    assert kinds == {"all", "age_band", "country", "activity", "popularity"}
    assert min(each.n_users for each in rows if each.segment_kind != "all") >= 30
    by_key = {(e.evaluation, e.average, e.metric, e.segment_kind, e.segment, e.k) for e in rows}
    assert len(by_key) == len(rows)
