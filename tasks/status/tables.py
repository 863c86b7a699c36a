"""Each stored table: version, rows, checks, how far behind its data are, and what is stale."""

from collections.abc import Sequence
from datetime import date, timedelta

import sql
from expectations.catalogue import Table, stored
from tasks.estimate.propensities import steps
from tasks.lake.session import Session
from tasks.lake.tables import ABSENT, Pinned
from tasks.shop import Shop, parameters
from tasks.status import causes
from tasks.status.causes import Change
from tasks.status.records import Cause, Checks, State, TableStatus
from tasks.transform import StaleDay, stale_days


def tables(
    s: Session, shop: Shop, newest: date | None, found: Sequence[Change]
) -> tuple[TableStatus, ...]:
    """Every table that is stored, in the order of the catalogue."""
    checked, mended = _checks(s), causes.of_mappings(s, shop.mapping)
    return tuple(
        _table(s, shop, table, newest, found, checked.get(name), mended.get(name))
        for name, table in stored().items()
    )


def _checks(s: Session) -> dict[str, Checks]:
    """The verdicts of the last run that checked anything."""
    days = sorted(s.lake.pin("ops.nights").days())
    # Runs are kept by the date of their night: the last runs are of few dates.
    s.read("ops.checks", since=days[-7] if len(days) > 7 else None)
    rows = s.rows(sql.read("queries/status_checks"))
    return {row[0]: Checks(*row[1:]) for row in rows}


def _table(
    s: Session,
    shop: Shop,
    table: Table,
    newest: date | None,
    found: Sequence[Change],
    checked: Checks | None,
    mended: Cause | None,
) -> TableStatus:
    pinned = shop.lake.pin(table.name)
    last = max(pinned.days(), default=None) if "ds" in table.partition_by else None
    behind = (newest - last).days if newest and last and table.layer != "ops" else None
    stale = _stale_days(s, shop, table, newest, pinned)
    why = [mended] if mended else _causes(shop, table, stale, found)
    state = _state(table, pinned, behind, causes.state_of(why))
    return TableStatus(
        name=table.name,
        version=pinned.version,
        n_rows=n_rows(pinned),
        newest=last,
        days_behind=behind,
        fresh_within_days=table.fresh_within_days,
        state=state,
        stale_days=tuple(each.day for each in stale),
        causes=causes.told(why),
        mend=None if state in ("fresh", "absent") else "nightrank run",
        checks=checked,
    )


def _stale_days(
    s: Session, shop: Shop, table: Table, newest: date | None, pinned: Pinned
) -> list[StaleDay]:
    is_built = table.layer == "features" and table.kind == "increment"
    if not is_built or newest is None or pinned.version == ABSENT:
        return []
    return stale_days(s, table.name, parameters(shop, newest), steps(shop).get(table.name))


def _causes(
    shop: Shop, table: Table, stale: Sequence[StaleDay], found: Sequence[Change]
) -> list[Cause]:
    looks_back = shop.mapping.behaviours.history_days - 1 if table.lookback != "day" else 0
    why = causes.of_days(stale, found, timedelta(days=looks_back))
    if stale and not why:
        # counts of records stayed as they were, so that no file tells
        what = "records that it is made of were written anew, as after a mended mapping"
        why = [Cause("mended mapping", what)]
    return why


def _state(table: Table, pinned: Pinned, behind: int | None, stale: State) -> State:
    if pinned.version == ABSENT:
        return "absent"
    if stale == "stale":
        return "stale"
    if behind is not None and behind >= table.fresh_within_days:
        return "behind"
    return stale


def n_rows(pinned: Pinned) -> int:
    """Rows of a table, from its log alone."""
    return int(sum(count or 0 for count in pinned.actions.column("num_records").to_pylist()))
