"""Ask the tables: query."""

import argparse

from flows.commands.arguments import Commands, add_shop, the_lake
from tasks.report.terminal import Terminal


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    query = commands.add_parser("query", help="ask the tables in SQL")
    query.add_argument("sql")
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")
    add_shop(query)
    query.set_defaults(command=_query)


def _query(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from tasks.query import ask

    with ask(the_lake(arguments), arguments.sql) as answer:
        terminal.answer(answer, arguments.format)
    return 0
