"""Decide about what is served, and see what was decided: rollback, history."""

import argparse

from flows.commands.arguments import Commands, add_shop, the_shop
from tasks.errors import UsageError
from tasks.report.terminal import Terminal


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    rollback = commands.add_parser("rollback", help="serve again what was served before")
    rollback.add_argument(
        "--to", metavar="DS", help="a data date, or a release; default: what was served before"
    )
    rollback.add_argument("--reason", required=True, help="why; it is recorded")
    held = rollback.add_mutually_exclusive_group()
    held.add_argument("--hold", action="store_true", help="later nights do not publish")
    held.add_argument("--resume", action="store_true", help="roll nothing back: they publish again")
    add_shop(rollback)
    rollback.set_defaults(command=_rollback)

    history = commands.add_parser("history", help="what was decided about what is served, and why")
    history.add_argument("--last", type=int, default=20, metavar="N", help="so many (20)")
    history.add_argument("--format", choices=("table", "csv", "json"), default="table")
    add_shop(history)
    history.set_defaults(command=_history)


def _rollback(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.night import refresh, write_page
    from tasks.progress import watched_by
    from tasks.report.decisions import tell_resumed, tell_rollback
    from tasks.serve.rollback import resume, rollback

    shop = the_shop(arguments)
    if arguments.resume:
        _refuse(arguments.to)
        with terminal.stages() as stages, watched_by(stages):
            tell_resumed(terminal, resume(shop, arguments.reason))
        refresh(shop)
        return 0
    with terminal.stages() as stages, watched_by(stages):
        done = rollback(shop, arguments.reason, arguments.to, hold=arguments.hold)
    tell_rollback(terminal, done)
    refresh(shop)
    for ds in sorted({done.now.ds, done.before.ds}):
        terminal.say(f"report: {write_page(shop, ds)}")
    return 0


def _refuse(to: str | None) -> None:
    if to is not None:
        raise UsageError(
            "--resume rolls nothing back, so it takes no --to",
            where="nightrank rollback",
            unchanged="what was served stays served",
            fix="roll back first, then resume",
        )


def _history(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.night import refresh
    from tasks.query import ask
    from tasks.report.decisions import question

    views = refresh(the_shop(arguments))
    with ask(views.parent, question(arguments.last)) as answer:
        terminal.answer(answer, arguments.format)
    return 0
