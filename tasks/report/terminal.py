"""What a person sees in the terminal: progress while it runs, tables when it is done."""

import csv
import json
import math
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.errors import as_ours
from tasks.query import ask

if TYPE_CHECKING:
    # Both reach the models, and so torch; `--help` must not wait for that.
    from tasks.ingest.mend import Reread, Withdrawal
    from tasks.night import Outcome
    from tasks.places import Place

BATCH_ROWS = 10_000
PLAIN_WIDTH = 160  # columns, where there is no terminal to ask
_EXIT = {"published": 0, "kept": 0, "held": 3, "failed": 1, "died": 1}
_STAGES = """
SELECT
    stage,
    state,
    format('{{:,}}', n_rows) AS rows,
    format('{{:,}}', n_bytes) AS bytes,
    seconds,
    cpu_seconds,
    peak_mb
FROM ops.stages WHERE run_id = '{}' ORDER BY started_at, stage
"""
_WARNINGS = """
SELECT severity, table_name, what, observed
FROM ops.checks
WHERE run_id = '{}' AND NOT is_passed AND severity <> 'info'
ORDER BY severity, table_name, check_id
"""


def table_of(head: Sequence[str], numbers: Container[str] = (), title: str | None = None) -> Table:
    """A table that is to be filled: the columns named in `numbers` stand to the right."""
    heading = None if title is None else escape(title)
    table = Table(title=heading, title_justify="left", header_style="bold")
    for name in head:
        justify: JustifyMethod = "right" if name in numbers else "left"
        table.add_column(escape(name), justify=justify, overflow="fold")
    return table


class Terminal:
    """Prints; bars only where there is a terminal to draw them."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self.problems = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(escape(text))

    def error(self, error: Exception) -> None:
        """What, where, what was not changed, what to do next; and what failed after it."""
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        self.problems.print(f"[bold red]error[/]  {escape(str(as_ours(error)) + notes)}")

    @contextmanager
    def bar(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for one long task."""
        with self._progress() as progress:
            task = progress.add_task(label, total=None, note="")
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextmanager
    def stages(self) -> Iterator["Stages"]:
        """A line per stage, with a bar while it moves."""
        with self._progress() as progress:
            yield Stages(progress)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def outcome(self, outcome: "Outcome", warehouse: "Place") -> int:
        """How the night ended; returns the exit code."""
        if not outcome.is_old:
            with ask(warehouse.parent, _STAGES.format(outcome.run_id)) as stages:
                self.rows(stages, title=f"night of {outcome.ds}")
            with ask(warehouse.parent, _WARNINGS.format(outcome.run_id)) as failed:
                for severity, table, what, observed in failed.fetchall():
                    self.say(f"{severity}: {table}: {what}; {observed}")
        word = "nothing to do: already " if outcome.is_old else ""
        self.say(f"{outcome.ds}: {word}{outcome.ending}. {outcome.reason}")
        for waiting in outcome.waiting:
            self.say(f"not run yet: {waiting}")
        self.say(f"report: {outcome.report}")
        return _EXIT[outcome.ending]

    def answer(self, answer: duckdb.DuckDBPyRelation, form: str) -> None:
        """The rows of a query."""
        if form == "table":
            self.rows(answer)
            return
        lines = csv.writer(sys.stdout, lineterminator="\n")
        if form == "csv":
            lines.writerow(answer.columns)
        for batch in answer.to_arrow_reader(BATCH_ROWS):
            for row in batch.to_pylist():
                if form == "csv":
                    lines.writerow(row.values())
                else:
                    print(json.dumps(_as_json(row), default=str, ensure_ascii=False))

    def rows(self, answer: duckdb.DuckDBPyRelation, title: str | None = None) -> None:
        """A table of rows, numbers to the right."""
        numbers = ["rows", "bytes"]
        for name, kind in zip(answer.columns, answer.types, strict=True):
            numbers += [name] * (str(kind) in ("INTEGER", "BIGINT", "DOUBLE", "HUGEINT"))
        table = table_of(answer.columns, numbers, title)
        for row in answer.fetchall():
            table.add_row(*(escape(_shown(value)) for value in row))
        self.console.print(table)

    def rereads(self, files: "Sequence[Reread]") -> None:
        """What reading files again did."""
        for each in files:
            what = each.problem or f"{each.n_before - each.n_now:,} of {each.n_before:,} moved"
            self.say(f"{each.dataset} {each.path}: {what}")

    def withdrawals(self, taken: "Sequence[Withdrawal]") -> None:
        """What was taken back."""
        for each in taken:
            self.say(
                f"{each.dataset} {each.path}: {each.n_clean:,} clean and "
                f"{each.n_quarantined:,} quarantined records taken back"
            )
            self.rereads(each.restored)


class Stages:
    """Watches a night for the terminal."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=None, visible=False, note="")

    def began(self, stage: str) -> None:
        """Show the stage."""
        self.progress.reset(self.task, description=stage, total=None, visible=True, note="")

    def moved(self, done: float, total: float, note: str) -> None:
        """Move its bar."""
        self.progress.update(self.task, completed=done, total=total, note=escape(note))

    def ended(self, stage: str, is_done: bool, note: str) -> None:
        """Leave a line behind."""
        mark = "[green]done[/]  " if is_done else "[red]failed[/]"
        self.progress.console.print(f"{mark} {stage}  [dim]{escape(note)}[/]")
        self.progress.update(self.task, visible=False)

    def said(self, text: str) -> None:
        """A line of its own."""
        self.progress.console.print(escape(text))


def _as_json(value: object) -> object:
    """JSON has no NaN and no infinity: they become null."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _as_json(each) for key, each in value.items()}
        case list():
            return [_as_json(each) for each in value]
        case _:
            return value


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case _:
            return str(value)
