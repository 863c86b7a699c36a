"""What `nightrank status` prints."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from tasks.report.terminal import Terminal, table_of

if TYPE_CHECKING:
    # It reaches the models, and so torch; `--help` must not wait for that.
    from tasks.status.records import Checks, Status, TableStatus

STALE_SHOWN = 3  # nights that are listed one by one
_NUMBERS = ("version", "rows", "days behind", "files", "on disk", "newest versions")


def show_status(terminal: Terminal, status: "Status", form: str) -> None:
    """What is served, what is wrong, the last nights, every table, and what it takes."""
    if form == "json":
        print(json.dumps(status.as_json(), indent=2, default=str, ensure_ascii=False))
        return
    for line in _lines(status):
        terminal.say(line)
    terminal.console.print(_tables(status))
    terminal.console.print(_disk(status))
    for problem in status.problems:
        terminal.say(f"{problem.kind}: {problem.what}")
        terminal.say(f"  mend: {problem.mend}")


def _lines(status: "Status") -> Iterator[str]:
    yield from _serving(status)
    if status.hold is not None:
        since = f"{status.hold.since:%Y-%m-%d %H:%M} UTC"
        yield f"held: {status.hold.who} holds publishing back since {since}: {status.hold.reason}"
        yield f"  let later nights publish: {status.hold.mend}"
    landing = status.landing
    waiting = "".join(f"; {each}" for each in landing.waiting)
    newest = f"newest whole date: {landing.newest}"
    yield f"landing: {newest}{waiting}; records in quarantine: {landing.n_quarantined:,}"
    for night in status.nights:
        yield f"night of {night.ds}: {night.outcome}. {night.reason}"
    for run in status.unfinished:
        process = f", process {run.process}" if run.process else ""
        stage = run.stage or "no stage yet, begun"
        yield (
            f"{run.state}: night of {run.ds}, run {run.run_id}{process}; "
            f"{stage} at {run.since:%Y-%m-%d %H:%M} UTC"
        )
    yield from _stale_nights(status)
    if status.missing_nights:
        n, days = len(status.missing_nights), status.missing_nights
        named = f"{', '.join(map(str, days[:5]))}{', ...' if n > 5 else ''}"
        yield f"no night has run for {n} date(s): {named}; {status.mend_missing}"
    for plan in status.backfills:
        counts = ", ".join(f"{n} {state}" for state, n in plan.nights.items())
        yield f"backfill {plan.plan_id} of {plan.first} to {plan.last}: {counts}"


def _serving(status: "Status") -> Iterator[str]:
    serving = status.serving
    if serving is None:
        yield "served: nothing yet"
        return
    since = f"{serving.since:%Y-%m-%d %H:%M} UTC"
    yield (
        f"served: {serving.release_id} of {serving.model} since {since}, by {serving.action} of "
        f"{serving.who} ({serving.reason})"
    )
    for cause in serving.causes:
        yield f"served, {serving.state}: {cause.what}; {serving.mend}"


def _stale_nights(status: "Status") -> Iterator[str]:
    for night in status.stale_nights[:STALE_SHOWN]:
        such = f", such as: {night.causes[0].what}" if night.causes else ""
        yield (
            f"night of {night.ds} is stale: {night.n_files} file(s) changed its window since{such}"
            f"; {night.mend}"
        )
    if len(status.stale_nights) > STALE_SHOWN:
        yield f"and {len(status.stale_nights) - STALE_SHOWN} older nights, likewise"


def _tables(status: "Status") -> Table:
    table = table_of(
        ("table", "version", "rows", "newest", "days behind", "checks", "state"), _NUMBERS
    )
    for each in status.tables:
        table.add_row(
            each.name,
            "" if each.version < 0 else str(each.version),
            f"{each.n_rows:,}",
            str(each.newest or ""),
            "" if each.days_behind is None else str(each.days_behind),
            _checks(each.checks),
            _state(each),
        )
    return table


def _checks(checks: "Checks | None") -> str:
    if checks is None:
        return ""
    failed = {name: getattr(checks, name) for name in ("critical", "warning", "info")}
    told = [f"{n} {severity}" for severity, n in failed.items() if n]
    return ", ".join([f"{checks.passed} passed", *told])


def _state(table: "TableStatus") -> str:
    if not table.causes:
        return table.state
    if not table.stale_days:
        return f"{table.state}: {table.causes[0].what}; {table.mend}"
    days = f"{len(table.stale_days)} day(s) from {table.stale_days[0]}"
    why = f" ({table.causes[0].what})" if table.causes else ""
    return f"{table.state}: {days}{why}; {table.mend or 'nightrank run'}"


def _disk(status: "Status") -> Table:
    table = table_of(("folder", "files", "on disk", "newest versions"), _NUMBERS)
    for each in status.disk:
        sizes = (_size(each.n_bytes), _size(each.n_bytes_newest))
        table.add_row(each.layer, f"{each.n_files:,}", *sizes)
    return table


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:,.2f} MB"
