"""A plan: which nights are made again, in which order, as known when, with which models."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from tasks.backfill import ledger
from tasks.backfill.apart import Pins, apart, has_data
from tasks.backfill.ledger import Entry
from tasks.errors import UsageError
from tasks.lake.borrowed import AsOf
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.places import Place
from tasks.serve.publications import history
from tasks.serve.release import release_id
from tasks.shop import Shop, refuse_strange_models

Choice = Literal["missing", "failed", "all"]
MOST_DAYS = 3_700


@dataclass(frozen=True)
class Request:
    """What somebody asks for; equal requests are one plan until it has ended."""

    first: date
    last: date
    choice: Choice = "missing"
    as_of: AsOf = "now"
    models: tuple[str, ...] = ()  # none: those of the settings
    max_active: int | None = None  # None: backfill.max_active of the settings
    is_newest_first: bool = False
    keeps_aside: bool = False

    def days(self) -> list[date]:
        """The dates that are asked for, in order. Raises UsageError where there are none."""
        n = (self.last - self.first).days + 1
        if not 1 <= n <= MOST_DAYS:
            raise UsageError(
                f"{self.first} to {self.last} are {max(n, 0)} nights",
                where="START and END",
                unchanged="nothing was planned",
                fix=f"name the first date and then the last, at most {MOST_DAYS} nights",
            )
        return [self.first + timedelta(days=each) for each in range(n)]


@dataclass(frozen=True)
class Plan:
    """A plan as its nights know it; how they stand is in ops.backfills."""

    plan_id: str
    request: Request
    max_active: int
    recipe: str
    pins: Pins
    planned_at: datetime

    @property
    def as_of(self) -> AsOf:
        """As known now or then."""
        return self.request.as_of


@dataclass(frozen=True)
class Planned:
    """A plan and its nights; `is_old`: it goes on. `skipped` are done already, as they would be."""

    plan: Plan
    entries: tuple[Entry, ...]
    is_old: bool = False
    skipped: tuple[date, ...] = ()

    @property
    def has_work(self) -> bool:
        """Whether a night is to be made or judged."""
        return any(not each.has_ended for each in self.entries)


def plans_folder(lake: Lake) -> Place:
    """Below which every plan has a folder while it is under way."""
    return lake.root.absolute() / "backfills"


def slot_folder(lake: Lake, plan: Plan, slot: int) -> Place:
    """The lake of one process of a plan."""
    return plans_folder(lake) / plan.plan_id / f"slot-{slot}"


def with_models(shop: Shop, models: Sequence[str]) -> Shop:
    """The shop as its nights are made again: with these models, each begun at random weights.

    The cold model is always trained. The published one is that of the settings, or the first that
    is named where it is not among them. Raises SettingsError where there is no such model.
    """
    refuse_strange_models(models, "--models")
    train, publish = shop.settings.train, shop.settings.publish
    if models:
        cold = publish.cold_model
        named = tuple(models) if cold in models else (cold, *models)
        configs = {name: each for name, each in train.configs.items() if name in named}
        train = train.model_copy(update={"models": named, "configs": configs})
        others = (each for each in models if each != cold)
        model = publish.model if publish.model in models else next(others, cold)
        publish = publish.model_copy(update={"model": model})
    train = train.model_copy(update={"warm_start": False})
    return replace(
        shop, settings=shop.settings.model_copy(update={"train": train, "publish": publish})
    )


def plan(shop: Shop, request: Request) -> Planned:
    """The plan that this request goes on with, or a new one, which is not written yet."""
    shop = with_models(shop, request.models)
    old = _unfinished(shop, request)
    if old is not None:
        return old
    pins = Pins.newest(shop.lake)
    made = Plan(
        plan_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}",
        request=request,
        max_active=request.max_active or shop.settings.backfill.max_active,
        recipe=shop.recipe,
        pins=pins,
        planned_at=datetime.now(UTC),
    )
    chosen = _chosen(shop, request)
    entries, skipped = [], []
    done = {each.release_id for each in ledger.every(shop.lake) if each.is_judged}
    for place, ds in enumerate(reversed(chosen) if request.is_newest_first else chosen):
        entry = _entry(shop, made, place, ds)
        if entry.release_id in done and entry.release_id is not None:
            skipped.append(ds)
        else:
            entries.append(entry)
    return Planned(made, tuple(entries), skipped=tuple(sorted(skipped)))


def resume(shop: Shop, plan_id: str, max_active: int | None = None) -> Planned:
    """A plan by its name. Raises UsageError where there is none, or its recipe is another now."""
    entries = ledger.of_plan(shop.lake, plan_id)
    if not entries:
        raise unknown(plan_id)
    found = read(entries)
    if found.recipe != with_models(shop, found.request.models).recipe:
        raise UsageError(
            f"plan {plan_id} was made with other settings, another mapping or other code",
            where="ops.backfills.recipe",
            unchanged="the plan stays as it is",
            fix=f"nightrank backfill --cancel {plan_id}, then plan anew",
        )
    found = replace(found, max_active=max_active or found.max_active)
    return Planned(found, tuple(entries), is_old=True)


def unknown(plan_id: str) -> UsageError:
    """There is no such plan."""
    return UsageError(
        f"there is no plan {plan_id}",
        where="ops.backfills",
        unchanged="nothing was changed",
        fix="nightrank backfill --list names them",
    )


def read(entries: Sequence[Entry]) -> Plan:
    """The plan that nights of ops.backfills tell of."""
    one = entries[0]
    request = Request(
        first=one.first_ds,
        last=one.last_ds,
        choice=one.choice,
        as_of=one.as_of,
        models=tuple(one.models),
        is_newest_first=one.is_newest_first,
        keeps_aside=one.keeps_aside,
    )
    return Plan(
        plan_id=one.plan_id,
        request=request,
        max_active=one.max_active,
        recipe=one.recipe,
        pins=Pins.read(one.pins),
        planned_at=one.planned_at,
    )


def _unfinished(shop: Shop, request: Request) -> Planned | None:
    """The newest plan of the same request and recipe that has not ended."""
    by_plan = ledger.by_plan(shop.lake)
    for entries in sorted(by_plan.values(), key=lambda each: each[0].planned_at, reverse=True):
        found = read(entries)
        same = replace(request, max_active=None, models=found.request.models)
        if (
            same == found.request
            and shop.settings.train.models == found.request.models
            and found.recipe == shop.recipe
            and any(not each.has_ended for each in entries)
        ):
            again = replace(found, max_active=request.max_active or found.max_active)
            return Planned(again, tuple(entries), is_old=True)
    return None


def _chosen(shop: Shop, request: Request) -> list[date]:
    days = request.days()
    if request.choice == "all":
        return days
    with session(shop.lake, shop.settings.compute) as s:
        released = {each.ds for each in history(s)}
        s.read("ops.nights")
        nights = s.rows("SELECT ended_at, ds, outcome FROM ops.nights")
    entries = ledger.every(shop.lake)
    if request.choice == "missing":
        made = released | {each.ds for each in entries if each.is_judged}
        return [day for day in days if day not in made]
    # what was waited for, stopped or empty is no attempt that ended; nor is a night run again of
    # a date that has a release a failure of the date
    bad = ("failed", "died")
    attempts = [(e.ended_at, e.ds, e.state) for e in entries if e.state in ("done", "failed")]
    attempts += [night for night in nights if night[2] not in bad or night[1] not in released]
    last = {ds: ending for _, ds, ending in sorted(attempts)}
    return [day for day in days if last.get(day) in bad]


def _entry(shop: Shop, made: Plan, place: int, ds: date) -> Entry:
    request = made.request
    entry = Entry(
        ds=ds,
        place=place,
        state="waiting",
        first_ds=request.first,
        last_ds=request.last,
        choice=request.choice,
        as_of=request.as_of,
        models=list(shop.settings.train.models),
        is_newest_first=request.is_newest_first,
        keeps_aside=request.keeps_aside,
        max_active=made.max_active,
        recipe=made.recipe,
        pins=made.pins.names(),
        planned_at=made.planned_at,
        plan_id=made.plan_id,
    )
    if not has_data(shop, made.pins, made.as_of, ds):
        known = " was known at its close" if made.as_of == "then" else " is in the lake"
        return replace(entry, state="empty", reason=f"no event of {ds}{known}")
    there = apart(shop, made.pins, made.as_of, ds, shop.settings.paths.lake)
    return replace(entry, release_id=release_id(there, ds))
