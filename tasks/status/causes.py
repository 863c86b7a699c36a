"""Why days and nights are stale: the deliveries, mappings and recipes that changed since."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sql
from tasks.ingest.deliveries import mapping_hash
from tasks.lake.session import Session
from tasks.mapping import Mapping
from tasks.status.records import Cause, CauseKind, State
from tasks.transform import StaleDay

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = 5  # causes of one thing that are told


@dataclass(frozen=True)
class Change:
    """A row of queries/status_changes.sql."""

    path: str
    kind: CauseKind
    arrived_at: datetime
    changed_at: datetime
    first_ds: date
    last_ds: date
    n_rows: int

    def touches(self, since: date, upto: date) -> bool:
        """Whether it may hold records of any of these days."""
        return self.first_ds <= upto and self.last_ds >= since

    def cause(self) -> Cause:
        """In words."""
        when = f"{self.arrived_at:%Y-%m-%d %H:%M}"
        said = {
            "late rows": f"{self.path}, delivered {when}, has records of days before",
            "late file": f"{self.path} was delivered at {when}, after its date was closed",
            "mended mapping": f"{self.n_rows:,} records of {self.path} are read otherwise now",
            "withdrawn file": f"{self.path} was withdrawn",
            "superseded": f"a newer delivery took the place of records of {self.path}",
        }
        return Cause(self.kind, said[self.kind], self.changed_at)


def changes(s: Session, since: datetime = LONG_AGO) -> list[Change]:
    """Everything that changed what is known of past days, oldest first."""
    for name in ("ops.files", "ops.row_moves", "ops.nights"):
        s.read(name)
    rows = s.rows(sql.read("queries/status_changes"), {"since": since})
    return [Change(*row) for row in rows]


def of_mappings(s: Session, mapping: Mapping) -> dict[str, Cause]:
    """By clean table: that its files would be read otherwise now, as the next night will."""
    s.read("ops.files")
    rows = s.rows(
        "SELECT dataset, mapping_hash, count(*) FROM ops.files WHERE state = 'ingested' "
        "GROUP BY ALL ORDER BY ALL"
    )
    wanted = {dataset: mapping_hash(mapping, dataset) for dataset in mapping.sources()}
    found: dict[str, Cause] = {}
    for dataset, hash_, n in rows:
        if dataset in wanted and hash_ != wanted[dataset]:
            what = f"{n:,} file(s) of {dataset} were read with another mapping than it is now"
            found[f"clean.{dataset}"] = Cause("mended mapping", what)
    return found


def of_days(stale: Sequence[StaleDay], found: Sequence[Change], window: timedelta) -> list[Cause]:
    """Why days of a table are stale; `window` is how far back a day looks, less a day."""
    causes: list[Cause] = []
    for each in stale:
        if each.change == "inputs changed" and each.built_at is not None:
            causes += of_window(found, each.day - window, each.day, each.built_at)
    others = {
        "never built": "{days} was not built yet",
        "recipe changed": "its SQL, code or settings are others than {days} was built with",
        "inputs are gone": "{days} has no records any more",
    }
    kinds: tuple[CauseKind, ...] = ("never built", "recipe changed", "inputs are gone")
    for kind in kinds:
        days = [each.day for each in stale if each.change == kind]
        if days:
            causes.append(Cause(kind, others[kind].format(days=_span(days))))
    return _each_once(causes)


def of_window(found: Iterable[Change], since: date, upto: date, after: datetime) -> list[Cause]:
    """What changed in a window of days after a time."""
    return _each_once(
        each.cause() for each in found if each.changed_at > after and each.touches(since, upto)
    )


def _span(days: Sequence[date]) -> str:
    return str(days[0]) if len(days) == 1 else f"each of {len(days)} days from {min(days)}"


def _each_once(causes: Iterable[Cause]) -> list[Cause]:
    return list(dict.fromkeys(causes))


def state_of(causes: Sequence[Cause]) -> State:
    """Stale, unless all that changed is what the next night takes up in the course of things."""
    if not causes:
        return "fresh"
    return "late rows" if all(each.kind == "late rows" for each in causes) else "stale"


def told(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """The newest causes of each kind, few."""
    kinds = dict.fromkeys(each.kind for each in causes)
    few = [cause for kind in kinds for cause in [c for c in causes if c.kind == kind][-SHOWN:]]
    return tuple(few)
