"""A pass in haste finds what Great Expectations finds by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.records import CheckResult
from tasks.validate import suite_names, validate
from tests.tasks.validate.conftest import change, failed

TABLES = [
    "ops.files",
    "ops.quarantine",
    *(name for name in suite_names() if name.startswith(("clean.", "serve."))),
]


def test_results_are_the_same_without_haste(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate(night, [])  # it keeps warnings of what it imports away
    from great_expectations.expectations.expectation import Expectation

    from tasks.validate import haste

    change(night, "UPDATE clean.events SET user_id = NULL WHERE event_id < 'e3'")
    change(night, "DELETE FROM serve.candidates; ALTER TABLE ops.quarantine DROP COLUMN raw")
    usual = vars(Expectation)["configuration"]
    quick = validate(night, TABLES)
    assert vars(Expectation)["configuration"] is usual

    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    def as_it_is(context: Any) -> Any:
        return context

    monkeypatch.setattr(haste, "remembered", nothing)
    monkeypatch.setattr(haste, "unsaved", as_it_is)
    slow: list[CheckResult] = validate(night, TABLES)
    assert quick == slow
    assert len({each.table_name for each in failed(quick)}) == 3
