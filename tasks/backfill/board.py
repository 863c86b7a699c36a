"""Who watches a backfill: nights begin, go through their stages, and end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Plan


class Board(Protocol):
    """What somebody who watches a backfill is told; by several threads, one at a time."""

    def planned(self, plan: Plan, entries: Sequence[Entry], is_old: bool) -> None:
        """A plan begins, or goes on."""

    def began(self, entry: Entry) -> None:
        """A night runs."""

    def moved(self, entry: Entry, stage: str) -> None:
        """Its next stage has begun."""

    def ended(self, entry: Entry, entries: Sequence[Entry]) -> None:
        """A night ended in some state; `entries` is how the whole plan stands."""

    def said(self, text: str) -> None:
        """Something worth a line."""


class Nobody:
    """Watches nothing."""

    def planned(self, plan: Plan, entries: Sequence[Entry], is_old: bool) -> None:
        """Nothing to tell."""

    def began(self, entry: Entry) -> None:
        """Nothing to tell."""

    def moved(self, entry: Entry, stage: str) -> None:
        """Nothing to tell."""

    def ended(self, entry: Entry, entries: Sequence[Entry]) -> None:
        """Nothing to tell."""

    def said(self, text: str) -> None:
        """Nothing to tell."""


_BOARD: ContextVar[Board] = ContextVar("board", default=Nobody())  # noqa: B039


def board() -> Board:
    """Whoever watches now."""
    return _BOARD.get()


@contextmanager
def shown_on(who: Board) -> Iterator[None]:
    """Let `who` watch what happens in this block."""
    token = _BOARD.set(who)
    try:
        yield
    finally:
        _BOARD.reset(token)
