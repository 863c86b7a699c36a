"""What a check says, and what it is given to look at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.errors import SettingsError
from tasks.mapping import Mapping
from tasks.settings import Settings
from tasks.shop import Shop

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix`: the key, file or command that mends it, in one line."""

    verdict: Verdict
    found: str
    fix: str = ""
    room: str = ""
    check: str = ""


def fine(found: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", found)


def warning(found: str, fix: str) -> Finding:
    """A night can run, but not as well as it should."""
    return Finding("warning", found, fix)


def wrong(found: str, fix: str) -> Finding:
    """A night would fail, or do what nobody wants."""
    return Finding("wrong", found, fix)


class NotOpenError(Exception):
    """The settings or the mapping could not be read, so that a check has nothing to look at."""


@dataclass(frozen=True)
class Case:
    """A shop, as far as its settings and its mapping could be read."""

    settings_file: Path
    read_settings: Settings | None
    read_mapping: Mapping | None
    problem: SettingsError | None = None  # of the settings
    mapping_problem: SettingsError | None = None
    plan_file: Path | None = None  # of schedules; None: the usual one

    @property
    def settings(self) -> Settings:
        """The settings. Raises NotOpenError."""
        if self.read_settings is None:
            raise NotOpenError("the settings")
        return self.read_settings

    @property
    def mapping(self) -> Mapping:
        """The mapping. Raises NotOpenError."""
        if self.read_mapping is None:
            raise NotOpenError("the mapping" if self.problem is None else "the settings")
        return self.read_mapping

    @property
    def shop(self) -> Shop:
        """Both, to be looked at only. Raises NotOpenError."""
        return Shop(self.settings, self.mapping, only_read=True)

    @property
    def mapping_file(self) -> str:
        """What the settings or the command call the mapping."""
        return self.settings.mapping


Check = Callable[[Case], Iterable[Finding]]
