"""What several commands are told, and what they open with it."""

import argparse
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.settings import parse_day

if TYPE_CHECKING:
    from tasks.places import Place
    from tasks.shop import Shop

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction  # argparse has no other name for it


def add_shop(command: argparse.ArgumentParser) -> None:
    """The arguments that say which shop."""
    command.add_argument("--settings", type=Path, help="settings file (deployments/settings.toml)")
    command.add_argument("--mapping", help="source mapping: a shipped name or a .toml file")
    command.add_argument("--landing", help="folder of raw files, or s3://bucket/folder")
    command.add_argument("--lake", help="folder of tables, or s3://bucket/folder")


def the_shop(arguments: argparse.Namespace) -> "Shop":
    """The shop that the arguments name."""
    from tasks.shop import open_shop

    return open_shop(arguments.settings, arguments.mapping, arguments.landing, arguments.lake)


def the_lake(arguments: argparse.Namespace) -> "Place":
    """The folder of its tables, for those who need no more."""
    from tasks.shop import refuse_unreached, settings_of

    paths = settings_of(arguments.settings, None, None, arguments.lake).paths
    refuse_unreached(paths.model_copy(update={"landing": paths.lake}))
    return paths.lake


def the_day(arguments: argparse.Namespace) -> date | None:
    """--ds; not as a type of argparse, so that a wrong date is told like every other error."""
    return None if arguments.ds is None else parse_day(arguments.ds)
