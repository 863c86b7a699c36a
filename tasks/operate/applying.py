"""Give a plan to the Prefect server: pools, deployments, limits. What is there already stays.

Applying twice changes nothing; what differs is told as made or changed. Schedules and deployments
that a person has paused stay paused.
"""

import shlex
import sys
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from tasks.errors import SettingsError, StorageError, on_one_line
from tasks.gpu import LIMIT as GPU_LIMIT
from tasks.operate.plan import Deployment, Plan, Schedule

Became = Literal["made", "changed", "as it was"]
_NOTHING_APPLIED = "nothing on the server was changed"
NO_SERVER = "start one with nightrank up and set PREFECT_API_URL to the address that it prints"


@dataclass(frozen=True)
class Applied:
    """One thing on the server, and what became of it."""

    kind: str
    name: str
    became: Became


@dataclass(frozen=True)
class Where:
    """Where runs happen: the folder they start in, and what their flow is told (absolute paths)."""

    folder: Path
    parameters: Mapping[str, str | None]


@contextmanager
def the_server() -> Iterator[SyncPrefectClient]:
    """A client of the server that PREFECT_API_URL names.

    Raises SettingsError where none is named, StorageError where it cannot be reached or refuses.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise SettingsError(
            "no Prefect server is named",
            where="PREFECT_API_URL (not set)",
            unchanged="nothing was changed",
            fix=NO_SERVER,
        )
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
        if problem is not None:
            raise _unreached(url, problem)
        try:
            yield client
        except (PrefectException, httpx.HTTPError) as error:
            raise _unreached(url, error) from error


def _unreached(url: str, error: Exception) -> StorageError:
    return StorageError(
        f"the Prefect server did not do as asked: {type(error).__name__}: {on_one_line(error)}",
        where=url,
        unchanged="what it was told before this stands; telling it again is safe",
        fix=NO_SERVER,
    )


def refuse_unfit(plan: Plan) -> None:
    """Raise SettingsError for the first schedule of a plan that is none."""
    for planned in plan.deployments:
        _schedules(planned, None)


def apply_plan(client: SyncPrefectClient, plan: Plan, where: Where) -> list[Applied]:
    """Make the server hold exactly this plan; deployments that it does not name are left alone.

    Raises SettingsError, before anything is applied, where a schedule or a flow is none.
    """
    refuse_unfit(plan)
    flows = [_flow(each) for each in plan.deployments]
    done = [_pool(client, name) for name in plan.pools]
    done.append(_limit(client, GPU_LIMIT, 1))
    pairs = zip(plan.deployments, flows, strict=True)
    return done + [_deployment(client, each, flow, where) for each, flow in pairs]


def _flow(planned: Deployment) -> Flow[..., Any]:
    try:
        return load_flow_from_entrypoint(planned.entrypoint, use_placeholder_flow=False)
    except (PrefectException, ImportError) as error:
        raise SettingsError(
            f"{planned.entrypoint} is no flow: {on_one_line(error)}",
            where=f"entrypoint of the deployment {planned.name}",
            unchanged=_NOTHING_APPLIED,
            fix="write package.module.function, such as flows.nightly.nightly",
        ) from error


def _pool(client: SyncPrefectClient, name: str) -> Applied:
    try:
        client.read_work_pool(name)
        return Applied("work pool", name, "as it was")
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        pool = WorkPoolCreate(name=name, type="process", base_job_template=template)
        with suppress(ObjectAlreadyExists):  # somebody else applies at this moment
            client.create_work_pool(pool)
        return Applied("work pool", name, "made")


def _limit(client: SyncPrefectClient, name: str, places: int) -> Applied:
    """A global limit; one that is there has as many places as its owner gave it."""
    try:
        client.read_global_concurrency_limit_by_name(name)
        return Applied("global limit", name, "as it was")
    except ObjectNotFound:
        client.upsert_global_concurrency_limit_by_name(name, places)
        return Applied("global limit", name, "made")


def _deployment(
    client: SyncPrefectClient, planned: Deployment, flow: Flow[..., Any], where: Where
) -> Applied:
    schema = parameter_schema(flow)
    before = _read(client, planned.full_name)
    wanted = _wanted(planned, where, before, schema.properties) | {
        "description": planned.description or flow.description,
        "parameter_openapi_schema": schema.model_dump(exclude_unset=True),
    }
    if before is not None and _shown(wanted) == _shown(_held(before)):
        return Applied("deployment", planned.full_name, "as it was")
    flow_id = client.create_flow_from_name(planned.flow)
    client.create_deployment(flow_id=flow_id, name=planned.name, **wanted)
    return Applied("deployment", planned.full_name, "made" if before is None else "changed")


def _read(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _wanted(
    planned: Deployment, where: Where, before: DeploymentResponse | None, known: Container[str]
) -> dict[str, Any]:
    limit = planned.concurrency_limit
    told = {name: value for name, value in where.parameters.items() if name in known}
    return {
        "entrypoint": planned.entrypoint,
        "parameters": {**told, **planned.parameters},
        "tags": sorted(planned.tags),
        "work_pool_name": planned.work_pool.name,
        "job_variables": {**_job(where), **planned.work_pool.job_variables},
        "schedules": _schedules(planned, before),
        "concurrency_limit": limit.limit,
        "concurrency_options": ConcurrencyOptions.model_validate(
            limit.model_dump(include={"collision_strategy", "grace_period_seconds"})
        ),
        "pull_steps": [],
        "enforce_parameter_schema": True,
        "paused": before.paused if before is not None else False,
    }


def _job(where: Where) -> dict[str, Any]:
    # This very Python, without the working directory in front of its path: a folder `tasks` of the
    # shop's own must not stand in for ours. Prefect would also start two processes otherwise.
    return {
        "command": shlex.join([sys.executable, "-P", "-m", "prefect.engine"]),
        "working_dir": str(where.folder),
    }


def _schedules(
    planned: Deployment, before: DeploymentResponse | None
) -> list[DeploymentScheduleCreate]:
    """Its schedules; one that a person has switched off stays off."""
    active = {each.slug: each.active for each in before.schedules} if before is not None else {}
    return [
        DeploymentScheduleCreate(
            schedule=_cron(planned, each), active=active.get(each.slug, True), slug=each.slug
        )
        for each in planned.schedules
    ]


def _cron(planned: Deployment, schedule: Schedule) -> CronSchedule:
    try:
        return CronSchedule(cron=schedule.cron, timezone=schedule.timezone, day_or=schedule.day_or)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise SettingsError(
            f"{wrong['input']!r} is no {wrong['loc'][0]} of a schedule: {wrong['msg']}",
            where=f"schedule {schedule.slug} of the deployment {planned.name}",
            unchanged=_NOTHING_APPLIED,
            fix="write minute, hour, day of month, month, day of week, such as 30 3 * * *, and a "
            "zone such as Europe/Berlin",
        ) from error


def differences(planned: Deployment, found: DeploymentResponse) -> list[str]:
    """In what a deployment on the server is another than planned, in words.

    Only what the plan says is looked at: a person may have paused it, or added to it.
    """
    held, job = _shown(_held(found)), planned.work_pool.job_variables
    limit = planned.concurrency_limit
    options = held["concurrency_options"] or {}
    there = {
        "entrypoint": held["entrypoint"],
        "tags": held["tags"],
        "work pool": held["work_pool_name"],
        "schedules": [(slug, *rest) for slug, _, *rest in held["schedules"]],
        "parameters": {name: held["parameters"].get(name) for name in planned.parameters},
        "job variables": {name: (held["job_variables"] or {}).get(name) for name in job},
        "concurrency limit": (held["concurrency_limit"], options.get("collision_strategy")),
    }
    wanted = {
        "entrypoint": planned.entrypoint,
        "tags": sorted(planned.tags),
        "work pool": planned.work_pool.name,
        "schedules": sorted((s.slug, s.cron, s.timezone, s.day_or) for s in planned.schedules),
        "parameters": planned.parameters,
        "job variables": job,
        "concurrency limit": (limit.limit, limit.collision_strategy),
    }
    return [
        f"{name}: {there[name]} and not {wanted[name]}"
        for name in wanted
        if there[name] != wanted[name]
    ]


def _held(found: DeploymentResponse) -> dict[str, Any]:
    limit = found.global_concurrency_limit
    return {
        "entrypoint": found.entrypoint,
        "parameters": found.parameters,
        "tags": sorted(found.tags),
        "work_pool_name": found.work_pool_name,
        "job_variables": found.job_variables,
        "schedules": found.schedules,
        "concurrency_limit": limit.limit if limit is not None else None,
        "concurrency_options": found.concurrency_options,
        "pull_steps": found.pull_steps or [],
        "enforce_parameter_schema": found.enforce_parameter_schema,
        "paused": found.paused,
        "description": found.description,
        "parameter_openapi_schema": found.parameter_openapi_schema,
    }


def _shown(facts: dict[str, Any]) -> dict[str, Any]:
    """As plain values that can be compared."""
    schedules = [
        (each.slug, each.active, each.schedule.cron, each.schedule.timezone, each.schedule.day_or)
        for each in facts["schedules"]
    ]
    options = facts["concurrency_options"]
    shown = None if options is None else options.model_dump(mode="json")
    return facts | {"schedules": sorted(schedules), "concurrency_options": shown}
