"""What is served, how fresh each table is, which days are stale, and what is waited for."""

from dataclasses import dataclass
from datetime import date, timedelta

import sql
from expectations.catalogue import Table, stored
from tasks.errors import NightrankError
from tasks.estimate.propensities import steps
from tasks.ingest.landing import arrival
from tasks.lake.session import Session, session
from tasks.lake.tables import Pinned
from tasks.serve.publications import Publication, history, served
from tasks.shop import Shop, parameters
from tasks.transform import stale_days


@dataclass(frozen=True)
class TableStatus:
    """One stored table; `days_behind` counts from the newest date that has landed."""

    name: str
    version: int
    n_rows: int
    newest: date | None
    days_behind: int | None
    is_fresh: bool
    stale: tuple[date, ...]


@dataclass(frozen=True)
class Status:
    """The state of a shop."""

    serving: Publication | None
    last_nights: tuple[tuple[date, str, str], ...]
    tables: tuple[TableStatus, ...]
    stale_nights: tuple[tuple[date, int, str], ...]  # date, files that changed, one of them
    landed: str
    n_quarantined: int


def status(shop: Shop) -> Status:
    """Look at everything and change nothing but absent, empty tables."""
    with session(shop.lake, shop.settings.compute) as s:
        serving = served(history(s))
        newest, landed = _landed(shop)
        tables = tuple(_table(s, shop, table, newest) for table in stored().values())
        s.read("ops.nights")
        nights = s.rows("SELECT ds, outcome, reason FROM ops.nights ORDER BY ended_at DESC LIMIT 5")
        s.read("ops.quarantine")
        n_quarantined = s.value("SELECT count(*) FROM ops.quarantine")
        stale = tuple(_stale_nights(s, shop))
    return Status(serving, tuple(nights), tables, stale, landed, n_quarantined)


def _stale_nights(s: Session, shop: Shop) -> list[tuple[date, int, str]]:
    """Nights whose window changed after they had ended: late, mended or withdrawn rows."""
    for name in ("ops.nights", "ops.files", "ops.row_moves"):
        s.read(name)
    window = timedelta(days=shop.mapping.behaviours.history_days - 1)
    return s.rows(sql.read("queries/status_stale_nights"), {"window": window})


def _landed(shop: Shop) -> tuple[date | None, str]:
    """The newest whole date, and what is said of those that are not whole."""
    try:
        found = arrival(shop.landing, shop.mapping, None)
    except NightrankError as error:
        return None, error.what
    day = found.ds or max(shop.lake.pin("clean.events").days(), default=None)
    waiting = "; ".join(found.waiting)
    return day, f"newest whole date: {day}" + (f"; {waiting}" if waiting else "")


def _table(s: Session, shop: Shop, table: Table, newest: date | None) -> TableStatus:
    pinned = shop.lake.pin(table.name)
    has_days = "ds" in table.partition_by
    days = [day for day, _ in pinned.days().items()] if has_days else []
    last = max(days, default=None)
    behind = (newest - last).days if newest and last and table.layer != "ops" else None
    stale: list[date] = []
    if table.layer == "features" and table.kind == "increment" and newest:
        stale = stale_days(s, table.name, parameters(shop, newest), steps(shop).get(table.name))
    is_fresh = (behind is None or behind < table.fresh_within_days) and not stale
    return TableStatus(
        table.name, pinned.version, _n_rows(pinned), last, behind, is_fresh, tuple(stale)
    )


def _n_rows(pinned: Pinned) -> int:
    """Rows of a table, from its log alone."""
    actions = pinned.actions
    return int(sum(count or 0 for count in actions.column("num_records").to_pylist()))
