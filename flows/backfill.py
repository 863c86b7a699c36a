"""Make nights of the past again: a plan of nights, a few at once, judged in order at the end.

Reads the clean tables of the lake, pinned; writes ops.backfills, the releases of its nights and
what became of them. Requires that what has landed was ingested (a night does that).
"""

from concurrent.futures import wait
from contextlib import nullcontext
from datetime import date, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.backfill.driving import Driving, Result, driving
from tasks.backfill.plan import Choice, Request, plan, resume
from tasks.errors import BackfillError
from tasks.gpu import place_on_gpu
from tasks.lake.borrowed import AsOf
from tasks.shop import Shop, open_shop
from tasks.train.loop import resolved

SHOWN = ("ds", "state", "outcome", "n_users", "n_rows", "seconds", "overlap", "reason", "verdict")


def run_name() -> str:
    """What the run is called in Prefect's UI."""
    asked = flow_run.parameters
    dates = f"{asked.get('first')} to {asked.get('last')}"
    return f"backfill {asked.get('plan_id') or dates}"


@flow(name="backfill", flow_run_name=run_name, persist_result=False, log_prints=False)
def backfill(
    first: date | None = None,
    last: date | None = None,
    choice: Choice = "missing",
    as_of: AsOf = "now",
    models: list[str] | None = None,
    max_active: int | None = None,
    newest_first: bool = False,
    keep_aside: bool = False,
    plan_id: str | None = None,
    answered: list[datetime] | None = None,
    settings: Path | None = None,
    mapping: str | None = None,
    landing: str | Path | None = None,
    lake: str | Path | None = None,
) -> Result | State[Result]:
    """Make the nights of `first` to `last` again, or go on with the plan `plan_id`.

    `answered` are the cancels of it that whoever goes on with it knows of; None: all until now.
    Raises BackfillError where nights failed, and what else kept nights from being made; a plan that
    was told to stop ends as cancelled.
    """
    shop = open_shop(settings, mapping, landing, lake)
    if plan_id is not None:
        planned = resume(shop, plan_id, max_active)
    else:
        assert first is not None
        assert last is not None
        request = Request(
            first=first,
            last=last,
            choice=choice,
            as_of=as_of,
            models=tuple(models or ()),
            max_active=max_active,
            is_newest_first=newest_first,
            keeps_aside=keep_aside,
        )
        planned = plan(shop, request)
    if not planned.has_work:
        return unless_failed(Result(planned.plan, planned.entries))
    with driving(shop, planned, answered) as run:
        through(shop, run)
    result = run.result
    create_table_artifact(
        [{key: str(getattr(each, key)) for key in SHOWN} for each in result.entries],
        key="backfill-nights",
        description=f"plan {result.plan.plan_id}",
    )
    if result.stopped is not None:
        return Cancelled(message=result.stopped, data=None)
    return unless_failed(result)


def unless_failed(result: Result) -> Result:
    """The same; raises BackfillError where nights failed, now or when the plan ended before."""
    problem = result.problem()
    if problem is not None:
        raise problem
    return result


def through(shop: Shop, run: Driving) -> None:
    """The nights of a plan, each a task run, so many at once; then the last pass."""
    n_nights = len(run.entries())
    progress = cast(UUID, create_progress_artifact(0.0, "backfill", run.plan.plan_id))
    is_on_gpu = resolved(shop.settings.train.device).type == "cuda"

    @task(task_run_name="night {ds}", cache_policy=NO_CACHE, persist_result=False)
    def night(ds: date) -> Any:
        logger = get_run_logger()
        with place_on_gpu() if is_on_gpu else nullcontext():
            entry = run.night(ds, lambda stage: logger.info("%s: %s", ds, stage))
        n_ended = sum(each.state not in ("waiting", "running") for each in run.entries())
        update_progress_artifact(progress, 100 * n_ended / n_nights)
        if entry.state == "failed":
            raise BackfillError(
                str(entry.reason),
                where=f"{ds}, plan {run.plan.plan_id}",
                unchanged="the other nights go on, and what is served stays served",
                fix="mend what is said above; the same command with --failed makes it again",
            )
        # one that was never begun bears its reason only when the plan is left
        told = entry.reason or run.stopped
        return entry if entry.state == "done" else Cancelled(message=told)

    @task(cache_policy=NO_CACHE, persist_result=False)
    def judge() -> None:
        run.judge()

    pool: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=run.plan.max_active)
    with pool as runner:
        nights = [runner.submit(night, {"ds": ds}) for ds in run.waiting()]
        wait([each.wrapped_future for each in nights])
    judge()
