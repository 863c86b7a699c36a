"""What can go wrong, in the words a reader needs at three in the morning.

    NightrankError
    ├── UsageError          the command or its arguments make no sense           exit 2
    │   └── SettingsError   a settings file or a source mapping is wrong         exit 2
    ├── SourceError         landed files are missing, empty or cannot be read    exit 1
    ├── StorageError        the lake cannot be read or written                   exit 1
    │   └── ConflictError   another writer was first; reading again can pass     exit 1, retried
    ├── QualityError        a critical check failed                              exit 1
    ├── TrainingError       a model could not be trained or scored               exit 1
    └── HeldError           the gate holds: yesterday stays served               exit 3

Every error says what happened, where, what was not changed, and what to do next.
"""

from typing import ClassVar


class NightrankError(Exception):
    """Base of all our errors; its fields survive pickling."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str, unchanged: str, fix: str) -> None:
        super().__init__(what, where, unchanged, fix)
        self.what = what
        self.where = where
        self.unchanged = unchanged
        self.fix = fix

    def __str__(self) -> str:
        return (
            f"{self.what}\n  where:     {self.where}\n"
            f"  unchanged: {self.unchanged}\n  next:      {self.fix}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.unchanged, self.fix)


def _rebuild(
    kind: type[NightrankError], what: str, where: str, unchanged: str, fix: str
) -> NightrankError:
    return kind(what, where=where, unchanged=unchanged, fix=fix)


class UsageError(NightrankError):
    """The command or its arguments make no sense."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file or a source mapping is wrong."""


class SourceError(NightrankError):
    """Landed files are missing, empty or cannot be read."""


class StorageError(NightrankError):
    """The lake cannot be read or written."""


class ConflictError(StorageError):
    """Another writer committed first; reading again and recomputing can pass."""


class QualityError(NightrankError):
    """A critical check failed; nothing is published."""


class TrainingError(NightrankError):
    """A model could not be trained or scored."""


class HeldError(NightrankError):
    """The gate holds: yesterday's release stays served."""

    exit_code = 3
