"""Who watches a night: stages say where they are, the terminal (or nobody) listens."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Watcher(Protocol):
    """What somebody who watches a night is told."""

    def began(self, stage: str) -> None:
        """A stage began."""

    def moved(self, done: float, total: float, note: str) -> None:
        """The stage has done this many of so many steps."""

    def ended(self, stage: str, is_done: bool, note: str) -> None:
        """A stage ended, well or not."""

    def said(self, text: str) -> None:
        """Something to know that is no stage: whom the run waits for."""


class Nobody:
    """Watches nothing."""

    def began(self, stage: str) -> None:
        """Nothing to tell."""

    def moved(self, done: float, total: float, note: str) -> None:
        """Nothing to tell."""

    def ended(self, stage: str, is_done: bool, note: str) -> None:
        """Nothing to tell."""

    def said(self, text: str) -> None:
        """Nothing to tell."""


_WATCHER: ContextVar[Watcher] = ContextVar("watcher", default=Nobody())  # noqa: B039


def watcher() -> Watcher:
    """Whoever watches now."""
    return _WATCHER.get()


@contextmanager
def watched_by(who: Watcher) -> Iterator[None]:
    """Let `who` watch what happens in this block."""
    token = _WATCHER.set(who)
    try:
        yield
    finally:
        _WATCHER.reset(token)
