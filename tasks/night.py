"""The night as a record that passes from stage to stage, and how it begins and ends."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Literal

from models.registry import load
from tasks.errors import (
    HeldError,
    SettingsError,
    StorageError,
    as_ours,
    on_one_line,
)
from tasks.ingest.deliveries import new_deliveries
from tasks.ingest.landing import Arrival, arrival
from tasks.lake.literals import Value
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.lake.warehouse import (
    current_pointer,
    is_fresh,
    no_window,
    rebuild,
    reports_path,
    views,
    warehouse_path,
)
from tasks.memory import share_one_heap
from tasks.places import Place, StorePath, try_store
from tasks.report.page import write_night
from tasks.running import ensure_date, hold_date, leave, note_deaths, note_end, why_date_lost
from tasks.serve.decisions import Decision, decided, rolled_back_since, stands
from tasks.serve.publications import SERVING, reconcile
from tasks.serve.release import carry_over, release_id
from tasks.shop import Shop, parameters
from tasks.train.registry import SavedModel

Ending = Literal["published", "kept", "held", "failed", "died"]
_ENDINGS: dict[str, Ending] = {"hold": "held", "backfill": "kept"}


@dataclass(frozen=True)
class Night:
    """One run of one night. `ds` is known once the files are, `release` once they are read."""

    shop: Shop
    run_id: str
    started_at: datetime
    arrival: Arrival
    ds: date | None = None
    release: str | None = None
    trained: tuple[SavedModel, ...] = ()
    untrained: tuple[tuple[str, str], ...] = ()  # model, reason
    unlisted: tuple[tuple[str, str], ...] = ()  # model that was trained, why it has no lists
    dropped: tuple[str, ...] = ()  # those of them whose time was over
    model: str | None = None  # whose lists the release holds
    decision: Decision | None = None
    is_old: bool = False

    @property
    def day(self) -> date:
        """The date of the night, once it is known; until then the date on which it runs."""
        return self.ds or self.started_at.date()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Of each model that the night goes on without, why."""
        return (
            *(f"{model} was not trained: {why}" for model, why in self.untrained),
            *(f"{model} was trained, and has no lists: {why}" for model, why in self.unlisted),
        )


@dataclass(frozen=True)
class Outcome:
    """How a night ended; `is_old`: there was nothing to do, it had ended so before."""

    ending: Ending
    reason: str
    ds: date
    run_id: str
    release_id: str | None
    report: str
    waiting: tuple[str, ...] = ()
    is_old: bool = False


def begin(shop: Shop, ds: date | None) -> Night:
    """Mend what a killed run left, find the night's files and date, and hold the date.

    Waits while another run of the date lives. The night comes back decided where nothing new has
    landed since it was decided.
    Raises SourceError where files are missing, StorageError where a table that cannot be made anew
    has been lost.
    """
    share_one_heap()
    started_at = datetime.now(UTC)
    _check_configs(shop)
    _try_store(shop)
    _refuse_losses(shop)
    note_deaths(shop)
    reconcile(shop.lake, shop.settings.compute)
    found = arrival(shop.landing, shop.mapping, ds)
    night = Night(shop, new_run_id(), started_at, found, found.ds)
    return _alone(night)


def _alone(night: Night) -> Night:
    """Hold the night's date, so that no other run has it, and see whether there is work to do."""
    shop = night.shop
    try:
        if hold_date(shop, night.day, night.run_id):
            # what has landed while this run waited; its date stays the one it waited for
            night = replace(night, arrival=arrival(shop.landing, shop.mapping, night.ds))
        return _as_decided(night)
    except BaseException:
        leave_dates(night)
        raise


def with_date(night: Night, ds: date) -> Night:
    """The night of undated files, whose date is known now and held too."""
    if night.ds == ds:
        return night
    hold_date(night.shop, ds, night.run_id)
    return replace(night, ds=ds)


def go_on(night: Night) -> None:
    """Raise LeaseError where the lease of the night's date was lost: another run may be at it.

    Nothing is read. A run that holds no date, as that of an hour, goes on.
    """
    if why_date_lost(night.shop, night.day, night.run_id):
        ensure_date(night.shop, night.day, night.run_id)


def new_run_id() -> str:
    """A name for what a command does, by its time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def _check_configs(shop: Shop) -> None:
    """Refuse a wrong model config before the night, not in the middle of it."""
    for name, config in shop.settings.train.configs.items():
        try:
            load(name).config_type.from_dict(config)
        except ValueError as error:
            raise SettingsError(
                f"the config of {name} is wrong: {error}",
                where=f"train.configs.{name}",
                unchanged="nothing was read or written",
                fix=f"models/{name}.py lists the fields of the config",
            ) from error


def _try_store(shop: Shop) -> None:
    """Refuse a store that a night could not write to safely, before anything is written."""
    if isinstance(shop.lake.root, StorePath):
        try_store(shop.lake.root)


def _refuse_losses(shop: Shop) -> None:
    """A table whose folder is gone looks like one that was never written."""
    lake = shop.lake
    empty = [f"clean.{each}" for each in shop.mapping.sources() if not _has_rows(lake, each)]
    lost = []
    if empty and lake.pin("ops.files").days():
        with session(lake, shop.settings.compute) as s:
            s.read("ops.files")
            rows = s.rows(
                "SELECT DISTINCT dataset FROM ops.files WHERE state = 'ingested' AND n_clean > 0"
            )
        lost = [f"clean.{row[0]}" for row in rows if f"clean.{row[0]}" in empty]
    if current_pointer(lake).exists() and not lake.pin("serve.publications").days():
        lost.append("serve.publications")
    if lost:
        raise StorageError(
            f"{' and '.join(sorted(lost))} lost all rows, and nothing can make them anew",
            where=str(lake.root),
            unchanged="nothing was written, and what was served stays served",
            fix="restore the folder from a copy; or make a new lake from all landed files: --lake",
        )


def _has_rows(lake: Lake, dataset: str) -> bool:
    return bool(lake.pin(f"clean.{dataset}").days())


def _as_decided(night: Night) -> Night:
    shop = night.shop
    with session(shop.lake, shop.settings.compute) as s:
        if new_deliveries(s, shop.landing, shop.mapping, night.arrival.files):
            return night
    ds = night.ds or max(shop.lake.pin("clean.events").days(), default=None)
    if ds is None:
        return night
    known = as_decided(replace(night, ds=ds, release=release_id(shop, ds)))
    return known if known.is_old else night


def as_decided(night: Night) -> Night:
    """The night, decided if its release was; no release is made twice."""
    assert night.release is not None
    before = decided(night.shop, night.release)
    if before is None or not stands(night.shop, before):
        return night
    back = rolled_back_since(night.shop, night.release) if before.action in SERVING else None
    since = f"; {back.who} rolled back to {back.ds} since: {back.reason}" if back else ""
    return replace(night, decision=Decision(before.action, before.reason + since), is_old=True)


def drop(night: Night, model: str, reason: str) -> Night:
    """Go on without a model whose time is over: its release has another name than the whole one.

    What the models before it noted for the whole release is noted for this one too.
    """
    assert night.release is not None
    dropped = (*night.dropped, model)
    release = release_id(night.shop, night.day, dropped)
    trained = [each.model for each in night.trained]
    carry_over(night.shop, night.day, night.release, release, trained)
    untrained = (*night.untrained, (model, reason))
    return replace(night, release=release, dropped=dropped, untrained=untrained)


def seconds_for(night: Night, model: str) -> float | None:
    """How long a model may be trained from now on; None: as long as it takes.

    The cold model is not bound by the night's deadline, for it stands in for one that is.
    """
    settings = night.shop.settings
    limits = []
    if settings.train.max_minutes:
        limits.append(60 * settings.train.max_minutes)
    stands_in = model == settings.publish.cold_model != settings.publish.model
    if settings.night.deadline_minutes and not stands_in:
        passed = (datetime.now(UTC) - night.started_at).total_seconds()
        limits.append(60 * settings.night.deadline_minutes - passed)
    return min(limits, default=None)


def close(night: Night) -> Outcome:
    """Note how the night ended, refresh the views, and write its page. Safe to run again.

    Raises StorageError where one of these fails; what was decided stands.
    """
    assert night.decision is not None
    ending, reason = _ENDINGS.get(night.decision.action, "published"), night.decision.reason
    lost = why_date_lost(night.shop, night.day, night.run_id)
    if lost:  # what was decided before stands, and is noted as it was
        reason += f"; then the lease of the date was lost: {lost}"
    try:
        return _end(night, ending, reason)
    except Exception as error:
        raise StorageError(
            f"{night.day} is {ending}, but its views or its page could not be written: "
            f"{as_ours(error).what}",
            where=str(night.shop.lake.root),
            unchanged=f"what was decided stands: {night.decision.reason}",
            fix="make room under paths.lake or mend what is said above, then run the same command "
            "again",
        ) from error
    finally:
        leave_dates(night)


def fail(night: Night, error: Exception) -> Outcome:
    """The same for a night that an error stopped."""
    try:
        ending: Ending = "held" if isinstance(error, HeldError) else "failed"
        return _end(night, ending, as_ours(error).what)
    finally:
        leave_dates(night)


def stop(night: Night, why: BaseException) -> None:
    """Note a night that was stopped from outside, and let others run it; nothing more."""
    try:
        _note(night, "died", f"it was stopped: {type(why).__name__} {on_one_line(why)}".strip())
    finally:
        leave_dates(night)


def leave_dates(night: Night) -> None:
    """Let others run the night: its date, and that on which it ran until it knew its date."""
    leave(night.shop, night.run_id, night.day, night.started_at.date())


def _end(night: Night, ending: Ending, reason: str) -> Outcome:
    shop, ds = night.shop, night.day
    page = reports_path(shop.lake) / f"{ds}.html"
    if not (night.is_old and _is_noted(night)):
        _note(night, ending, reason)
        page.unlink(missing_ok=True)
    refresh(shop, ds)
    if not page.exists():
        page = write_page(shop, ds)
    return Outcome(
        ending=ending,
        reason=reason,
        ds=ds,
        run_id=night.run_id,
        release_id=night.release,
        report=str(page),
        waiting=night.arrival.waiting,
        is_old=night.is_old,
    )


def _note(night: Night, ending: Ending, reason: str) -> None:
    row = {
        "run_id": night.run_id,
        "outcome": ending,
        "reason": reason,
        "release_id": night.release,
        "started_at": night.started_at,
        "ended_at": datetime.now(UTC),
        "ds": night.day,
    }
    note_end(night.shop, row, night.day)


def _is_noted(night: Night) -> bool:
    pinned = night.shop.lake.pin("ops.nights")
    rows = night.shop.lake.rows(pinned, {"ds": night.day}).to_pylist()
    return any(row["release_id"] == night.release for row in rows)


def refresh(shop: Shop, ds: date | None = None) -> Place:
    """Rebuild the file of views if it is not the newest; totals are as of what is served."""
    serving = reconcile(shop.lake, shop.settings.compute)
    window: dict[str, Value] = no_window()
    day = serving.ds if serving is not None else ds
    if day is not None:
        params = parameters(shop, day)
        window = {"ds": params["ds"], "since": params["since"]}
    if not is_fresh(shop.lake, window):
        rebuild(shop.lake, window)
    return warehouse_path(shop.lake)


def write_page(shop: Shop, ds: date) -> Place:
    """Write the report page of a night from the views."""
    with views(shop.lake) as con:
        return write_night(con, ds, reports_path(shop.lake))
