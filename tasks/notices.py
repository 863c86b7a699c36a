"""What the world is told of a night: the names of events and what they carry. No personal data.

nightrank.night.published   kept   held   failed
nightrank.night.failed-contract     a critical check failed, or files break their contract
nightrank.data.stale                what is served is older than it should be
nightrank.ingest.failed             an hour between nights, or housekeeping, could not be done
nightrank.housekeeping.failed
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

from tasks.errors import ContractError, HeldError, QualityError, UnforeseenError, as_ours
from tasks.night import Outcome

LENGTH = 1_000  # letters of a reason: an e-mail is not the place for more


@dataclass(frozen=True)
class Notice:
    """One event: its name, whom it concerns (a shop's night), and what is told."""

    event: str
    subject: str
    payload: dict[str, Any]


def of_outcome(outcome: Outcome) -> Notice | None:
    """How a night ended; nothing where it had ended so before: that has been told."""
    if outcome.is_old:
        return None
    return _of_night(outcome.ending, outcome.ds, outcome.reason, outcome.report)


def of_failure(error: BaseException, ds: date | None = None, page: str | None = None) -> Notice:
    """A night that an error stopped."""
    name = "failed"
    if isinstance(error, QualityError | ContractError):
        name = "failed-contract"
    elif isinstance(error, HeldError):
        name = "held"
    return _of_night(name, ds, reason_of(error), page)


def of_other(flow: str, error: BaseException) -> Notice:
    """Another run than a night's that an error stopped."""
    kind = flow.split("-", 1)[0]
    payload = _payload("failed", None, reason_of(error), None)
    return Notice(f"nightrank.{kind}.failed", kind, payload)


def of_staleness(served: date | None, scheduled: date, most_days: int) -> Notice | None:
    """What is served, if it is older than so many days on the date of a scheduled night."""
    if served is None or (scheduled - served).days <= most_days:
        return None
    days = (scheduled - served).days
    reason = (
        f"what is served on {scheduled} is of {served}, {days} days before; "
        f"alerts.stale_days is {most_days}"
    )
    return Notice("nightrank.data.stale", str(served), _payload("stale", served, reason, None))


def reason_of(error: BaseException) -> str:
    """Why, without what a message of somebody else's may quote of the data."""
    ours = as_ours(error)
    if isinstance(ours, UnforeseenError) or ours.what.startswith("DuckDB:"):
        return f"{ours.what.split(':', 1)[0]} at {ours.where}; the night's log has the rest"
    return ours.what


def _of_night(name: str, ds: date | None, reason: str, page: str | None) -> Notice:
    subject = "night" if ds is None else str(ds)
    return Notice(f"nightrank.night.{name}", subject, _payload(name, ds, reason, page))


def _payload(outcome: str, ds: date | None, reason: str, page: str | None) -> dict[str, Any]:
    return {
        "ds": None if ds is None else str(ds),
        "outcome": outcome,
        "reason": reason if len(reason) <= LENGTH else reason[: LENGTH - 1] + "…",
        "page": page,
    }
