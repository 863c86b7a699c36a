"""Plans whose driver died: nothing of them runs, whatever the table says. Light to import.

The processes of a driver that died end with it, but not at the same moment: before the table says
of a night that it waits, those of this machine that still work at its plan are ended.
"""

from dataclasses import replace

from tasks.backfill import ledger
from tasks.backfill.ledger import Entry
from tasks.lake import leases
from tasks.lake.tables import Lake
from tasks.scratch import end_those, those_known_as


def plan_lease(plan_id: str) -> str:
    """The lease that whoever drives a plan holds."""
    return f"backfill plan {plan_id}"


def known_name(plan_id: str) -> str:
    """What the processes that make a plan's nights are known as on their machine."""
    return f"backfill-{plan_id}"


def look(lake: Lake) -> tuple[dict[str, list[Entry]], set[str]]:
    """All plans, and the leases of those that somebody drives; the plans are read first.

    Nothing is written, not even an empty table.
    """
    as_it_is = replace(lake, only_read=True)
    plans = ledger.by_plan(as_it_is)
    return plans, _driven(as_it_is)


def _driven(lake: Lake) -> set[str]:
    return {each.name for each in leases.holders(lake) if not each.is_dead()}


def bury(lake: Lake, plans: dict[str, list[Entry]], driven: set[str]) -> list[str]:
    """Let nights that are written as running wait again, of plans that nobody drives.

    Returns a line for each plan. Nothing is written where there is none.
    """
    said = []
    for plan_id, entries in plans.items():
        running = {each.run_id for each in entries if each.state == "running"}
        if running and plan_lease(plan_id) not in driven:
            left = those_known_as(known_name(plan_id))
            # found before this look: where nobody drives the plan, they are of a driver that died
            if plan_lease(plan_id) in _driven(lake):
                continue
            end_those(left)
            dead = ledger.bury(lake, plan_id, running)
            days = ", ".join(str(each.ds) for each in dead)
            said += [f"plan {plan_id}: the process that made {days} died; it waits"] if dead else []
    return said


def note_deaths(lake: Lake) -> list[str]:
    """Look, and bury what is dead; a line for each plan."""
    return bury(lake, *look(lake))
