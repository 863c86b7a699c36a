"""Between nights: whether anything has landed that a night would read."""

from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.errors import SourceError
from tasks.ingest.deliveries import new_deliveries
from tasks.ingest.landing import arrival
from tasks.lake.session import session
from tasks.night import Night, new_run_id
from tasks.shop import Shop

HOUR = "hour-"  # how the ids of these runs begin: no end of a night is looked for


@dataclass(frozen=True)
class Look:
    """What an hour finds: a night of which only the ingest is run, or what is waited for."""

    night: Night | None
    waits_for: str = ""


def look(shop: Shop) -> Look:
    """Look for files that a night would read and that are not in the clean tables yet.

    Files that have not arrived are no error of an hour: the night says so, loudly, when it is due.
    """
    started_at = datetime.now(UTC)
    try:
        found = arrival(shop.landing, shop.mapping, None)
    except SourceError as error:
        return Look(None, f"nothing to ingest: {error.what}")
    with session(shop.lake, shop.settings.compute) as s:
        new = new_deliveries(s, shop.landing, shop.mapping, found.files)
    if not new:
        waiting = "; ".join(found.waiting)
        return Look(None, "nothing to ingest" + (f": {waiting}" if waiting else ""))
    return Look(Night(shop, f"{HOUR}{new_run_id()}", started_at, found, found.ds))
