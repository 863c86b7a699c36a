"""Run a night, look at it, and decide about it: run, report, publish."""

import argparse
import os
from datetime import date
from typing import TYPE_CHECKING

from flows.commands.arguments import Commands, add_shop, the_day, the_shop
from tasks.errors import StorageError, UsageError
from tasks.report.terminal import Terminal
from tasks.scratch import own_what_is_started

if TYPE_CHECKING:
    from tasks.places import Place
    from tasks.shop import Shop

_PREFECT = {
    # The terminal is ours; Prefect's words are kept for its UI.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "DO_NOT_TRACK": "1",
}


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    run = commands.add_parser("run", help="run a night: logs in, published tables out")
    run.add_argument("--ds", help="data date, YYYY-MM-DD; default: the newest that is whole")
    add_shop(run)
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="write the page of a night and print its path")
    report.add_argument("--ds", help="data date, YYYY-MM-DD; default: the newest night")
    add_shop(report)
    report.set_defaults(command=_report)

    publish = commands.add_parser("publish", help="serve a release that the gate held")
    publish.add_argument("--force", metavar="REASON", required=True, help="why; it is recorded")
    publish.add_argument("--ds", help="data date, YYYY-MM-DD; default: the newest night held")
    add_shop(publish)
    publish.set_defaults(command=_publish)


def prepare_prefect() -> None:
    """Before Prefect is imported: quiet, patient, and gone when the command is."""
    for name, value in _PREFECT.items():
        os.environ.setdefault(name, value)
    own_what_is_started()


def without_prefect(error: RuntimeError) -> Exception:
    """Prefect's own words where it could not begin; other errors as they are."""
    if "API" not in str(error):
        return error
    return StorageError(
        f"Prefect could not begin: {error}",
        where=f"PREFECT_API_URL = {os.environ.get('PREFECT_API_URL', '(not set)')}, "
        f"PREFECT_HOME = {os.environ.get('PREFECT_HOME', '~/.prefect')}",
        unchanged="nothing was read or written",
        fix="start the server that PREFECT_API_URL names or unset it; "
        "let PREFECT_HOME name a folder that can be written",
    )


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    ds = the_day(arguments)
    prepare_prefect()
    # Prefect costs a second to import, which other commands need not pay.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.nightly import nightly
    from tasks.progress import watched_by

    shop = {name: getattr(arguments, name) for name in ("settings", "mapping", "landing", "lake")}
    with (
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        terminal.stages() as stages,
        watched_by(stages),
    ):
        try:
            outcome = nightly(ds, **shop)
        except RuntimeError as error:
            raise without_prefect(error) from error
    return terminal.outcome(outcome, _views(arguments))


def _views(arguments: argparse.Namespace) -> "Place":
    """The file of views, refreshed."""
    from tasks.night import refresh

    return refresh(the_shop(arguments))


def _report(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.night import refresh, write_page

    shop = the_shop(arguments)
    ds = _day_to_show(shop, the_day(arguments))
    refresh(shop)
    terminal.say(str(write_page(shop, ds)))
    return 0


def _day_to_show(shop: "Shop", ds: date | None) -> date:
    """`ds`, or the newest date that a night ran for. Raises UsageError where nothing made it."""
    ran = shop.lake.pin("ops.nights").days()
    if ds is None and ran:
        return max(ran)
    if ds is not None and (ds in ran or _is_of_a_backfill(shop, ds)):
        return ds
    raise UsageError(
        "no night has run yet" if ds is None else f"neither a night nor a backfill has made {ds}",
        where=str(shop.lake.root),
        unchanged="no page was written",
        fix="nightrank run" + (f" --ds {ds}" if ds is not None else ""),
    )


def _is_of_a_backfill(shop: "Shop", ds: date) -> bool:
    """Whether a plan has made the night of a date, or failed to; all plans are read."""
    from tasks.backfill import ledger

    return any(
        each.ds == ds and each.state in ("done", "failed") for each in ledger.every(shop.lake)
    )


def _publish(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.night import refresh, write_page
    from tasks.serve.decisions import force

    shop = the_shop(arguments)
    forced = force(shop, arguments.force, the_day(arguments))
    refresh(shop)
    page = write_page(shop, forced.ds)
    terminal.say(f"{forced.ds}: published by force, by {forced.who}. {forced.reason}")
    terminal.say(f"report: {page}")
    return 0
