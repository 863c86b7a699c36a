"""Ask the file of views in SQL, read-only."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from tasks.errors import StorageError, UsageError
from tasks.lake.tables import Lake
from tasks.lake.warehouse import views, warehouse_path
from tasks.places import Place

_QUESTIONS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}


@contextmanager
def ask(lake: Place, question: str) -> Iterator[duckdb.DuckDBPyRelation]:
    """The answer to one SELECT. Raises StorageError without a lake, UsageError for wrong SQL."""
    path = warehouse_path(Lake(lake))
    if not path.exists():
        raise StorageError(
            "there is nothing to ask yet",
            where=str(path),
            unchanged="nothing was written",
            fix="nightrank run makes the tables; --lake names another folder",
        )
    with views(Lake(lake)) as con:
        try:
            kinds = {statement.type for statement in con.extract_statements(question)}
            answer = con.sql(question) if kinds <= _QUESTIONS else None
            if answer is None:
                raise duckdb.ParserException("this is no question: it gives no rows")
            yield answer
        except duckdb.Error as error:
            raise UsageError(
                str(error).strip(),
                where="the SQL of the query",
                unchanged="nothing was written",
                fix="SHOW ALL TABLES lists the tables; DESCRIBE serve.current lists columns",
            ) from error
