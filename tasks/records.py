"""The small frozen records that pass between stages. Never frames."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True)
class TableVersion:
    """What one write left behind: rows and bytes of the replaced partitions."""

    table: str
    version: int
    rows: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.table}@{self.version}"


@dataclass(frozen=True)
class CheckResult:
    """One expectation's verdict on one table; `observed` holds no raw values."""

    table_name: str
    check_id: int
    what: str
    expectation: str
    severity: Severity
    is_passed: bool
    observed: str | None
    n_rows: int | None
    n_unexpected: int | None

    @property
    def stops_the_night(self) -> bool:
        """Whether nothing may be published after this."""
        return not self.is_passed and self.severity == "critical"


@dataclass(frozen=True)
class LandedFile:
    """A file in the landing folder; `path` is relative to it, `delivered` the date in the path."""

    dataset: str
    path: str
    n_bytes: int
    modified_at: datetime
    delivered: date | None
