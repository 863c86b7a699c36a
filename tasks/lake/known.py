"""What of a clean table is shown: all of it, or what had arrived by a time.

Every row has two clocks: when it happened and when it arrived. As known at a time, rows that
arrived later are not there, and a delivery that was superseded later still counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from tasks.lake.literals import identifier, literal

Counts = Mapping[date, tuple[int, int]]


@dataclass(frozen=True)
class Known:
    """Which rows of one borrowed table are shown.

    `counts` are the rows of each date that had arrived, and of these the superseded ones: a date
    is there if it has one. Both only grow with time, so equal counts are the same rows. Without
    them every date is there, whole.
    """

    closed_at: datetime | None = None  # None: as known now
    condition: str = "true"  # SQL: whether a row is shown
    counts: Counts | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return "" if self.closed_at is None else f" as known at {self.closed_at:%Y-%m-%dT%H:%MZ}"

    def has_day(self, ds: str | None) -> bool:
        """Whether a date has a row that is shown."""
        if self.counts is None or ds is None:
            return True
        return self.counts.get(date.fromisoformat(ds), (0, 0))[0] > 0

    def marks(self, day: date) -> list[str]:
        """What tells one state of a date from another, where its files are the same."""
        if self.closed_at is None or self.counts is None:
            return []
        return ["{} arrived, {} superseded".format(*self.counts.get(day, (0, 0)))]

    def select(self, text: str, columns: Sequence[str]) -> str:
        """The rows of a SELECT that are shown, as they were: what came later superseded nothing."""
        if self.condition == "true":
            return text
        shown = [identifier(name) for name in columns]
        if self.closed_at is not None and "superseded_at" in columns:
            shown[columns.index("superseded_at")] = (
                f"CASE WHEN superseded_at <= {literal(self.closed_at)} THEN superseded_at END "
                "AS superseded_at"
            )
        return f"SELECT {', '.join(shown)} FROM ({text}) WHERE {self.condition}"
