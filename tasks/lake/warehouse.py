"""`warehouse.duckdb`: the tables as analysts see them, views only, swapped in by rename.

Any DuckDB client opens it read-only while a night runs; of a store, `views` fetches it first.
`serve.current` is a view over two slots and a pointer to one of them: open readers see a new
release at once and never half of one.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb

import sql
from expectations.catalogue import Table, catalogue, shown
from tasks.lake.connection import connect
from tasks.lake.literals import Value, literal, render
from tasks.lake.session import write_views
from tasks.lake.tables import Lake, Pinned, fingerprint, scan
from tasks.places import Place, StorePath
from tasks.scratch import replacing, scratch


def warehouse_path(lake: Lake) -> Place:
    """The file of views."""
    return lake.root.absolute() / "warehouse.duckdb"


@contextmanager
def views(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the file of views as it is now, read-only. Raises OSError if there is none.

    To a copy: DuckDB opens a file twice, for its header and for its blocks, and another file may
    have taken its name in between.
    """
    path = warehouse_path(lake)
    with scratch("views") as folder:
        copy = folder / path.name
        if isinstance(path, StorePath):
            path.fetch(copy)
        else:
            shutil.copyfile(path, copy)
        with connect(copy, read_only=True) as con:
            yield con


SLOTS = ("a.parquet", "b.parquet")
NO_ROWS = "0.parquet"


def current_folder(lake: Lake) -> Place:
    """The lists behind `serve.current`: two slots, of which the pointer names one release."""
    return lake.root.absolute() / "serve" / "current"


def current_pointer(lake: Lake) -> Place:
    """The file that names the release that is served."""
    return current_folder(lake) / "served"


def reports_path(lake: Lake) -> Place:
    """The folder of report pages."""
    return lake.root.absolute() / "reports"


MODEL_MARK = "config.json"  # the file of a kept model that is written last


def models_path(lake: Lake) -> Place:
    """The folder of kept models."""
    return lake.root.absolute() / "models"


def checkpoints_path(lake: Lake) -> Path:
    """Where trainings keep their checkpoints: beside the models; on this machine for a store.

    A checkpoint is written often, and read by the same machine, if ever.
    """
    models = models_path(lake)
    if isinstance(models, Path):
        return models
    # by account: one that another has made could not be written
    shared = Path(tempfile.gettempdir()) / f"nightrank-checkpoints-{os.getuid()}"
    work = models.reached.work or shared
    return work.absolute() / fingerprint([models.reached.address, str(models)])


def rebuild(lake: Lake, window: Mapping[str, Value]) -> Place:
    """Write the views beside, swap them in, and repeat while somebody wrote meanwhile.

    `window` holds the parameters of the total views: `ds` and `since`.
    """
    target = warehouse_path(lake)
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        pins = {name: lake.pin(name) for name in shown()}
        made = {**_views(lake, pins, window), "main.freshness": _state(lake, pins, window)}
        with replacing(target) as beside:
            write_views(beside, made)
        if all(lake.pin(name).version == pinned.version for name, pinned in pins.items()):
            return target


def is_fresh(lake: Lake, window: Mapping[str, Value]) -> bool:
    """Whether the views show the newest version of every table, in this folder, as of `window`."""
    if not warehouse_path(lake).exists():
        return False
    pins = {name: lake.pin(name) for name in shown()}
    try:
        with views(lake) as con:
            seen = con.sql("SELECT state FROM main.freshness").fetchall()
    except (duckdb.Error, OSError):
        return False
    return seen == [(_state_hash(lake, pins, window),)]


def _state(lake: Lake, pins: dict[str, Pinned], window: Mapping[str, Value]) -> str:
    return f"SELECT {literal(_state_hash(lake, pins, window))} AS state"


def _state_hash(lake: Lake, pins: dict[str, Pinned], window: Mapping[str, Value]) -> str:
    # The folder too: the views hold whole paths, and a lake may be moved.
    shown = [f"{name}={literal(value)}" for name, value in sorted(window.items())]
    return fingerprint([str(lake.root.absolute()), *map(str, pins.values()), *shown])


def _views(lake: Lake, pins: dict[str, Pinned], window: Mapping[str, Value]) -> dict[str, str]:
    made = {name: scan(pinned.table, pinned.files()) for name, pinned in pins.items()}
    for name, table in catalogue().items():
        if table.kind == "view" and name != "serve.current":
            made[name] = render(sql.read_table(name), window)
    made["serve.current"] = current_view(lake)
    return made


def _current(lake: Lake, table: Table) -> str:
    # DuckDB plans with the first file of a list and opens it again to read: if that one were
    # replaced in between, a query would fail, or count new rows by an old footer. So the first
    # file never changes, a slot is replaced only while nobody is pointed to it, and a query reads
    # the pointer once, before it opens the slots.
    if not current_pointer(lake).exists():
        return scan(table, [])
    columns = ", ".join(table.column_names)
    lists = literal([str(current_folder(lake) / name) for name in (NO_ROWS, *SLOTS)])
    pointer = literal(str(current_pointer(lake)))
    return (
        f"SELECT {columns} FROM read_parquet({lists}, hive_partitioning = false) "
        f"WHERE release_id = (SELECT content FROM read_text({pointer}))"
    )


def current_view(lake: Lake) -> str:
    """The SELECT of `serve.current`."""
    return _current(lake, catalogue()["serve.current"])


def no_window() -> dict[str, Value]:
    """The window of a lake that serves nothing yet: empty."""
    return {"ds": date(1970, 1, 1), "since": date(1970, 1, 1)}
