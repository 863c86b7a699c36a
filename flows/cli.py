"""The same by hand: `nightrank COMMAND`; `nightrank --help` lists the commands.

Exit codes: 0 done or nothing to do, 1 failed, 2 usage, 3 held.
"""

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from datetime import date
from io import TextIOWrapper
from pathlib import Path

from tasks.errors import StorageError, as_ours
from tasks.report.terminal import Terminal
from tasks.scratch import own_what_is_started
from tasks.settings import parse_day

_PREFECT = {
    # The terminal is ours; Prefect's words are kept for its UI.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "DO_NOT_TRACK": "1",
}


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

    sample = commands.add_parser("sample", help="write a simulated shop into landing/ and truth/")
    sample.add_argument("--days", type=int, default=21)
    sample.add_argument("--users", type=int, default=2000)
    sample.add_argument("--items", type=int, default=800)
    sample.add_argument("--seed", type=int, default=1)
    sample.add_argument("--root", type=Path, default=Path(), help="folder of landing/ and truth/")
    sample.set_defaults(command=_sample)

    run = commands.add_parser("run", help="run a night: logs in, published tables out")
    run.add_argument("--ds", help="data date, YYYY-MM-DD; default: the newest that is whole")
    _add_shop(run)
    run.set_defaults(command=_run)

    query = commands.add_parser("query", help="ask the tables in SQL")
    query.add_argument("sql")
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    _add_shop(query)
    query.set_defaults(command=_query)

    status = commands.add_parser("status", help="what is served, fresh, stale and waited for")
    _add_shop(status)
    status.set_defaults(command=_status)

    quarantine = commands.add_parser("quarantine", help="why records did not fit, and how many")
    quarantine.add_argument(
        "--replay", action="store_true", help="read their files again, as the mapping is now"
    )
    quarantine.add_argument("--format", choices=("table", "csv", "json"), default="table")
    _add_shop(quarantine)
    quarantine.set_defaults(command=_quarantine)

    publish = commands.add_parser("publish", help="serve a release that the gate held")
    publish.add_argument("--force", metavar="REASON", required=True, help="why; it is recorded")
    publish.add_argument("--ds", help="data date, YYYY-MM-DD; default: the newest night held")
    _add_shop(publish)
    publish.set_defaults(command=_publish)

    withdraw = commands.add_parser("withdraw", help="take a wrong delivery back")
    withdraw.add_argument("file", help="path below the landing folder, or ops.files.file_id")
    _add_shop(withdraw)
    withdraw.set_defaults(command=_withdraw)

    report = commands.add_parser("report", help="write the page of a night and print its path")
    report.add_argument("--ds", help="data date, YYYY-MM-DD; default: the newest night")
    _add_shop(report)
    report.set_defaults(command=_report)
    return top


def _add_shop(command: argparse.ArgumentParser) -> None:
    command.add_argument("--settings", type=Path, help="settings file (deployments/settings.toml)")
    command.add_argument("--mapping", help="source mapping: a shipped name or a .toml file")
    command.add_argument("--landing", type=Path, help="folder of raw files")
    command.add_argument("--lake", type=Path, help="folder of tables")


def _sample(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.sample import ShopSettings, write_sample

    settings = ShopSettings(
        n_days=arguments.days,
        n_users=arguments.users,
        n_items=arguments.items,
        seed=arguments.seed,
    )
    with terminal.bar("sample shop, days") as moved:
        counts = write_sample(settings, arguments.root, moved)
    terminal.say(
        f"{arguments.root / 'landing'}: {counts.n_files} files, {counts.n_bytes / 2**20:.1f} MiB, "
        f"{counts.n_events:,} events, {counts.n_impressions:,} impressions"
    )
    return 0


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    ds = _day(arguments)
    for name, value in _PREFECT.items():
        os.environ.setdefault(name, value)
    own_what_is_started()
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
            raise _without_prefect(error) from error
    return terminal.outcome(outcome, _open(arguments))


def _day(arguments: argparse.Namespace) -> date | None:
    # Not as a type of argparse: a wrong date is told in the form of every other error.
    return None if arguments.ds is None else parse_day(arguments.ds)


def _without_prefect(error: RuntimeError) -> Exception:
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


def _open(arguments: argparse.Namespace) -> Path:
    """The file of views, refreshed."""
    from tasks.night import refresh
    from tasks.shop import open_shop

    shop = open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    return refresh(shop)


def _query(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.query import ask

    with ask(_lake(arguments), arguments.sql) as answer:
        terminal.answer(answer, arguments.format)
    return 0


def _lake(arguments: argparse.Namespace) -> Path:
    from tasks.settings import load_settings

    return arguments.lake or load_settings(arguments.settings).paths.lake


def _status(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.shop import open_shop
    from tasks.status import status

    shop = open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    terminal.status(status(shop))
    return 0


def _quarantine(arguments: argparse.Namespace, terminal: Terminal) -> int:
    import sql
    from tasks.ingest.mend import replay
    from tasks.night import new_run_id, refresh
    from tasks.query import ask
    from tasks.shop import open_shop

    shop = open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    if arguments.replay:
        files = replay(shop, new_run_id())
        terminal.rereads(files)
        if any(each.n_now < each.n_before for each in files):
            terminal.say("nightrank status lists what that made stale")
    refresh(shop)
    with ask(shop.lake.root, sql.read("queries/quarantine_reasons")) as answer:
        terminal.answer(answer, arguments.format)
    return 0


def _publish(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.night import refresh, write_page
    from tasks.serve.decisions import force
    from tasks.shop import open_shop

    shop = open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    ds = None if arguments.ds is None else parse_day(arguments.ds)
    forced = force(shop, arguments.force, ds)
    refresh(shop)
    page = write_page(shop, forced.ds)
    terminal.say(f"{forced.ds}: published by force, by {forced.who}. {forced.reason}")
    terminal.say(f"report: {page}")
    return 0


def _withdraw(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.ingest.mend import withdraw
    from tasks.night import new_run_id, refresh
    from tasks.shop import open_shop

    shop = open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    terminal.withdrawals(withdraw(shop, arguments.file, new_run_id()))
    refresh(shop)
    terminal.say("nightrank status lists what that made stale; nightrank run mends it")
    return 0


def _report(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.night import night_that_ran, refresh, write_page
    from tasks.shop import open_shop

    shop = open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    ds = night_that_ran(shop, _day(arguments))
    refresh(shop)
    terminal.say(str(write_page(shop, ds)))
    return 0


if __name__ == "__main__":
    entry()
