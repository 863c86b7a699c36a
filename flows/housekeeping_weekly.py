"""Housekeeping of the lake: retention, compaction, vacuum.

Reads and rewrites files below the lake; no row that is in anybody's history changes.
"""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from tasks import steps
from tasks.housekeeping import housekeep
from tasks.shop import open_shop


@flow(
    name="housekeeping-weekly",
    persist_result=False,
    log_prints=False,
    on_failure=[steps.tell_failure],
)
def housekeeping_weekly(
    settings: Path | None = None,
    mapping: str | None = None,
    landing: str | Path | None = None,
    lake: str | Path | None = None,
) -> int:
    """Do every chore; returns how many bytes the lake became smaller.

    Raises a NightrankError where the lake cannot be read or written.
    """
    chores = []
    for chore in housekeep(open_shop(settings, mapping, landing, lake)):
        get_run_logger().info("%s: %s", chore.what, chore.did)
        chores.append(chore)
    create_table_artifact([vars(each) for each in chores], key="chores", description="chores")
    return sum(each.bytes_before - each.bytes_after for each in chores)
