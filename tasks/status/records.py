"""What is said of a shop. `as_json` gives each field under its own name: machines rely on them."""

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal

CauseKind = Literal[
    "late rows",  # records of days before, in a file that came in time: the next night has them
    "late file",
    "mended mapping",
    "withdrawn file",
    "superseded",
    "recipe changed",  # the SQL, the code, the settings or the mapping
    "model dropped",
    "never built",
    "inputs are gone",
]
State = Literal["fresh", "late rows", "stale", "behind", "absent"]
ProblemKind = Literal["stale", "late", "failed", "held", "died"]


@dataclass(frozen=True)
class Cause:
    """Why something is not what would be made of it now; `at`: when that changed, if known."""

    kind: CauseKind
    what: str
    at: datetime | None = None


@dataclass(frozen=True)
class Checks:
    """Checks of one table in the last run: how many passed, and how many failed by severity."""

    passed: int
    critical: int
    warning: int
    info: int


@dataclass(frozen=True)
class TableStatus:
    """One stored table; `days_behind` counts from the newest date that has landed whole.

    `version` is -1 and the state absent where nobody has made it yet.
    """

    name: str
    version: int
    n_rows: int
    newest: date | None
    days_behind: int | None
    fresh_within_days: int
    state: State
    stale_days: tuple[date, ...]
    causes: tuple[Cause, ...]
    mend: str | None
    checks: Checks | None


@dataclass(frozen=True)
class Serving:
    """What is served, by which decision, since when; and why it would be another now."""

    release_id: str
    ds: date
    action: str
    reason: str
    who: str
    since: datetime
    model: str
    n_users: int
    n_rows: int
    state: State
    causes: tuple[Cause, ...]
    mend: str | None


@dataclass(frozen=True)
class Hold:
    """A person holds publishing back."""

    reason: str
    who: str
    since: datetime
    mend: str


@dataclass(frozen=True)
class NightRun:
    """One run of a night that ended."""

    run_id: str
    ds: date
    outcome: str
    reason: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class Unfinished:
    """One run without an end; `stage` is the last that it noted, and when.

    `stage` is null where it has not noted any yet, and `since` when it began; `process` is null
    where nobody knows it.
    """

    run_id: str
    ds: date
    state: Literal["running", "died"]
    stage: str | None
    since: datetime
    process: str | None


@dataclass(frozen=True)
class StaleNight:
    """A night whose window changed after it had ended; what is served may be newer than it."""

    ds: date
    n_files: int
    causes: tuple[Cause, ...]
    mend: str


@dataclass(frozen=True)
class Plan:
    """A plan of a backfill that is not done, and its nights by state."""

    plan_id: str
    nights: dict[str, int]
    first: date
    last: date


@dataclass(frozen=True)
class Disk:
    """What one folder of the lake takes, and what its newest versions need, bytes."""

    layer: str
    n_bytes: int
    n_bytes_newest: int
    n_files: int


@dataclass(frozen=True)
class Landing:
    """What has landed: the newest whole date, and the dates that wait for files."""

    newest: date | None
    waiting: tuple[str, ...]
    n_quarantined: int


@dataclass(frozen=True)
class Problem:
    """What a person or a monitor should know of, and the one command that mends it."""

    kind: ProblemKind
    what: str
    mend: str


@dataclass(frozen=True)
class Status:
    """The state of a shop."""

    problems: tuple[Problem, ...]
    landing: Landing
    serving: Serving | None
    hold: Hold | None  # of a person, while later nights do not publish
    nights: tuple[NightRun, ...]  # the last ones, newest first
    unfinished: tuple[Unfinished, ...]
    stale_nights: tuple[StaleNight, ...]
    missing_nights: tuple[date, ...]
    backfills: tuple[Plan, ...]
    tables: tuple[TableStatus, ...]
    disk: tuple[Disk, ...]

    @property
    def mend_missing(self) -> str:
        """The command that makes the nights that no run was for."""
        days = self.missing_nights
        if len(days) > 1:
            return f"nightrank backfill {days[0]} {days[-1]} --missing"
        return f"nightrank run --ds {days[0]}" if days else ""

    def exit_code(self) -> int:
        """0 where all is well, 3 where nothing is wrong but that a night is held, else 1."""
        kinds = {problem.kind for problem in self.problems}
        return 0 if not kinds else 3 if kinds == {"held"} else 1

    def as_json(self) -> dict[str, Any]:
        """Every field, under its name."""
        return asdict(self)
