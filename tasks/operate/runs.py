"""Runs in progress, as the server knows them: which died unseen, and which are to be cancelled."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Cancelling, Crashed

from tasks.operate.automations import SILENT, TAG, UNSTARTED

IN_PROGRESS = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def in_progress(client: SyncPrefectClient) -> list[FlowRun]:
    """The runs of our deployments that have been handed to a worker and have not ended."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=IN_PROGRESS))
    wanted = FlowRunFilter(state=state, tags=FlowRunFilterTags(all_=[TAG]))
    return client.read_flow_runs(flow_run_filter=wanted)


def crash_the_dead(client: SyncPrefectClient) -> list[str]:
    """Mark what died while no server watched, and so no automation could; returns their names.

    To be called only once the server has been up for SILENT: before, no heartbeat could reach it.
    """
    dead = [run for run in in_progress(client) if _is_dead(client, run)]
    for run in dead:
        why = "it was silent while no server watched: its process died"
        client.set_flow_run_state(run.id, Crashed(message=why))
    return [run.name for run in dead]


def _is_dead(client: SyncPrefectClient, run: FlowRun) -> bool:
    assert run.state is not None
    now, since = datetime.now(UTC), run.state.timestamp
    if run.state.type == StateType.PENDING:
        return now - since > UNSTARTED
    return now - since > SILENT and not _has_heartbeat(client, run, now - SILENT)


def _has_heartbeat(client: SyncPrefectClient, run: FlowRun, since: datetime) -> bool:
    wanted: dict[str, Any] = {
        "occurred": {"since": since.isoformat(), "until": _soon().isoformat()},
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
    }
    found = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    return bool(found.raise_for_status().json()["events"])


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)  # clocks of machines differ


def ask_to_cancel(client: SyncPrefectClient, runs: list[FlowRun], why: str) -> None:
    """Their workers end them."""
    for run in runs:
        client.set_flow_run_state(run.id, Cancelling(message=why))


def have_cancelled(client: SyncPrefectClient, runs: list[FlowRun], why: str) -> None:
    """Their processes have been ended: say so of those that the worker said nothing of."""
    ours = {run.id for run in runs}
    for run in in_progress(client):
        if run.id in ours:
            client.set_flow_run_state(run.id, Cancelled(message=why), force=True)
