"""Nights of the past: backfill."""

import argparse
from typing import TYPE_CHECKING

from flows.commands.arguments import Commands, add_shop, the_shop
from flows.commands.nights import prepare_prefect, without_prefect
from tasks.errors import UsageError
from tasks.report.terminal import Terminal
from tasks.settings import parse_day

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.backfill.plan import Request


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    backfill = commands.add_parser("backfill", help="make nights of the past, or make them again")
    backfill.add_argument("start", nargs="?", help="first data date, YYYY-MM-DD")
    backfill.add_argument("end", nargs="?", help="last data date, YYYY-MM-DD; default: the first")
    which = backfill.add_mutually_exclusive_group()
    for choice, told in (
        ("missing", "those without a release (default)"),
        ("failed", "those whose last attempt failed"),
        ("all", "all, but those done already with the same recipe and inputs"),
    ):
        which.add_argument(
            f"--{choice}", dest="choice", action="store_const", const=choice, help=told
        )
    backfill.add_argument(
        "--as-of", choices=("then", "now"), default="now", help="what a night knows (now)"
    )
    backfill.add_argument("--models", help="names with commas between; default: the settings'")
    backfill.add_argument("--max-active", type=int, metavar="N", help="nights at once")
    backfill.add_argument("--newest-first", action="store_true", help="begin with the last date")
    backfill.add_argument("--keep-aside", action="store_true", help="swap no release in")
    backfill.add_argument("--dry-run", action="store_true", help="say what it would do and take")
    other = backfill.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="every plan and how it stands")
    other.add_argument("--show", metavar="PLAN", help="the nights of a plan")
    other.add_argument("--resume", metavar="PLAN", help="go on with a plan")
    other.add_argument("--cancel", metavar="PLAN", help="stop a plan, wherever it runs")
    add_shop(backfill)
    backfill.set_defaults(command=_backfill, choice="missing")


def _backfill(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.list or arguments.show:
        return _tell(arguments, terminal)
    if arguments.cancel:
        return _cancel(arguments, terminal)
    if arguments.resume:
        return _run(arguments, terminal, arguments.resume, _cancels(arguments))
    request = _request(arguments)
    if arguments.dry_run:
        return _dry_run(arguments, request, terminal)
    planned = _planned(arguments, request, terminal)
    return 0 if planned is None else _run(arguments, terminal, *planned)


def _request(arguments: argparse.Namespace) -> "Request":
    from tasks.backfill.plan import Request

    if arguments.start is None:
        raise UsageError(
            "no night is named",
            where="nightrank backfill START END",
            unchanged="nothing was planned",
            fix="name the first and the last date, or one of --list, --show, --resume, --cancel",
        )
    if arguments.max_active is not None and not 1 <= arguments.max_active <= 64:
        raise UsageError(
            f"{arguments.max_active} nights at once",
            where="--max-active",
            unchanged="nothing was planned",
            fix="give a number from 1 to 64",
        )
    return Request(
        first=parse_day(arguments.start),
        last=parse_day(arguments.end or arguments.start),
        choice=arguments.choice,
        as_of=arguments.as_of,
        models=tuple(arguments.models.split(",")) if arguments.models else (),
        max_active=arguments.max_active,
        is_newest_first=arguments.newest_first,
        keeps_aside=arguments.keep_aside,
    )


def _cancels(arguments: argparse.Namespace) -> "list[datetime]":
    """When the plan that is to go on was cancelled."""
    from tasks.backfill import ledger

    return ledger.cancels(ledger.of_plan(the_shop(arguments).lake, arguments.resume))


def _planned(
    arguments: argparse.Namespace, request: "Request", terminal: Terminal
) -> "tuple[str, list[datetime]] | None":
    """The plan that is to be driven, written down, and when it was cancelled if it is an old one.

    None where there is nothing to do.
    """
    from tasks.backfill import ledger
    from tasks.backfill.plan import plan

    shop = the_shop(arguments)
    planned = plan(shop, request)
    if planned.skipped:
        terminal.say(f"{len(planned.skipped)} nights are done already, from the same inputs")
    if not planned.has_work:
        which = {"all": "is to be made", "missing": "is missing", "failed": "has failed"}
        said = f"no night from {request.first} to {request.last} {which[request.choice]}"
        terminal.say(f"nothing to do: {said}")
        return None
    if not planned.is_old:
        ledger.write(shop.lake, planned.entries)
    return planned.plan.plan_id, ledger.cancels(planned.entries)


def _dry_run(arguments: argparse.Namespace, request: "Request", terminal: Terminal) -> int:
    from tasks.backfill.forecast import forecast
    from tasks.backfill.plan import plan
    from tasks.report.backfills import tell_forecast

    shop = the_shop(arguments)
    planned = plan(shop, request)
    tell_forecast(terminal, planned, forecast(shop, planned))
    return 0


def _run(
    arguments: argparse.Namespace, terminal: Terminal, plan_id: str, answered: "list[datetime]"
) -> int:
    """Drive a plan; `answered`: its cancels until now, for Prefect may take minutes to start."""
    prepare_prefect()
    # Prefect costs a second to import, which other commands need not pay.
    from prefect.exceptions import CancelledRun
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.backfill import backfill
    from tasks.backfill.board import shown_on
    from tasks.report.backfills import nights

    shop = {name: getattr(arguments, name) for name in ("settings", "mapping", "landing", "lake")}
    stopped = None
    try:
        with (
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
            nights(terminal) as board,
            shown_on(board),
        ):
            backfill(plan_id=plan_id, answered=answered, max_active=arguments.max_active, **shop)
    except CancelledRun as cancelled:
        stopped = str(cancelled)
    except RuntimeError as error:
        raise without_prefect(error) from error
    finally:
        _tell_plan(arguments, terminal, plan_id, stopped)
    return 0 if stopped is None else 130


def _tell_plan(
    arguments: argparse.Namespace, terminal: Terminal, plan_id: str, stopped: str | None = None
) -> None:
    from tasks.backfill.driving import Result
    from tasks.backfill.ledger import of_plan
    from tasks.backfill.plan import read, unknown
    from tasks.report.backfills import tell_result

    entries = of_plan(the_shop(arguments).lake, plan_id)
    if not entries:
        raise unknown(plan_id)
    tell_result(terminal, Result(read(entries), tuple(entries), stopped))


def _tell(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.backfill.driving import plans, sweep
    from tasks.report.backfills import tell_plans

    lake = the_shop(arguments).lake
    found = sweep(lake)
    if arguments.show:
        _tell_plan(arguments, terminal, arguments.show)
    else:
        tell_plans(terminal, plans(lake), found)
    return 0


def _cancel(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.backfill.driving import cancel
    from tasks.report.backfills import tell_result

    tell_result(terminal, cancel(the_shop(arguments), arguments.cancel))
    return 0
