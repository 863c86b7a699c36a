"""Publishing held back by a person: nights are made and kept, and none is served meanwhile."""

from dataclasses import dataclass
from datetime import date, datetime

from tasks.lake.session import Session
from tasks.lake.tables import Lake

HOLD, RESUME = "hold", "resume"


@dataclass(frozen=True)
class Hold:
    """One row of serve.holds."""

    action: str
    reason: str
    who: str
    decided_at: datetime
    release_id: str
    ds: date

    @property
    def sentence(self) -> str:
        """What is told of a hold that stands."""
        since = f"{self.decided_at:%Y-%m-%d %H:%M} UTC"
        return f"{self.who} holds publishing back since {since}: {self.reason}"


def holds(s: Session) -> list[Hold]:
    """Every time that publishing was held back or let go on, oldest first."""
    s.read("serve.holds", newest=True)
    columns = ", ".join(Hold.__dataclass_fields__)
    rows = s.rows(f"SELECT {columns} FROM serve.holds ORDER BY decided_at")
    return [Hold(*row) for row in rows]


def standing(found: list[Hold], at: datetime | None = None) -> Hold | None:
    """The hold that stands (or stood at a time), if there is one."""
    last = next((each for each in reversed(found) if at is None or each.decided_at <= at), None)
    return last if last is not None and last.action == HOLD else None


def note_hold(lake: Lake, hold: Hold) -> None:
    """Add it to the log."""
    lake.append("serve.holds", {"ds": hold.ds}, [vars(hold)])
