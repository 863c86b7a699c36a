"""Great Expectations' results as our records: counts, numbers, dates and names of columns only."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.records import CheckResult
from tasks.validate.suites import Check

_QUOTED = re.compile(r"'[^']*'?")
_CLASS = re.compile(r"^\(\w+\.\w+\) ")


def verdicts(
    table: str, checks: Sequence[Check], found: Iterable[Any], why: str = "no result came back"
) -> list[CheckResult]:
    """One record per check, in the suite's order; one without a result failed, `why` tells."""
    by_id = {result.expectation_config.meta["check_id"]: result for result in found}
    n_rows = _table_rows(by_id.values())
    return [
        _verdict(table, check, by_id[check.check_id], n_rows)
        if check.check_id in by_id
        else _record(table, check, observed=_first_line(why))
        for check in checks
    ]


def _verdict(table: str, check: Check, result: Any, n_rows: int | None) -> CheckResult:
    error = _error(result.exception_info)
    if error is not None:
        return _record(table, check, observed=error, n_rows=n_rows)
    observed, n_unexpected = _seen({"element_count": n_rows, **result.result})
    return _record(
        table,
        check,
        is_passed=bool(result.success),
        observed=observed,
        n_rows=result.result.get("element_count", n_rows),
        n_unexpected=n_unexpected,
    )


def _record(
    table: str,
    check: Check,
    *,
    observed: str | None,
    is_passed: bool = False,
    n_rows: int | None = None,
    n_unexpected: int | None = None,
) -> CheckResult:
    return CheckResult(
        table_name=table,
        check_id=check.check_id,
        what=check.what,
        expectation=check.type,
        severity=check.severity,
        is_passed=is_passed,
        observed=observed,
        n_rows=n_rows,
        n_unexpected=n_unexpected,
    )


def _table_rows(results: Iterable[Any]) -> int | None:
    for result in results:
        if result.expectation_config.type == "expect_table_row_count_to_be_between":
            counted: int | None = result.result.get("observed_value")
            return counted
    return None


def _error(info: Mapping[str, Any] | None) -> str | None:
    """What an evaluation raised; None where nothing was raised.

    The information lies one level down, under the metric's name, when a metric raised it.
    """
    outer = dict(info or {})
    levels = [outer, *(value for value in outer.values() if isinstance(value, dict))]
    told = [level["exception_message"] for level in levels if level.get("exception_message")]
    return _first_line(str(told[0])) if told else None


def _first_line(message: str) -> str:
    """The first line of an exception; quoted text is left out, it can be a raw value."""
    first = message.strip().split("\n", 1)[0]
    return _QUOTED.sub("'…'", _CLASS.sub("", first))


def _seen(shown: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """What was observed, and how many rows break the rule where rows can."""
    details = shown.get("details") or {}
    if "unexpected_count" in shown:  # None, a sum over nothing, in an empty table
        return _broken(int(shown["unexpected_count"] or 0), shown.get("element_count"))
    if "unexpected_rows" in details:
        return _selected(int(shown["observed_value"]), details["unexpected_rows"])
    if "mismatched" in details:
        return _columns(details["mismatched"]), None
    value = shown.get("observed_value")
    return (f"{value:,}" if isinstance(value, int | float) else None), None


def _broken(count: int, n_rows: int | None) -> tuple[str | None, int]:
    told = f"{count:,} values" if n_rows is None else f"{count:,} of {n_rows:,} rows"
    return told if count else None, count


def _selected(count: int, rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, int]:
    """A query's one row may say itself what it saw and in how many rows."""
    if count == 1 and rows and "observed" in rows[0]:
        return str(rows[0]["observed"]), int(rows[0].get("n_unexpected", 1))
    return f"{count:,} rows" if count else None, count


def _columns(mismatched: Mapping[str, Sequence[str]]) -> str | None:
    told = [f"{kind}: {', '.join(map(str, names))}" for kind, names in mismatched.items() if names]
    return "; ".join(told) or None
