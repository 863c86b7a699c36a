"""Automations as code: what the server does when a run or a night goes wrong.

Runs that died are marked by the server itself: silent for SILENT seconds, a run has crashed.
Whoever is to be told gets a webhook call, an e-mail, or both; without either in the settings the
automations stand there, and what happened stands in the events of the UI alone.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.core import Block, UnknownBlockType
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import (
    ActionTypes,
    CallWebhook,
    ChangeFlowRunState,
    DoNothing,
    SendNotification,
)
from prefect.events.schemas.automations import (
    AutomationCore,
    EventTrigger,
    Posture,
)
from prefect.events.schemas.events import ResourceSpecification
from prefect.types import SecretDict
from pydantic import SecretStr

from tasks.errors import SettingsError
from tasks.operate.applying import Applied, Became
from tasks.operate.calling import NightrankWebhook
from tasks.operate.mailing import NightrankMail
from tasks.settings import Alerts, Mail

TAG = "nightrank"  # of every deployment in prefect.yaml
SILENT = timedelta(seconds=90)  # three heartbeats
UNSTARTED = timedelta(seconds=110)  # from having been handed to a worker to running
BLOCK = "nightrank-alerts"
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled")}
BEGUN = {*ENDED, "prefect.flow-run.Running"}

Facts = dict[str, str]  # what is told: the name of a fact, and the expression that the server fills
_OF_NIGHT: Facts = {name: f"event.payload.{name}" for name in ("ds", "outcome", "reason", "page")}


@dataclass(frozen=True)
class Receivers:
    """The blocks that are told, by the id under which the server keeps them."""

    webhook: UUID | None = None
    mail: UUID | None = None


def apply_alerts(client: SyncPrefectClient, alerts: Alerts) -> list[Applied]:
    """Make the server hold exactly these automations, and the blocks that they tell.

    Raises SettingsError as `refuse_untellable` does.
    """
    receivers, done = _receivers(client, alerts)
    return done + [_automation(client, each) for each in automations(alerts, receivers)]


def refuse_untellable(alerts: Alerts) -> None:
    """Raise SettingsError where a variable that the settings name is not set, or holds no URL."""
    _webhook(alerts)
    _mail(alerts.mail)


def automations(alerts: Alerts, receivers: Receivers) -> list[AutomationCore]:
    """All of them: two that mark the dead, three about runs, four about nights, one about these."""
    late, stuck = timedelta(minutes=alerts.late_minutes), timedelta(minutes=alerts.stuck_minutes)
    silent = _missing({"prefect.flow-run.heartbeat"}, {"prefect.flow-run.heartbeat"}, SILENT)
    unstarted = _missing({"prefect.flow-run.Pending"}, BEGUN, UNSTARTED)
    lately = "it has not started {:g} minutes after its time: is a worker up?"
    marking = [
        _marking("silent", silent, f"it was silent for {SILENT.seconds} seconds: its process died"),
        _marking("unstarted", unstarted, "its process never began to run"),
    ]
    telling = [
        _about_run("crashed", receivers, _seen("prefect.flow-run.Crashed", of_runs=True), None),
        _about_run(
            "late",
            receivers,
            _missing({"prefect.flow-run.Late"}, BEGUN, late),
            lately.format(alerts.late_minutes),
        ),
        _about_run(
            "stuck",
            receivers,
            _missing({"prefect.flow-run.Running"}, set(), stuck),
            f"it has been running for {alerts.stuck_minutes:g} minutes",
        ),
        _about_night("held", receivers, "nightrank.night.held"),
        _about_night("failed", receivers, "nightrank.*.failed"),
        _about_night("failed-contract", receivers, "nightrank.night.failed-contract"),
        _about_night("stale", receivers, "nightrank.data.stale"),
    ]
    return [*marking, *telling, _about_alerts(receivers, [each.name for each in telling])]


def _missing(after: set[str], expect: set[str], within: timedelta) -> EventTrigger:
    """A run of ours that did the first and then none of the second, nor ended, for so long."""
    return EventTrigger(
        after=after,
        expect=expect | ENDED,
        match=_runs(),
        match_related=_ours(),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _seen(event: str, *, of_runs: bool = False) -> EventTrigger:
    """An event that happened, each time."""
    return EventTrigger(
        expect={event},
        match=_runs() if of_runs else ResourceSpecification({}),
        match_related=_ours() if of_runs else ResourceSpecification({}),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _runs() -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})


def _ours() -> ResourceSpecification:
    return ResourceSpecification(
        {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
    )


def _marking(name: str, trigger: EventTrigger, why: str) -> AutomationCore:
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=why, force=False)
    return _core(name, trigger, [crash], f"Marks a run as crashed: {why}.")


def _about_run(
    name: str, receivers: Receivers, trigger: EventTrigger, why: str | None
) -> AutomationCore:
    reason = "flow_run.state.message" if why is None else json.dumps(why)
    facts = {"run": "flow_run.name", "outcome": json.dumps(name), "reason": reason}
    return _core(name, trigger, _telling(name, receivers, facts), f"Tells of a run that is {name}.")


def _about_night(name: str, receivers: Receivers, event: str) -> AutomationCore:
    telling = _telling(name, receivers, _OF_NIGHT)
    return _core(name, _seen(event), telling, f"Tells of a night: {name}.")


def _about_alerts(receivers: Receivers, names: list[str]) -> AutomationCore:
    """Of two receivers the other is told, of one the same again; this one's own failures are not.

    Every failure stands in the events of the UI.
    """
    failed = _seen("prefect.automation.action.failed").model_copy(
        update={"match": ResourceSpecification({"prefect.resource.name": names})}
    )
    facts = {"run": "event.resource.name", "outcome": '"untold"', "reason": "event.payload.reason"}
    telling = _telling("untold", receivers, facts)
    return _core("untold", failed, telling, "Tells of an alert that could not be told.")


def _telling(name: str, receivers: Receivers, facts: Facts) -> list[ActionTypes]:
    """Every receiver is told the same facts; `text` is what chats show of a webhook call."""
    which = facts.get("run", "event.payload.ds")
    text = f"'nightrank: ' ~ ({which} or 'a run') ~ ': {name}: ' ~ {facts['reason']}"
    all_facts = {"alert": json.dumps(name), **facts, "text": text}
    told: list[ActionTypes] = []
    if receivers.webhook is not None:
        pairs = [f"{json.dumps(key)}: {{{{ ({it}) | tojson }}}}" for key, it in all_facts.items()]
        payload = "{" + ", ".join(pairs) + "}"
        told.append(CallWebhook(block_document_id=receivers.webhook, payload=payload))
    if receivers.mail is not None:
        lines = [f"{key}: {{{{ {it} }}}}" for key, it in facts.items()]
        subject = f"nightrank: {{{{ {which} or 'a run' }}}}: {name}"
        told.append(
            SendNotification(
                block_document_id=receivers.mail, subject=subject, body="\n".join(lines)
            )
        )
    return told or [DoNothing()]


def _core(
    name: str, trigger: EventTrigger, actions: list[ActionTypes], about: str
) -> AutomationCore:
    return AutomationCore(
        name=f"nightrank: {name}",
        description=about,
        tags=[TAG],
        trigger=trigger,
        actions=actions,
    )


def _automation(client: SyncPrefectClient, wanted: AutomationCore) -> Applied:
    """Make it so; one that a person has switched off stays off, and a double of its name goes."""
    there = client.read_automations_by_name(wanted.name)
    for double in there[1:]:
        client.delete_automation(double.id)
    if not there:
        client.create_automation(wanted)
        return Applied("automation", wanted.name, "made")
    wanted = wanted.model_copy(update={"enabled": there[0].enabled})
    if _shown(there[0]) == _shown(wanted):
        return Applied("automation", wanted.name, "as it was")
    client.update_automation(there[0].id, _all_set(wanted))
    return Applied("automation", wanted.name, "changed")


def _shown(automation: AutomationCore) -> dict[str, Any]:
    facts = {"name", "description", "enabled", "tags", "trigger", "actions"}
    return automation.model_dump(
        mode="python", include=facts, exclude={"trigger": {"id"}, "actions": {"__all__": {"id"}}}
    )


def _all_set(automation: AutomationCore) -> AutomationCore:
    """The client sends only what was set: all of it."""
    return AutomationCore(**automation.model_dump())


def _receivers(client: SyncPrefectClient, alerts: Alerts) -> tuple[Receivers, list[Applied]]:
    webhook, mail = _webhook(alerts), _mail(alerts.mail)
    ids: dict[str, UUID] = {}
    done = []
    for name, block in (("webhook", webhook), ("mail", mail)):
        if block is not None:
            ids[name], applied = _saved(client, f"{BLOCK}-{name}", block)
            done.append(applied)
    return Receivers(**ids), done


def _webhook(alerts: Alerts) -> NightrankWebhook | None:
    if alerts.webhook is None:
        return None
    url = SecretStr(_url(alerts.webhook, "alerts.webhook"))
    return NightrankWebhook(url=url, headers=SecretDict({"Content-Type": "application/json"}))


def _url(variable: str, key: str) -> str:
    url = _secret(variable, key).strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SettingsError(
            f"the environment variable {variable} holds no URL",  # nor is it told: it is a secret
            where=key,
            unchanged="nothing on the server was changed",
            fix=f"set {variable} to https://..., or take {key} out of the settings",
        )
    return url


def _mail(mail: Mail | None) -> NightrankMail | None:
    if mail is None:
        return None
    facts = mail.model_dump(exclude={"password"}) | {"recipients": list(mail.recipients)}
    if mail.password is not None:
        facts["password"] = SecretStr(_secret(mail.password, "alerts.mail.password"))
    return NightrankMail(**facts)


def _secret(variable: str, key: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise SettingsError(
            f"the environment variable {variable} is not set",
            where=key,
            unchanged="nothing on the server was changed",
            fix=f"set {variable}, or take {key} out of the settings",
        )
    return value


def _saved(client: SyncPrefectClient, name: str, block: Block) -> tuple[UUID, Applied]:
    """Keep a block under its name, unless it is there as it is to be."""
    slug = type(block).get_block_type_slug()
    before: Block | None = None
    with suppress(ValueError, UnknownBlockType):  # no such block; or one of another version of ours
        before = cast(Block, type(block).load(name))
    if before is None or _facts(before) != _facts(block):
        block.save(name, overwrite=True)
    document = client.read_block_document_by_name(name, slug)
    became: Became = "made"
    if before is not None:
        became = "as it was" if _facts(before) == _facts(block) else "changed"
    return document.id, Applied("block", name, became)


def _facts(block: Block) -> dict[str, Any]:
    """What a block holds, secrets too."""
    return {name: getattr(block, name) for name in type(block).model_fields}
