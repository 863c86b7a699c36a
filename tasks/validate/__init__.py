"""Runs a table's suite: Great Expectations on DuckDB. Importing this does not import either."""

from tasks.validate.run import validate
from tasks.validate.suites import Check, read_suite, suite_names

__all__ = ["Check", "read_suite", "suite_names", "validate"]
