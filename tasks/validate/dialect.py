"""DuckDB as Great Expectations can use it: a SQLAlchemy dialect without transactions.

Great Expectations reads a result after its connection went back to the pool; a rollback at that
moment closes DuckDB's result. Views are read only, so no transaction is needed.
"""

import atexit
import sys
from pathlib import Path
from typing import Any

from duckdb_engine import Dialect
from sqlalchemy import URL, Engine
from sqlalchemy.dialects import registry
from sqlalchemy.types import NullType

from tasks.lake.fetched import read_stores
from tasks.lake.literals import identifier


class GxDialect(Dialect):
    """DuckDB's dialect, autocommitting."""

    supports_statement_cache = False

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, in UTC."""
        connection = super().connect(*args, **kwargs)
        connection.execute("SET TimeZone = 'UTC'")
        read_stores(connection)
        connection.execute("SET parquet_metadata_cache = true")  # hundreds of queries, few files
        return connection

    def get_columns(
        self, connection: Any, table_name: str, schema: str | None = None, **_: Any
    ) -> list[Any]:
        """The names of a view's columns: asking for their types in full takes 50 ms a table."""
        name = (
            identifier(table_name)
            if schema is None
            else (f"{identifier(schema)}.{identifier(table_name)}")
        )
        columns = connection.exec_driver_sql(f"DESCRIBE {name}").fetchall()
        return [
            {"name": column[0], "type": NullType(), "nullable": True, "default": None}
            for column in columns
        ]

    def get_pk_constraint(
        self, connection: Any, table_name: str, schema: str | None = None, **_: Any
    ) -> Any:
        """None: views have no primary key, and to look for one takes 40 ms a table."""
        return {"constrained_columns": [], "name": None}

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin nothing."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Commit nothing."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Roll nothing back."""


def url(database: Path, memory_limit: str) -> str:
    """Where the dialect finds a database, read only, fetching no extension."""
    registry.register("duckdb.gx", __name__, GxDialect.__name__)
    limits = {
        "access_mode": "read_only",
        "memory_limit": memory_limit,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    return URL.create("duckdb+gx", database=str(database), query=limits).render_as_string()


def dispose(*engines: Engine) -> None:
    """Close the engines' connections and forget the DuckDB types that they remember."""
    for engine in engines:
        engine.dispose()
        vars(engine.dialect).pop("_type_memos", None)


@atexit.register
def _let_go_of_duckdb() -> None:
    # With Great Expectations loaded, SQLAlchemy outlives DuckDB's module at exit, and its binding
    # prints forty lines about leaks.
    for name in [name for name in sys.modules if name.split(".", 1)[0] == "duckdb_engine"]:
        vars(sys.modules.pop(name)).clear()
