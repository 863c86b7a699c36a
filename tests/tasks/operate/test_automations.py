import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from tasks.errors import SettingsError
from tasks.operate.automations import Receivers, _webhook, automations
from tasks.operate.plan import SHIPPED_PLAN, read_plan
from tasks.settings import Alerts

NAMES = ["crashed", "late", "stuck", "held", "failed", "failed-contract", "stale", "untold"]


def test_without_receivers_they_stand_there_and_do_nothing() -> None:
    found = automations(Alerts(), Receivers())
    assert [each.name for each in found[2:]] == [f"nightrank: {name}" for name in NAMES]
    assert {each.actions[0].type for each in found[2:]} == {"do-nothing"}
    marking = {each.name: each.actions[0].type for each in found[:2]}
    assert set(marking.values()) == {"change-flow-run-state"}


def test_receivers_are_told_by_each() -> None:
    told = automations(Alerts(), Receivers(uuid4(), uuid4()))[2:]
    kinds = {tuple(action.type for action in each.actions) for each in told}
    assert kinds == {("call-webhook", "send-notification")}


def rendered(payload: str, **facts: Any) -> Any:
    from prefect.server.utilities.user_templates import render_user_template

    return json.loads(asyncio.run(render_user_template(payload, facts)))


def test_a_call_is_json_whatever_the_reason_holds() -> None:
    held = next(
        each for each in automations(Alerts(), Receivers(uuid4())) if each.name.endswith("held")
    )
    reason = 'he said "no" <b>\n\\ and left'
    facts = {"ds": "2026-01-25", "outcome": "held", "reason": reason, "page": None}
    call = rendered(held.actions[0].model_dump()["payload"], event={"payload": facts})
    assert call == {
        "alert": "held",
        **facts,
        "text": f"nightrank: 2026-01-25: held: {reason}",
    }


def test_a_run_is_told_by_its_name() -> None:
    crashed = automations(Alerts(), Receivers(uuid4()))[2]
    run = {"name": "nightly of the newest date", "state": {"message": "gone"}}
    call = rendered(crashed.actions[0].model_dump()["payload"], flow_run=run)
    assert (call["run"], call["outcome"], call["reason"]) == (run["name"], "crashed", "gone")


def test_dead_runs_are_marked_within_two_minutes_of_the_heartbeats_that_runs_send() -> None:
    silent, unstarted = automations(Alerts(), Receivers())[:2]
    beats = {
        int(each.work_pool.job_variables["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        for each in read_plan(SHIPPED_PLAN).deployments
    }
    assert beats == {30}
    for each in (silent, unstarted):
        within = each.trigger.model_dump()["within"].total_seconds()
        assert 2 * max(beats) < within < 120


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTRANK_NO_SUCH", raising=False)
    with pytest.raises(SettingsError, match="NIGHTRANK_NO_SUCH is not set"):
        _webhook(Alerts(webhook="NIGHTRANK_NO_SUCH"))


@pytest.mark.parametrize("value", ["hidden", "https://", "ftp://hidden/", "hidden:443"])
def test_what_is_no_url_is_refused_and_not_told(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTRANK_HOOK", value)
    with pytest.raises(SettingsError, match="NIGHTRANK_HOOK holds no URL") as told:
        _webhook(Alerts(webhook="NIGHTRANK_HOOK"))
    assert "hidden" not in str(told.value)
    monkeypatch.setenv("NIGHTRANK_HOOK", "https://hooks.example/hidden\n")
    block = _webhook(Alerts(webhook="NIGHTRANK_HOOK"))
    assert block is not None
    assert block.url.get_secret_value() == "https://hooks.example/hidden"


def test_a_secret_is_no_name_of_a_variable() -> None:
    with pytest.raises(ValueError, match="webhook"):
        Alerts(webhook="https://hooks.example/secret")
