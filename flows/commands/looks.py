"""Look at a shop and change nothing, but that runs found dead are noted: status, doctor."""

import argparse
from contextlib import suppress
from pathlib import Path

from flows.commands.arguments import Commands, add_shop, the_shop
from tasks.errors import StorageError
from tasks.report.terminal import Terminal


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    status = commands.add_parser("status", help="what is served, fresh, stale and waited for")
    status.add_argument("--format", choices=("table", "json"), default="table")
    status.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 where anything is stale, late, failed or dead, 3 where a night is held",
    )
    status.add_argument(
        "--max-age",
        type=int,
        metavar="DAYS",
        help="what is served is late if its date lies more than so many days before today (UTC)",
    )
    add_shop(status)
    status.set_defaults(command=_status)

    doctor = commands.add_parser("doctor", help="what is wrong with a shop, and how to mend it")
    doctor.add_argument("--format", choices=("table", "json"), default="table")
    doctor.add_argument(
        "--room",
        action="append",
        choices=("settings", "sources", "storage", "machine", "orchestration"),
        help="look there only; may be given more than once",
    )
    doctor.add_argument("--file", type=Path, help="schedules (deployments/prefect.yaml)")
    add_shop(doctor)
    doctor.set_defaults(command=_doctor)


def _status(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.backfill import deaths
    from tasks.report.state import show_status
    from tasks.running import note_deaths
    from tasks.status import status

    shop = the_shop(arguments)
    with suppress(StorageError):  # a lake that cannot be written can be looked at
        note_deaths(shop)
        deaths.note_deaths(shop.lake)
    found = status(shop, arguments.max_age)
    show_status(terminal, found, arguments.format)
    return found.exit_code() if arguments.check else 0


def _doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.doctor.examine import ROOMS, examine
    from tasks.report.doctor import show_findings

    shop = (arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    findings = examine(*shop, rooms=arguments.room or tuple(ROOMS), plan=arguments.file)
    return show_findings(terminal, findings, arguments.format)
