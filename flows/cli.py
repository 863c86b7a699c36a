"""The same by hand: `nightrank COMMAND`; `nightrank --help` lists the commands.

Exit codes: 0 done or nothing to do, 1 failed, 2 usage, 3 held.
"""

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from flows.commands import backfills, decisions, files, looks, nights, schedules, tables
from tasks.errors import as_ours
from tasks.report.terminal import Terminal

COMMANDS = (nights, looks, decisions, backfills, files, tables, schedules)


def entry() -> None:
    """The console script."""
    code = 1

    def leave() -> None:
        # Registered before Prefect registers anything, so it runs last. Beside Prefect's threads
        # some DuckDB object always outlives its module, and the binding would print pages on it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)
    for stream in (sys.stdout, sys.stderr):  # a terminal of few letters shows others escaped
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
    except SystemExit as left:  # of argparse: 0 for --help, 2 for usage
        code = left.code if isinstance(left.code, int) else 1
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = parser().parse_args(argv)
    terminal = Terminal()
    try:
        code: int = arguments.command(arguments, terminal)
    except BrokenPipeError:  # who reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        terminal.error(error)
        return as_ours(error).exit_code
    except KeyboardInterrupt:
        terminal.say("stopped; every command is safe to run again")
        return 130
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="nightrank", description="Nightly recommendation tables.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for kind in COMMANDS:
        kind.add(commands)
    return top


if __name__ == "__main__":
    entry()
