"""Look at a shop and change nothing: doctor."""

import argparse

from flows.commands.arguments import Commands, add_shop
from tasks.report.terminal import Terminal


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    doctor = commands.add_parser("doctor", help="what is wrong with a shop, and how to mend it")
    doctor.add_argument("--format", choices=("table", "json"), default="table")
    doctor.add_argument(
        "--room",
        action="append",
        choices=("settings", "sources", "storage", "machine", "orchestration"),
        help="look there only; may be given more than once",
    )
    add_shop(doctor)
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.doctor.examine import ROOMS, examine
    from tasks.report.doctor import show_findings

    shop = (arguments.settings, arguments.mapping, arguments.landing, arguments.lake)
    findings = examine(*shop, rooms=arguments.room or tuple(ROOMS))
    return show_findings(terminal, findings, arguments.format)
