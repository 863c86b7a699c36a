"""What housekeeping did, in the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.report.terminal import Terminal, table_of

if TYPE_CHECKING:
    from tasks.housekeeping import Chore  # it reaches the models, and so torch


def show(terminal: Terminal, chores: "Sequence[Chore]") -> None:
    """A line for each chore, and what it all came to."""
    sizes = ("bytes before", "bytes after")
    table = table_of(("chore", "did", *sizes), sizes, "housekeeping")
    for each in chores:
        table.add_row(each.what, each.did, f"{each.bytes_before:,}", f"{each.bytes_after:,}")
    terminal.console.print(table)
    freed = sum(each.bytes_before - each.bytes_after for each in chores)
    terminal.say(f"{freed:,} bytes freed")
