"""Bring what has landed into the clean tables, hour by hour; nothing is published.

Reads landing/, writes clean.* and ops.* of the lake. Of dates whose files have not all arrived it
takes nothing, like the night: a night is the same whether the hours before it ran or not.
"""

from pathlib import Path

from prefect import flow, get_run_logger

from tasks import steps
from tasks.hours import look
from tasks.shop import open_shop


@flow(name="ingest-hourly", persist_result=False, log_prints=False, on_failure=[steps.tell_failure])
def ingest_hourly(
    settings: Path | None = None,
    mapping: str | None = None,
    landing: str | Path | None = None,
    lake: str | Path | None = None,
) -> str:
    """Ingest and check what is new; says what it did in one sentence.

    Raises a NightrankError where files cannot be read, break a contract or fail a critical check.
    """
    found = look(open_shop(settings, mapping, landing, lake))
    said = found.waits_for
    if found.night is not None:
        said = f"ingested what had landed up to {steps.gather(found.night).day}"
    get_run_logger().info(said)
    return said
