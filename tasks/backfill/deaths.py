"""Plans whose driver died: nothing of them runs, whatever the table says. Light to import.

The processes of a driver that died end with it, but not at the same moment: before the table says
of a night that it waits, those that still work at its plan are ended. Those of this machine, that
is, where it has a /proc, which does not hide them (another account's, where it is mounted with
hidepid), and outside of containers of their own; of others the lease alone tells, which outlives a
driver by more than its processes do.
"""

from dataclasses import replace
from pathlib import Path

from tasks.backfill import ledger
from tasks.backfill.ledger import Entry
from tasks.lake import leases
from tasks.lake.tables import Lake
from tasks.processes import Process, end, those_known_as


def plan_lease(plan_id: str) -> str:
    """The lease that whoever drives a plan holds."""
    return f"backfill plan {plan_id}"


def known_name(lake: Lake, plan_id: str) -> str:
    """What the processes that make a plan's nights are known as on their machine.

    A copy of a lake has the same plans: the name tells them apart.
    """
    root = lake.root
    where = root.resolve() if isinstance(root, Path) else f"{root.reached.address} {root}"
    return f"backfill {plan_id} {where}"


def drivers(lake: Lake, plan_id: str) -> list[leases.Lease]:
    """The leases of those that drive a plan; more than none is one. Nothing is written."""
    held = leases.holders(replace(lake, only_read=True), plan_lease(plan_id))
    return [each for each in held if not each.is_dead()]


def look(lake: Lake) -> dict[str, list[Entry]]:
    """All plans. Nothing is written, not even an empty table."""
    return ledger.by_plan(replace(lake, only_read=True))


def bury(lake: Lake, plans: dict[str, list[Entry]]) -> list[str]:
    """Let nights that are written as running wait again, of plans that nobody drives.

    Returns a line for each plan. Nothing is written where there is none. Where a process that works
    at a plan could not be ended, which another account may have started, its nights do run: they
    are left to the next look.
    """
    said = []
    for plan_id, entries in plans.items():
        running = {each.run_id for each in entries if each.state == "running"}
        if running and _is_dead(lake, plan_id):
            dead = ledger.bury(lake, plan_id, running)
            days = ", ".join(str(each.ds) for each in dead)
            said += [f"plan {plan_id}: the process that made {days} died; it waits"] if dead else []
    return said


def _is_dead(lake: Lake, plan_id: str) -> bool:
    """Whether nobody drives a plan and nothing works at it, once what a driver left is ended."""
    name = known_name(lake, plan_id)
    found = those_known_as(name)
    # found before this look: where nobody drives the plan, they are of a driver that died. What has
    # a name since may be of a new one: it is left to the next look.
    return not drivers(lake, plan_id) and not end(found) and not those_known_as(name)


def end_orphans(lake: Lake, plan_id: str) -> list[Process]:
    """End what works at a plan; returns what is left.

    For whoever has its lease, and has started nothing yet: all that is there is of a dead driver.
    """
    name = known_name(lake, plan_id)
    while found := those_known_as(name):  # and again: one of them may have forked before its end
        if left := end(found):
            return left
    return []


def note_deaths(lake: Lake) -> list[str]:
    """Look, and bury what is dead; a line for each plan."""
    return bury(lake, look(lake))
