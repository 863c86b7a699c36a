"""What can go wrong, in the words a reader needs at three in the morning.

    NightrankError
    ├── UsageError          the command or its arguments make no sense           exit 2
    │   └── SettingsError   a settings file or a source mapping is wrong         exit 2
    ├── SourceError         landed files are missing, empty or cannot be read    exit 1
    │   └── ContractError   landed files break the contract of their source      exit 1
    ├── StorageError        the lake cannot be read or written                   exit 1
    │   ├── ConflictError   another writer was first; reading again can pass     exit 1, retried
    │   └── LeaseError      another run holds what this one needs, or took it    exit 1
    ├── QualityError        a critical check failed                              exit 1
    ├── EstimationError     propensities cannot be estimated as set           exit 1
    ├── TrainingError       a model could not be trained or scored               exit 1
    │   └── OverrunError    its time was over; another run goes on               exit 1
    ├── BackfillError       nights of a backfill failed; the others stand        exit 1
    ├── UnforeseenError     anything else: a defect, or a machine in trouble     exit 1
    └── HeldError           the gate holds: yesterday stays served               exit 3

Every error says what happened, where, what was not changed, and what to do next.
"""

import re
import traceback
from pathlib import Path
from typing import ClassVar

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BRANCH = re.compile(r"\s*\N{DOWNWARDS ARROW WITH TIP RIGHTWARDS}\s*")
_CUT = " ... "


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


def as_ours(error: BaseException) -> NightrankError:
    """The error itself, or one that tells what no part of ours foresaw."""
    if isinstance(error, NightrankError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).parents[1])
    ours = [each for each in frames if each.filename.startswith(root)]
    places = [f"{Path(each.filename).relative_to(root)}:{each.lineno}" for each in ours]
    return UnforeseenError(
        f"{type(error).__name__}: {on_one_line(error)}",
        where=places[-1] if places else "outside every stage",
        unchanged="no table was left half written; what was decided before stands",
        fix="if disk or memory ran out, make room; if not, report this as a defect of nightrank",
    )


def on_one_line(error: BaseException, most: int = 500) -> str:
    """What an error says, on one line of at most so many characters; its middle goes first.

    A tree of causes, as delta-rs colours it for a terminal, becomes a chain of them: what it all
    comes from stands at the end.
    """
    told = _BRANCH.sub(": ", _COLOUR.sub("", str(error)))
    return _shortened(" ".join(told.split()), most)


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    kept = most - len(_CUT)
    n_last = kept // 2
    return text[: kept - n_last] + _CUT + text[len(text) - n_last :]


class UsageError(NightrankError):
    """The command or its arguments make no sense."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file or a source mapping is wrong."""


class SourceError(NightrankError):
    """Landed files are missing, empty or cannot be read."""


class ContractError(SourceError):
    """Landed files break the contract of their source."""


class StorageError(NightrankError):
    """The lake cannot be read or written."""


class ConflictError(StorageError):
    """Another writer committed first; reading again and recomputing can pass."""


class LeaseError(StorageError):
    """Another run holds what this one needs, or this one lost what it held."""


class UnforeseenError(NightrankError):
    """What no part of ours foresaw: a defect, or a machine in trouble."""


class QualityError(NightrankError):
    """A critical check failed; nothing is published."""


class EstimationError(NightrankError):
    """Propensities cannot be estimated as the settings ask."""


class TrainingError(NightrankError):
    """A model could not be trained or scored."""


class OverrunError(TrainingError):
    """A model's time was over before it was trained; what was done of it is kept."""


class BackfillError(NightrankError):
    """Nights of a backfill failed, or it was stopped by an error; the others stand."""


class HeldError(NightrankError):
    """The gate holds: yesterday's release stays served."""

    exit_code = 3
