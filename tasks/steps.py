"""The stages of a night, in order: plain functions, made Prefect tasks when a flow runs them.

Called outside a flow (or through `nightly.fn`), a stage is the plain function and needs no server.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Concatenate, ParamSpec, cast
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.flows import Flow
from prefect.runtime import flow_run as this_run
from prefect.tasks import Task

from expectations.catalogue import catalogue
from tasks import checks, notices
from tasks import night as nights
from tasks.errors import ConflictError, OverrunError, StorageError, TrainingError, as_ours
from tasks.estimate import comparison, diagnostics, examination, policies, propensities
from tasks.estimate.log import opened_log
from tasks.gpu import place_on_gpu
from tasks.ingest.night import ingest as ingest_files
from tasks.lake.connection import as_storage_errors
from tasks.lake.session import session
from tasks.measure import Cost, measured
from tasks.memory import give_back, swept
from tasks.night import Night, Outcome
from tasks.places import SCHEME
from tasks.progress import Watcher, watched_by, watcher
from tasks.records import TableVersion
from tasks.running import ensure_date
from tasks.serve import decisions
from tasks.serve import release as releases
from tasks.serve.publications import serving
from tasks.shop import Shop, name_positives, parameters, with_cut
from tasks.train import lists
from tasks.train import night as training
from tasks.train.loop import resolved
from tasks.transform import build_increments, build_snapshot

P = ParamSpec("P")
Worked = tuple[Night, Sequence[TableVersion]]
Work = Callable[Concatenate[Night, P], Worked]
Step = Callable[Concatenate[Night, P], Night]

SHOWN_EVERY = 5.0  # seconds between two looks of Prefect's UI at a stage

TRANSIENT = (ConflictError, ConnectionError, TimeoutError)


def can_pass(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Retry only what another try can mend."""
    return isinstance(state.result(raise_on_failure=False), TRANSIENT)


def stage(*, retries: int = 2, on_device: bool = False) -> Callable[[Work[P]], Step[P]]:
    """Make a plain function a stage: watched, measured, noted, retried only for what can pass.

    One that works `on_device` waits for a place on it, where that is a GPU. No task has a tag:
    Prefect asks the server for a place under each before it begins, and fails where none answers.
    """

    def make(work: Work[P]) -> Step[P]:
        def run(night: Night, /, *args: P.args, **kwargs: P.kwargs) -> Night:
            waits = on_device and FlowRunContext.get() is not None and is_on_gpu(night)
            with (
                place_on_gpu() if waits else nullcontext(),
                # arrays that stand in cycles: the next stage would run beside them
                swept() if on_device else nullcontext(),
            ):
                return _noted(work, night, *args, **kwargs)

        run.__name__, run.__doc__ = work.__name__, work.__doc__
        as_task = task(
            name=work.__name__,
            retries=retries,
            retry_delay_seconds=5,
            retry_condition_fn=can_pass,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(run)

        def step(night: Night, /, *args: P.args, **kwargs: P.kwargs) -> Night:
            if FlowRunContext.get() is None:
                return run(night, *args, **kwargs)
            name = _label(work.__name__, args)
            as_named = as_task.with_options(task_run_name=name)
            with watched_by(_InUi(watcher(), name)):
                return as_named(night, *args, **kwargs)

        step.__name__, step.__doc__ = work.__name__, work.__doc__
        return step

    return make


def is_on_gpu(night: Night) -> bool:
    """Whether models of the night are trained and scored on one."""
    return resolved(night.shop.settings.train.device).type == "cuda"


class _InUi:
    """Hands on what a stage tells; Prefect's UI shows it as a bar, and its log as lines."""

    def __init__(self, behind: Watcher, label: str) -> None:
        self.behind, self.label = behind, label
        self.context = copy_context()
        self.artifact: UUID | None = None
        self.due_at = 0.0

    def began(self, stage: str) -> None:
        """Hand it on, and remember which task run this is."""
        # a stage that streams into a table moves on a thread of the writer, which does not know
        self.context = copy_context()
        self.behind.began(stage)

    def moved(self, done: float, total: float, note: str) -> None:
        """Hand it on; show it if it is time to, or the last."""
        self.behind.moved(done, total, note)
        if time.monotonic() >= self.due_at or done >= total:
            # the UI is for looking at; the night does not end because it cannot be shown
            with suppress(PrefectException, httpx.HTTPError):
                self.context.run(self._show, 100 * done / total if total else 100.0, note)
            self.due_at = time.monotonic() + SHOWN_EVERY

    def ended(self, stage: str, is_done: bool, note: str) -> None:
        """Hand it on."""
        self.behind.ended(stage, is_done, note)

    def said(self, text: str) -> None:
        """Hand it on, and log it."""
        self.behind.said(text)
        with suppress(PrefectException, httpx.HTTPError):
            self.context.run(lambda: get_run_logger().info(text))

    def _show(self, percent: float, note: str) -> None:
        get_run_logger().info("%s: %.0f %%, %s", self.label, percent, note)
        if self.artifact is None:
            key = self.label.replace(" ", "-").replace("_", "-")
            self.artifact = cast(UUID, create_progress_artifact(percent, key, self.label))
        else:
            update_progress_artifact(self.artifact, percent)


def _label(name: str, args: Sequence[object]) -> str:
    return " ".join([name, *map(str, args)])


def _noted(work: Work[P], night: Night, /, *args: P.args, **kwargs: P.kwargs) -> Night:
    label, started_at = _label(work.__name__, args), datetime.now(UTC)
    nights.go_on(night)
    watcher().began(label)
    give_back()
    try:
        with measured() as cost, as_storage_errors(label):
            after, written = work(night, *args, **kwargs)
    except BaseException as error:
        watcher().ended(label, False, str(error).splitlines()[0] if str(error) else "")
        if isinstance(error, Exception):
            _note_failure(night, label, started_at, cost, error)
        raise
    _note(after, label, "done", started_at, cost, written)
    n_rows = sum(each.rows for each in written)
    watcher().ended(label, True, f"{n_rows:,} rows" if written else "")
    return after


def _note_failure(
    night: Night, label: str, started_at: datetime, cost: Cost, error: Exception
) -> None:
    try:
        _note(night, label, "failed", started_at, cost, [])
    except StorageError as second:
        error.add_note(f"and ops.stages could not be written: {second.what}")


def _note(
    night: Night,
    label: str,
    state: str,
    started_at: datetime,
    cost: Cost,
    written: Sequence[TableVersion],
) -> None:
    row = {
        "run_id": night.run_id,
        "stage": label,
        "state": state,
        "n_rows": sum(each.rows for each in written),
        "n_bytes": sum(each.bytes for each in written),
        "seconds": round(cost.seconds, 3),
        "cpu_seconds": round(cost.cpu_seconds, 3),
        "peak_mb": round(cost.peak_mb, 1),
        "pins": list(dict.fromkeys(map(str, written))),
        "started_at": started_at,
        "ds": night.day,
    }
    night.shop.lake.append("ops.stages", {"ds": night.day}, [row])


def begin(shop: Shop, ds: date | None) -> Night:
    """Mend what a killed run left; find the night's files, its date, and whether it is done."""
    if FlowRunContext.get() is None:
        return nights.begin(shop, ds)
    with watched_by(_InUi(watcher(), "begin")):
        return nights.begin(shop, ds)


@stage()
def ingest(night: Night) -> Worked:
    """Landed files into clean tables."""
    ds, written = ingest_files(night.shop, night.arrival, night.run_id)
    night = nights.with_date(night, ds)
    return replace(night, release=releases.release_id(night.shop, ds)), written


@stage()
def check(night: Night, group: str) -> Worked:
    """Run the suites of a group of tables; a critical one that fails stops the night."""
    checks.check(night.shop, night.day, group, night.run_id, night.release, night.arrival.files)
    return night, []


@stage()
def build_features(night: Night) -> Worked:
    """The multi-behaviour table, popularity, history and propensities; training tables; rules."""
    shop, params = night.shop, parameters(night.shop, night.day)
    daily = [
        t.name for t in catalogue().values() if t.layer == "features" and t.kind == "increment"
    ]
    nightly = ("features.item_propensities", "train.examples", "train.holdout")
    steps = propensities.steps(shop)
    with session(shop.lake, shop.settings.compute) as s:
        name_positives(s, shop)
        written = [build_increments(s, name, params, steps.get(name)) for name in daily]
        written.append(examination.examine(s, params))
        s.read("features.behaviours_daily", upto=night.day, newest=True)
        params = with_cut(s, params)
        written += [build_snapshot(s, name, params) for name in nightly]
    return night, written + releases.build_rules(shop, night.day)


@stage()
def estimate(night: Night) -> Worked:
    """Whether propensities can be trusted, and what stated policies would have earned."""
    with opened_log(night.shop, night.day) as log:
        return night, [diagnostics.diagnose(log), policies.estimate(log)]


@stage(on_device=True)
def train(night: Night, model: str, *, is_last: bool = False) -> Worked:
    """Train one model, measure it on the time split, fit it again on all days, and keep it.

    Raises OverrunError where its time is over, unless it is the last that is left (`is_last`).
    """
    assert night.release is not None
    seconds = None if is_last else nights.seconds_for(night, model)
    until = None if seconds is None else time.monotonic() + seconds
    trained, written = training.train_model(
        night.shop, night.day, night.release, model, watcher().moved, until
    )
    return replace(night, trained=(*night.trained, trained)), written


def train_or_skip(night: Night, model: str) -> Night:
    """Train one model; a night that cannot goes on without it, and says so."""
    try:
        return train(night, model)
    except OverrunError as error:
        return nights.drop(night, model, error.what)
    except TrainingError as error:
        return replace(night, untrained=(*night.untrained, (model, error.what)))


def fall_back(night: Night) -> Night:
    """Fit popularity where no model that may be published is left, and nothing is served yet.

    A night that lost the same models before comes back decided.
    """
    if night.dropped and (night := nights.as_decided(night)).is_old:
        return night
    publish = night.shop.settings.publish
    usable = {publish.model, publish.cold_model, releases.FALLBACK}
    has_failed = releases.FALLBACK in dict((*night.untrained, *night.unlisted)) and (
        releases.FALLBACK not in night.dropped
    )
    if usable & {each.model for each in night.trained} or has_failed:
        return night
    return train(night, releases.FALLBACK, is_last=True) if _is_first(night) else night


def _is_first(night: Night) -> bool:
    return decisions.serves_nothing(night.shop)


@stage(on_device=True)
def score(night: Night, model: str) -> Worked:
    """The exact top-K of one model for every active user, over eligible and unseen items."""
    trained = next(each for each in night.trained if each.model == model)
    return night, lists.score(night.shop, night.day, trained, watcher().moved)


def score_or_skip(night: Night, model: str) -> Night:
    """Score one model; a night that cannot goes on without its lists, and says so."""
    try:
        return score(night, model)
    except TrainingError as error:
        others = tuple(each for each in night.trained if each.model != model)
        return replace(night, trained=others, unlisted=(*night.unlisted, (model, error.what)))


def score_fallback(night: Night) -> Night:
    """Fit and score popularity where scoring cost the last model; see `fall_back`."""
    after = fall_back(night)
    return night if after.trained == night.trained else score(after, releases.FALLBACK)


@stage()
def make_release(night: Night) -> Worked:
    """Apply the rules, last and in one place: the lists and the shortfalls."""
    assert night.release is not None
    is_first = _is_first(night)
    model = releases.choose_model(night.shop, night.trained, night.left_out, is_first)
    cold = night.shop.settings.publish.cold_model
    # lists that an earlier run of this night made of it are not to fill up
    fills = cold if cold in [each.model for each in night.trained] else model
    written = releases.build_release(night.shop, night.day, night.release, model, fills)
    return replace(night, model=model), written


@stage()
def compare(night: Night) -> Worked:
    """What each model's lists would earn against those that are served, on days neither knew."""
    assert night.release is not None
    assert night.model is not None
    shop, ds, models = night.shop, night.day, [each.model for each in night.trained]
    champion = decisions.champion(shop, ds)
    return night, [comparison.compare(shop, ds, night.release, models, night.model, champion)]


@stage()
def publish(night: Night) -> Worked:
    """Judge the release, note why, and serve it if it is to be served."""
    assert night.release is not None
    assert night.model is not None
    decision, written = decisions.publish(
        night.shop,
        night.day,
        night.release,
        night.model,
        night.run_id,
        left_out=night.left_out,
        night_is_ours=partial(ensure_date, night.shop, night.day, night.run_id),
    )
    return replace(night, decision=decision), written


def gather(night: Night) -> Night:
    """The first two stages alone, for the hours between nights; nobody is kept waiting after."""
    night = ingest(night)
    try:
        return check(night, "clean")
    finally:
        nights.leave_dates(night)


def close(night: Night) -> Outcome:
    """Note how the night ended, refresh the views, write the page, and tell it to Prefect."""
    outcome = nights.close(night)
    _show_in_ui(night, outcome)
    _tell(notices.of_outcome(outcome))
    _tell_staleness(night.shop)
    return outcome


def fail(night: Night, error: Exception) -> None:
    """The same for a night that an error stopped; the error stays the first thing to be told."""
    page = None
    try:
        outcome = nights.fail(night, error)
        page = outcome.report
        _show_in_ui(night, outcome)
    except Exception as second:
        error.add_note(f"and the end of the night could not be noted: {as_ours(second).what}")
    _tell(notices.of_failure(error, night.day, page))


def tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of flows: tell what stopped a run, if the run itself could not."""
    error = state.result(raise_on_failure=False)
    if str(flow_run.id) in _told or not isinstance(error, BaseException):
        return
    is_night = flow.name == "nightly"
    _emit(notices.of_failure(error) if is_night else notices.of_other(flow.name, error))


_told: set[str] = set()  # ids of the runs of this process whose end has been told


def _tell(notice: notices.Notice | None) -> None:
    """Emit an event of this run, within a flow; automations on the server do what is to be done."""
    if notice is not None and FlowRunContext.get() is not None:
        _told.add(str(this_run.id))
        _emit(notice)


def _emit(notice: notices.Notice) -> None:
    resource = {"prefect.resource.id": f"nightrank.night.{notice.subject}"}
    emit_event(notice.event, resource, payload=notice.payload)


def _tell_staleness(shop: Shop) -> None:
    """Where a night was scheduled: whether what is served is too old by that date."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not context.flow_run.auto_scheduled:
        return
    served = serving(shop.lake, shop.settings.compute)
    _tell(
        notices.of_staleness(
            None if served is None else served.ds,
            this_run.scheduled_start_time.date(),
            shop.settings.alerts.stale_days,
        )
    )


def stop(night: Night, why: BaseException) -> None:
    """The same for a night that a person or its worker stopped: it is noted, and no more."""
    nights.stop(night, why)


def _show_in_ui(night: Night, outcome: Outcome) -> None:
    if FlowRunContext.get() is None:
        return
    get_run_logger().info("%s: %s (%s)", outcome.ds, outcome.ending, outcome.reason)
    # the night has ended so, whether it can be shown or not
    with suppress(PrefectException, httpx.HTTPError):
        _show_artifacts(night, outcome)


def _show_artifacts(night: Night, outcome: Outcome) -> None:
    lake = night.shop.lake
    rows = lake.rows(lake.pin("ops.stages"), {"ds": outcome.ds}).to_pylist()
    shown = ("stage", "state", "n_rows", "n_bytes", "seconds", "cpu_seconds", "peak_mb")
    table = [{key: row[key] for key in shown} for row in rows if row["run_id"] == night.run_id]
    create_markdown_artifact(
        f"**{outcome.ds}: {outcome.ending}**. {outcome.reason}", key="night", description="outcome"
    )
    if table:
        create_table_artifact(table, key="stages", description=f"stages of {outcome.ds}")
    create_link_artifact(page_address(outcome.report), "the night's page", key="report")


def page_address(report: str) -> str:
    """Where the UI says that a page lies: on disk, or in a store, whose places are addresses."""
    return report if report.startswith(SCHEME) else f"file://{report}"
