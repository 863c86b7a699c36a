"""One night of a backfill, as a plain function: made in a folder of its own, its release crosses.

The stages are those of every night, in the same order, and give the same rows from the same
inputs. Nothing is ingested, and whether the release becomes that of its date is decided when all
nights of the plan are made (tasks/backfill/judging.py).
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from tasks import steps
from tasks.backfill.apart import apart, derive, found
from tasks.backfill.crossing import RELEASE, cross_over, facts_of
from tasks.backfill.plan import Plan, slot_folder
from tasks.measure import measured
from tasks.memory import give_back, share_one_heap
from tasks.night import Night
from tasks.serve.release import release_id
from tasks.shop import Shop


@dataclass(frozen=True)
class Made:
    """What a night made, and what it cost."""

    release_id: str
    model: str
    n_users: int
    n_rows: int
    n_items: int
    n_bytes: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    untrained: tuple[str, ...] = ()


def run_night(shop: Shop, plan: Plan, ds: date, slot: int, run_id: str) -> Made:
    """Make the release of `ds` in the folder of a slot and bring it into the lake.

    `shop` is that of the plan (`with_models`). Safe to be killed and run again. Raises what a night
    raises; nothing has crossed over then.
    """
    share_one_heap()
    with measured() as cost:
        night = _through(_begin(shop, plan, ds, slot, run_id))
        assert night.release is not None
        assert night.model is not None
        written = cross_over(night.shop, shop.lake, ds, night.release, RELEASE)
        facts = facts_of(shop.lake, shop.settings.compute, night.release)
    give_back()
    return Made(
        release_id=night.release,
        model=night.model,
        n_users=facts.n_users,
        n_rows=facts.n_rows,
        n_items=facts.n_items,
        n_bytes=sum(each.bytes for each in written),
        seconds=round(cost.seconds, 3),
        cpu_seconds=round(cost.cpu_seconds, 3),
        peak_mb=_peak(night),
        untrained=night.left_out,
    )


def _begin(shop: Shop, plan: Plan, ds: date, slot: int, run_id: str) -> Night:
    folder = slot_folder(shop.lake, plan, slot)
    started_at = datetime.now(UTC)
    derive(shop, plan.pins, plan.as_of, ds, folder)
    there = apart(shop, plan.pins, plan.as_of, ds, folder)
    release = release_id(there, ds)
    return Night(there, run_id, started_at, found(there, ds), ds, release)


def _through(night: Night) -> Night:
    night = steps.check(night, "clean")
    night = steps.build_features(night)
    night = steps.check(night, "features")
    night = steps.estimate(night)
    for model in night.shop.settings.train.models:
        night = steps.train_or_skip(night, model)
    for trained in night.trained:
        night = steps.score_or_skip(night, trained.model)
    night = steps.make_release(night)
    return steps.check(night, "serve")


def _peak(night: Night) -> float:
    lake = night.shop.lake
    rows = lake.rows(lake.pin("ops.stages"), {"ds": night.day}).to_pylist()
    return max((row["peak_mb"] for row in rows if row["run_id"] == night.run_id), default=0.0)
