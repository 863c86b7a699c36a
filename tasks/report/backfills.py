"""Backfills in the terminal: progress while one runs, the nights of a plan, plans, a forecast."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from tasks.report.terminal import Terminal, table_of

if TYPE_CHECKING:
    from tasks.backfill.driving import Result
    from tasks.backfill.forecast import Forecast
    from tasks.backfill.ledger import Entry
    from tasks.backfill.plan import Plan, Planned

_MARKS = {"done": "[green]done[/]  ", "failed": "[red]failed[/]"}
_OPEN = ("waiting", "running")


class Nights:
    """Draws a plan while it is driven: a bar over all nights, and a line for each that runs."""

    def __init__(self, terminal: Terminal, progress: Progress) -> None:
        self.terminal, self.progress = terminal, progress
        self.whole: TaskID | None = None
        self.lines: dict[str, TaskID] = {}
        self.began_at = time.monotonic()
        self.n_before = 0

    def planned(self, plan: "Plan", entries: "Sequence[Entry]", is_old: bool) -> None:
        """Say which plan it is, and begin the bar."""
        self.n_before = sum(each.state not in _OPEN for each in entries)
        word = "goes on" if is_old else "is planned"
        self.terminal.say(
            f"plan {plan.plan_id} {word}: {len(entries)} nights as known {plan.as_of}, "
            f"{len(entries) - self.n_before} to do, {plan.max_active} at once"
        )
        self.whole = self.progress.add_task("nights", total=len(entries), note="")
        self._move(entries)

    def began(self, entry: "Entry") -> None:
        """A line for the night."""
        name = str(entry.ds)
        self.lines[name] = self.progress.add_task(name, total=None, note="")

    def moved(self, entry: "Entry", stage: str) -> None:
        """Its stage."""
        line = self.lines.get(str(entry.ds), self.whole)
        if line is not None:
            note = stage if str(entry.ds) in self.lines else f"{entry.ds}: {stage}"
            self.progress.update(line, note=escape(note))

    def ended(self, entry: "Entry", entries: "Sequence[Entry]") -> None:
        """Leave a line behind, and move the bar."""
        line = self.lines.pop(str(entry.ds), None)
        if line is not None:
            self.progress.remove_task(line)
        rows = "" if entry.n_rows is None else f"{entry.n_rows:,} rows, {entry.seconds:.1f} s"
        said = "; ".join(each for each in (rows, entry.reason) if each)
        mark = _MARKS.get(entry.state, entry.state)
        self.progress.console.print(f"{mark} {entry.ds}  [dim]{escape(said)}[/]")
        self._move(entries)

    def said(self, text: str) -> None:
        """A line."""
        self.terminal.say(text)

    def _move(self, entries: "Sequence[Entry]") -> None:
        n_ended = sum(each.state not in _OPEN for each in entries)
        n_open = len(entries) - n_ended
        n_failed = sum(each.state == "failed" for each in entries)
        n_made = n_ended - self.n_before
        notes = [f"{n_open} to do"] + ([f"{n_failed} failed"] if n_failed else [])
        if n_made and n_open:
            left = (time.monotonic() - self.began_at) / n_made * n_open / 60
            notes.append(f"{left:.0f} min left")
        if self.whole is not None:
            self.progress.update(self.whole, completed=n_ended, note=", ".join(notes))


@contextmanager
def nights(terminal: Terminal) -> Iterator[Nights]:
    """Draw in this block; without a terminal only lines."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=terminal.console,
        transient=True,
        disable=not terminal.console.is_terminal,
    ) as progress:
        yield Nights(terminal, progress)


def tell_result(terminal: Terminal, result: "Result") -> None:
    """The nights of a plan as they stand."""
    table = table_of(
        ("night", "state", "users", "rows", "s", "outcome", "overlap", "change", "why"),
        ("users", "rows", "s", "overlap", "change"),
        f"plan {result.plan.plan_id}, as known {result.plan.as_of}",
    )
    for each in sorted(result.entries, key=lambda entry: entry.ds):
        table.add_row(
            str(each.ds),
            each.state,
            _number(each.n_users),
            _number(each.n_rows),
            "" if each.seconds is None else f"{each.seconds:.1f}",
            each.outcome or "",
            "" if each.overlap is None else f"{each.overlap:.2f}",
            "" if each.change is None else f"{each.change:+.1%}",
            escape(each.reason or each.verdict or ""),
        )
    terminal.console.print(table)
    if result.stopped is not None:
        terminal.say(
            f"stopped: {result.stopped}; the same command, or nightrank backfill --resume "
            f"{result.plan.plan_id}, goes on"
        )


def tell_forecast(terminal: Terminal, planned: "Planned", told: "Forecast") -> None:
    """What a plan would do and take."""
    table = table_of(
        ("night", "state", "events", "rows", "minutes", "MiB", "why"),
        ("events", "rows", "minutes", "MiB"),
        f"{len(told.nights)} nights as known {planned.plan.as_of}",
    )
    for each in told.nights:
        table.add_row(
            str(each.ds),
            each.state,
            _number(each.n_events),
            _number(each.n_rows),
            "" if each.minutes is None else f"{each.minutes:.1f}",
            "" if each.mib is None else f"{each.mib:.1f}",
            escape(each.reason or ""),
        )
    terminal.console.print(table)
    minutes = "unknown" if told.minutes is None else f"{told.minutes:.1f}"
    mib = "unknown" if told.mib is None else f"{told.mib:.1f}"
    terminal.say(
        f"total: {minutes} minutes with {planned.plan.max_active} at once, {mib} MiB that stay, "
        f"about {told.mib_meanwhile:.1f} MiB meanwhile; known from {told.known_from}"
    )
    terminal.say("nothing was written")


def tell_plans(terminal: Terminal, plans: "Sequence[Result]", found: Sequence[str]) -> None:
    """Every plan, newest first, and what dead ones left behind."""
    for line in found:
        terminal.say(line)
    head = ("plan", "nights", "as of", "models", "states", "planned at")
    table = table_of(head, title="backfills")
    for each in plans:
        request = each.plan.request
        counts: dict[str, int] = {}
        for entry in each.entries:
            counts[entry.state] = counts.get(entry.state, 0) + 1
        table.add_row(
            each.plan.plan_id,
            f"{request.first} to {request.last} ({request.choice})",
            request.as_of,
            ", ".join(request.models),
            ", ".join(f"{n} {state}" for state, n in counts.items()),
            f"{each.plan.planned_at:%Y-%m-%d %H:%M}",
        )
    terminal.console.print(table)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
