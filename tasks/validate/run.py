"""One pass over several tables: one context, one connection, one batch per table."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import SettingsError, StorageError
from tasks.records import CheckResult
from tasks.validate.suites import SQL, Check, read_suite
from tasks.validate.verdicts import verdicts

if TYPE_CHECKING:
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
    from great_expectations.expectations.expectation import Expectation

# COMPLETE brings the one row of a query about the whole table; elsewhere it would bring raw values.
_COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}
_WITH_ROWS = {"result_format": "COMPLETE", "partial_unexpected_count": 0}
_UNIQUE_KEY = "ExpectCompoundColumnsToBeUnique"
_TOLD = re.compile(r"\bobserved\b")  # in a query that says itself what it saw


def validate(
    database: Path,
    tables: Sequence[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    memory_limit: str = "2GB",
) -> list[CheckResult]:
    """Check each table of a DuckDB file of views against its suite; passed checks come back too.

    The file's stem must not be the name of a schema in it: DuckDB would take one for the other.
    `parameters` fill the suites' `{"$PARAMETER": name}`. An expectation that cannot be evaluated
    is a failed check. Raises SettingsError for a table without a readable suite, StorageError
    for a file that cannot be opened.
    """
    suites = {table: read_suite(table) for table in tables}
    with _quiet(), _source(database, memory_limit) as source:
        return [
            result
            for table, checks in suites.items()
            for result in _check_table(source, table, checks, parameters or {})
        ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep third-party warnings and log lines away; every failure is in the results."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextmanager
def _source(database: Path, memory_limit: str) -> Iterator["SQLDatasource"]:
    import great_expectations as gx
    from great_expectations.data_context.data_context.context_factory import project_manager
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.datasource.fluent.interfaces import TestConnectionError

    from tasks.validate import dialect
    from tasks.validate.haste import remembered, unsaved

    context = unsaved(gx.get_context(mode="ephemeral"))
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    where = dialect.url(database, memory_limit)
    try:
        source = context.data_sources.add_sql("night", connection_string=where)
    except TestConnectionError as error:
        raise _unreadable(database, error.__cause__ or error) from error
    try:
        with remembered():
            yield source
    finally:
        # It holds two engines: one tries connections, the other runs queries.
        dialect.dispose(source.get_engine(), source.get_execution_engine().engine)
        project_manager.set_project(None)


def _unreadable(database: Path, error: BaseException) -> StorageError:
    return StorageError(
        f"cannot open the database to check: {str(error).splitlines()[0]}",
        where=str(database),
        unchanged="nothing was checked or published",
        fix="run the command again; it writes this file anew",
    )


def _check_table(
    source: "SQLDatasource", table: str, checks: Sequence[Check], parameters: Mapping[str, Any]
) -> list[CheckResult]:
    from great_expectations.datasource.fluent.interfaces import TestConnectionError

    try:
        batch = _batch(source, table)
    except TestConnectionError as error:
        return verdicts(table, checks, [], why=str(error.__cause__ or error))
    asked = [_as_query(table, check) for check in checks]
    on_columns = [check for check in asked if SQL not in check.arguments]
    on_queries = [check for check in asked if SQL in check.arguments]
    found = [*_run(batch, on_columns, parameters), *_run(batch, on_queries, parameters)]
    return verdicts(table, checks, found)


def _as_query(table: str, check: Check) -> Check:
    """A check of a key as the query that finds what breaks it; others as they are."""
    if check.type != _UNIQUE_KEY:
        return check
    from tasks.validate.queries import repeated_sql

    return replace(check, arguments={SQL: repeated_sql(table, check.arguments["column_list"])})


def _batch(source: "SQLDatasource", table: str) -> "Batch":
    schema, name = table.split(".", 1)
    asset = source.add_table_asset(table, schema_name=schema, table_name=name)
    return asset.add_batch_definition_whole_table("night").get_batch()


def _run(batch: "Batch", checks: Sequence[Check], parameters: Mapping[str, Any]) -> Sequence[Any]:
    from great_expectations import ExpectationSuite

    if not checks:
        return []
    suite = ExpectationSuite("night", expectations=[_expectation(check) for check in checks])
    shape = _WITH_ROWS if SQL in checks[0].arguments else _COUNTS_ONLY
    return batch.validate(
        suite, result_format=shape, expectation_parameters=dict(parameters)
    ).results


def _kind(check: Check) -> "Callable[..., Expectation]":
    from great_expectations import expectations

    from tasks.validate.queries import CountedRowsExpectation, UniqueKeyExpectation

    if check.type == _UNIQUE_KEY:
        return UniqueKeyExpectation
    if SQL in check.arguments and not _TOLD.search(check.arguments[SQL]):
        return CountedRowsExpectation
    found: Callable[..., Expectation] = getattr(expectations, check.type)
    return found


def _expectation(check: Check) -> "Expectation":
    arguments = dict(check.arguments)
    if SQL in arguments:
        arguments[SQL] = _as_template(arguments[SQL])
    try:
        kind: Any = _kind(check)
        expectation: Expectation = kind(
            **arguments, severity=check.severity, meta={"check_id": check.check_id}
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"the check {check.what!r} cannot be made: {error}",
            where=check.type,
            unchanged="nothing was checked",
            fix="use a type of Great Expectations and the arguments that it knows",
        ) from error
    return expectation


def _as_template(sql: str) -> str:
    # Braces are Great Expectations' own; and it prints a line for each query without {batch}.
    return sql.replace("{", "{{").replace("}", "}}") + "\n/* {batch} */"
