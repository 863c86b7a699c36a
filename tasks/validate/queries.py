"""Checks that are SQL, for tables of millions of rows: each query runs once.

Great Expectations runs a query twice, to count its rows and to bring some of them; where only the
number is told, it is counted alone. And it finds repeated keys with a window over the whole table,
which costs several times as much as to group their hashes and look at the few that occur twice.
Loads Great Expectations: import it late.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from great_expectations.expectations.core.unexpected_rows_expectation import (
    UnexpectedRowsExpectation,
)

from tasks.lake.literals import identifier

_COUNT = "unexpected_rows_query.row_count"


class CountedRowsExpectation(UnexpectedRowsExpectation):
    """No row is selected; how many are is all that is told."""

    metric_dependencies: ClassVar[tuple[str, ...]] = (_COUNT,)

    def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        count = metrics[_COUNT]
        found = {"observed_value": count, "details": {"unexpected_rows": []}}
        return {"success": count == 0, "result": found}


class UniqueKeyExpectation(CountedRowsExpectation):
    """No row of a table is selected by `repeated_sql`."""

    def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        count = metrics[_COUNT]
        return {"success": count == 0, "result": {"unexpected_count": count}}


def repeated_sql(table: str, columns: Sequence[str]) -> str:
    """The rows whose key another row has too; those without any of the columns are left out."""
    key = ", ".join(map(identifier, columns))
    is_empty = " AND ".join(f"{identifier(column)} IS NULL" for column in columns)
    return f"""WITH hashes AS (
    SELECT hash({key}) AS key_hash FROM {table} GROUP BY key_hash HAVING count(*) > 1
)
SELECT 1 AS is_repeated
FROM {table}
WHERE hash({key}) IN (SELECT h.key_hash FROM hashes AS h) AND NOT ({is_empty})
QUALIFY count(*) OVER (PARTITION BY {key}) > 1"""
