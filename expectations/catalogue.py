"""The catalogue: every table's grain, columns, partition, window, owner and freshness.

It imports nothing of ours and no library, so that anything may read it.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal

LAYERS = ("clean", "features", "train", "serve", "ops")

Kind = Literal["increment", "snapshot", "log", "view"]
Lookback = Literal["day", "history", "all"]


@dataclass(frozen=True)
class Column:
    """One column: DuckDB type, whether it is always there, and what it means (with unit)."""

    name: str
    type: str
    note: str
    required: bool = False
    is_pii: bool = False


@dataclass(frozen=True)
class Table:
    """One table. `kind` says how it is kept:

    - increment: a partition holds the rows of one date of occurrence, and of no other date;
    - snapshot: a partition holds the state as of the night of that date;
    - log: rows are added by runs and never changed;
    - view: computed on reading, as of the date that is served.

    `lookback` says how far before its date a row may look: the day itself, history_days, or all.
    """

    name: str
    kind: Kind
    grain: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ("ds",)
    key: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    lookback: Lookback = "day"
    fresh_within_days: int = 1
    owner: str = "data engineering"

    @property
    def layer(self) -> str:
        """The schema it stands in."""
        return self.name.split(".", 1)[0]

    @property
    def short_name(self) -> str:
        """The name without its schema."""
        return self.name.split(".", 1)[1]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in the order in which readers see them."""
        return tuple(column.name for column in self.columns)


@cache
def catalogue() -> dict[str, Table]:
    """Every table by name, in the order in which a night makes them."""
    tables: dict[str, Table] = {}
    for layer in LAYERS:
        module = import_module(f"expectations.tables.{layer}")
        for table in module.TABLES:
            tables[table.name] = table
    return tables


def stored() -> dict[str, Table]:
    """The tables that lie in the lake as Delta tables; views left out."""
    return {name: table for name, table in catalogue().items() if table.kind != "view"}
