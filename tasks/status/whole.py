"""All of it: what is served, what has landed, the tables, the runs, and what is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from tasks.errors import NightrankError
from tasks.ingest.landing import arrival
from tasks.lake.session import Session, session
from tasks.serve.holds import holds, standing
from tasks.serve.publications import Publication, history, served
from tasks.serve.release import release_id
from tasks.shop import Shop
from tasks.status import causes, runs
from tasks.status.causes import Change
from tasks.status.disk import disk
from tasks.status.records import (
    Cause,
    Hold,
    Landing,
    NightRun,
    Problem,
    ProblemKind,
    Serving,
    Status,
    TableStatus,
    Unfinished,
)
from tasks.status.tables import n_rows, tables

GO_ON = 'nightrank rollback --resume --reason "why it may go on"'


def status(shop: Shop, max_age: int | None = None) -> Status:
    """Look at everything and change nothing.

    With `max_age`, what is served is late if it is of a date more than so many days before today
    (UTC).
    """
    shop = replace(shop, only_read=True)
    with session(shop.lake, shop.settings.compute) as s:
        found = causes.changes(s)
        landing = _landing(shop)
        newest = landing.newest
        serving = _serving(s, shop, found)
        hold = standing(holds(s))
        all_tables = tables(s, shop, newest, found)
        ended, open_runs = runs.nights(s), runs.unfinished(s)
        missing = runs.missing_nights(s, newest)
        return Status(
            problems=(
                *_of_serving(serving, newest, max_age),
                *_of_tables(all_tables, newest),
                *_of_runs(ended, open_runs, serving),
            ),
            landing=landing,
            serving=serving,
            hold=None if hold is None else Hold(hold.reason, hold.who, hold.decided_at, GO_ON),
            nights=ended,
            unfinished=open_runs,
            stale_nights=runs.stale_nights(s, shop, found),
            missing_nights=missing,
            backfills=runs.backfills(s),
            tables=all_tables,
            disk=disk(shop.lake),
        )


def _landing(shop: Shop) -> Landing:
    """The newest whole date, and what is said of those that are not whole."""
    n_quarantined = n_rows(shop.lake.pin("ops.quarantine"))
    days = shop.lake.pin("clean.events").days()
    try:
        found = arrival(shop.landing, shop.mapping, None)
    except NightrankError as error:
        return Landing(max(days, default=None), (error.what,), n_quarantined)
    return Landing(found.ds or max(days, default=None), found.waiting, n_quarantined)


def _serving(s: Session, shop: Shop, found: Sequence[Change]) -> Serving | None:
    decision = served(history(s))
    if decision is None:
        return None
    why = _why_another(shop, decision, found)
    state = causes.state_of(why)
    return Serving(
        release_id=decision.release_id,
        ds=decision.ds,
        action=decision.action,
        reason=decision.reason,
        who=decision.who,
        since=decision.decided_at,
        model=decision.model,
        n_users=decision.n_users,
        n_rows=decision.n_rows,
        state=state,
        causes=causes.told(why),
        mend=None if state == "fresh" else f"nightrank run --ds {decision.ds}",
    )


def _why_another(shop: Shop, decision: Publication, found: Sequence[Change]) -> list[Cause]:
    """Why a night of its date would make another release now."""
    if release_id(shop, decision.ds) == decision.release_id:
        return []
    window = timedelta(days=shop.mapping.behaviours.history_days - 1)
    why = causes.of_window(found, decision.ds - window, decision.ds, decision.decided_at)
    if why:
        return why
    dropped = _dropped(shop, decision)
    if dropped:
        what = f"{', '.join(dropped)} was dropped, for its time was over"
        return [Cause("model dropped", what)]
    what = "the settings, the mapping or the code are others than it was made with"
    return [Cause("recipe changed", what)]


def _dropped(shop: Shop, decision: Publication) -> list[str]:
    """The models that the release would have, had there been time for them."""
    rows = shop.lake.rows(shop.lake.pin("ops.models"), {"ds": decision.ds}).to_pylist()
    kept = {row["model"] for row in rows if row["release_id"] == decision.release_id}
    missing = [model for model in shop.settings.train.models if model not in kept]
    without = release_id(shop, decision.ds, missing)
    return missing if missing and without == decision.release_id else []


def _of_serving(
    serving: Serving | None, newest: date | None, max_age: int | None
) -> Iterator[Problem]:
    if serving is None:
        if newest is not None:
            yield Problem("late", f"nothing is served, and {newest} has landed", "nightrank run")
        return
    if serving.state == "stale":
        first = serving.causes[0].what
        yield Problem("stale", f"what is served is stale: {first}", serving.mend or "nightrank run")
    age = (datetime.now(UTC).date() - serving.ds).days
    if max_age is not None and age > max_age:
        what = f"what is served is of {serving.ds}, {age} days old: more than {max_age}"
        yield Problem("late", what, "nightrank run")


def _of_tables(found: Sequence[TableStatus], newest: date | None) -> Iterator[Problem]:
    behind = [each for each in found if each.state == "behind"]
    if behind:
        what = f"{newest} has landed, and {_names(behind)} are behind"
        yield Problem("late", what, "nightrank run")
    stale = [each for each in found if each.state == "stale"]
    if stale:
        why = next((cause.what for each in stale for cause in each.causes), "")
        yield Problem("stale", f"{_names(stale)} are stale: {why}", "nightrank run")


def _names(found: Sequence[TableStatus]) -> str:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(each.name for each in found[:3]) + more


def _of_runs(
    ended: Sequence[NightRun], open_runs: Sequence[Unfinished], serving: Serving | None
) -> Iterator[Problem]:
    last = ended[0] if ended else None
    bad: dict[str, ProblemKind] = {"failed": "failed", "died": "died"}
    if last is not None and last.outcome in bad:
        what = f"the last night, of {last.ds}, {last.outcome}: {last.reason}"
        yield Problem(bad[last.outcome], what, f"nightrank run --ds {last.ds}")
    is_forced = last is not None and serving is not None and serving.ds >= last.ds
    if last is not None and last.outcome == "held" and not is_forced:
        what = f"the last night, of {last.ds}, is held: {last.reason}"
        yield Problem("held", what, f'nightrank publish --ds {last.ds} --force "why"')
    for each in open_runs:
        if each.state == "died" and (last is None or each.since > last.ended_at):
            what = f"the run {each.run_id} of {each.ds} died after {each.stage}"
            yield Problem("died", what, f"nightrank run --ds {each.ds}")
