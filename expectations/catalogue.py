"""The catalogue: every table's grain, columns, partition, window, owner and freshness.

It imports nothing of ours and no library, so that anything may read it.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal

LAYERS = ("clean", "features", "train", "serve", "ops")

Kind = Literal["increment", "snapshot", "log", "state", "view"]
Lookback = Literal["day", "history", "all"]
IfNew = Literal["ignore", "evolve", "stop"]
IfMissing = Literal["null", "quarantine", "stop"]
IfChanged = Literal["quarantine", "stop"]


@dataclass(frozen=True)
class Column:
    """One column: DuckDB type, whether it is always there, and what it means (with unit).

    - is_person: says who it is; a pseudonym where the settings ask for it;
    - is_pii: personal data; it stays in clean and ops, and out of features, logs and reports;
    - is_varied: nearly as many values as rows: a dictionary of them would save nothing;
    - if_missing, if_changed: the contract with the source; what happens to the records of a file
      that lacks the column, and to a record whose value is not of its type. A mapping may say
      otherwise. A required column that is missing always sends the record to quarantine.
    """

    name: str
    type: str
    note: str
    required: bool = False
    is_person: bool = False
    is_pii: bool = False
    is_varied: bool = False
    if_missing: IfMissing = "null"
    if_changed: IfChanged = "quarantine"


@dataclass(frozen=True)
class Table:
    """One table. `kind` says how it is kept:

    - increment: a partition holds the rows of one date of occurrence, and of no other date;
    - snapshot: a partition holds the state as of the night of that date;
    - log: rows are added by runs and never changed;
    - state: rows that come, change and go while runs go on; not in the file of views, which would
      be behind it at once;
    - view: computed on reading, as of the date that is served.

    `lookback` says how far before its date a row may look: the day itself, history_days, or all.
    `if_new` says what happens where a source brings a column that no mapping names: it is ignored,
    kept in `extra` (evolve), or stops the night. A mapping may say otherwise.
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
    if_new: IfNew = "ignore"
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


def shown() -> dict[str, Table]:
    """The stored tables that readers of the file of views see."""
    return {name: table for name, table in stored().items() if table.kind != "state"}
