"""Prefect: its home, its server where one is named, its work pools, deployments and alerts.

Nothing here starts a server.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from tasks.doctor.alerts import alerts
from tasks.doctor.findings import Case, Finding, fine, warning, wrong
from tasks.errors import SettingsError
from tasks.scratch import probing

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from tasks.operate.plan import Deployment

PATIENCE = 5.0  # seconds that a server has for its first answer
FLOWS = Path(__file__).parents[2] / "flows"


def prefect_home(case: Case) -> Iterator[Finding]:
    """Prefect can keep its own database and profiles."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    above = next((each for each in (home, *home.parents) if each.exists()), home)
    try:
        with probing(above):
            pass
    except OSError as error:
        yield wrong(
            f"PREFECT_HOME = {home} cannot be written: {error.strerror or error}",
            "let PREFECT_HOME name a folder that can be written",
        )
    else:
        yield fine(f"{home} can be written")


def prefect_server(case: Case) -> Iterator[Finding]:
    """The server that PREFECT_API_URL names answers, and is of the same version."""
    url = _api_url()
    if url is None:
        yield fine("no server is named: each night starts one of its own")
        return
    try:
        answer = httpx.get(f"{url}/health", timeout=PATIENCE)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        yield wrong(
            f"the server of PREFECT_API_URL = {_shown(url)} does not answer: {_why(error)}",
            "start it (prefect server start), mend PREFECT_API_URL, or unset it: nights then "
            "start a server of their own",
        )
        return
    yield from _version(url)


def _api_url() -> str | None:
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    return None if url is None else str(url).rstrip("/")


def _shown(url: str) -> str:
    """Without what may be a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it says {error.response.status_code}"
    return type(error).__name__


def _version(url: str) -> Iterator[Finding]:
    import prefect
    from prefect import get_client

    with get_client(sync_client=True) as client:
        server = client.api_version()
    if server.split(".")[:2] != prefect.__version__.split(".")[:2]:
        yield warning(
            f"the server is Prefect {server}, this is {prefect.__version__}",
            f"run the server with pip install 'prefect=={prefect.__version__}'",
        )
    else:
        yield fine(f"{_shown(url)} answers, Prefect {server}")


def deployments(case: Case) -> Iterator[Finding]:
    """Where nights are scheduled, somebody is there to run them."""
    from prefect import get_client

    url = _api_url()
    if url is None or not _answers(url):
        yield fine("no server to look at")
        return
    with get_client(sync_client=True) as client:
        ours = [each for each in client.read_deployments() if _is_ours(each)]
        pools = {pool.name: pool for pool in client.read_work_pools()}
        for each in ours:
            yield from _deployment(each)
        for name in sorted({each.work_pool_name for each in ours if each.work_pool_name}):
            yield from _pool(client, name, is_paused=name in pools and pools[name].is_paused)
    if not ours:
        yield fine("nothing is deployed: nights run by hand")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=PATIENCE).is_success
    except httpx.HTTPError:
        return False


def _is_ours(deployment: "DeploymentResponse") -> bool:
    """Whether it runs one of our flows; other people's may be on the server too.

    Its entry is a file and a function (flows/nightly.py:nightly) or both as a module has them.
    """
    entry = deployment.entrypoint or ""
    is_file = Path(entry.split(":")[0]).name in {path.name for path in FLOWS.glob("*.py")}
    return is_file or entry.split(".")[0] == FLOWS.name


def _deployment(deployment: "DeploymentResponse") -> Iterator[Finding]:
    name = deployment.name
    if deployment.paused:
        fix = f"prefect deployment schedule resume, or prefect deployment run for {name}"
        yield warning(f"the deployment {name} is paused", fix)
    elif deployment.work_pool_name is None and str(deployment.status) == "NOT_READY":
        yield wrong(
            f"the deployment {name} has no work pool and nobody serves it: its runs stay late",
            f"deploy {name} again with a work pool",
        )
    else:
        yield fine(f"{name}: {len(deployment.schedules)} schedule(s)")


def _pool(client: "SyncPrefectClient", name: str, *, is_paused: bool) -> Iterator[Finding]:
    from prefect.client.schemas.objects import WorkerStatus

    if is_paused:
        yield wrong(f"the work pool {name} is paused", f"prefect work-pool resume {name}")
        return
    workers = client.read_workers_for_work_pool(name)
    online = [each for each in workers if each.status == WorkerStatus.ONLINE]
    if online:
        yield fine(f"work pool {name}: {len(online)} worker(s) online")
    else:
        yield wrong(
            f"the work pool {name} has no worker: nights that are due will not run",
            f"prefect worker start --pool {name}",
        )


def as_planned(case: Case) -> Iterator[Finding]:
    """What is deployed is what the plan says, and all of it is deployed."""
    from prefect import get_client

    from tasks.operate.applying import refuse_unfit
    from tasks.operate.plan import DEFAULT_PLAN, read_plan

    plan, url = read_plan(case.plan_file), _api_url()
    try:
        refuse_unfit(plan)
    except SettingsError as error:
        where = f"{case.plan_file or DEFAULT_PLAN}, {error.where}"
        yield wrong(error.what, f"{where}: {error.fix}")
        return
    if url is None or not _answers(url):
        yield fine("no server to look at")
        return
    file = "" if case.plan_file is None else f" --file {case.plan_file}"
    with get_client(sync_client=True) as client:
        if any(_is_ours(each) for each in client.read_deployments()):
            for planned in plan.deployments:
                yield _as_planned(client, planned, file)
        else:
            yield fine("nothing is deployed")


def _as_planned(client: "SyncPrefectClient", planned: "Deployment", file: str) -> Finding:
    from prefect.exceptions import ObjectNotFound

    from tasks.operate.applying import differences
    from tasks.operate.plan import on_gpu

    try:
        found = client.read_deployment_by_name(planned.full_name)
    except ObjectNotFound:
        return warning(f"{planned.full_name} is not deployed", f"nightrank deploy{file}")
    is_on_gpu = found.work_pool_name == "gpu"
    others = differences(on_gpu(planned) if is_on_gpu else planned, found)
    if others:
        gpu = " --gpu" if is_on_gpu else ""
        return warning(
            f"{planned.full_name} is deployed with other {'; '.join(others)}",
            f"nightrank deploy{file}{gpu}",
        )
    return fine(f"{planned.full_name} is as planned")


CHECKS = (prefect_home, prefect_server, deployments, as_planned, alerts)
