"""All checks of all rooms, each by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.doctor import machine, orchestration, settings, sources, storage
from tasks.doctor.findings import Case, Check, Finding, NotOpenError, fine, warning, wrong
from tasks.errors import NightrankError, SettingsError, as_ours
from tasks.mapping import load_mapping
from tasks.settings import DEFAULT_SETTINGS
from tasks.shop import settings_of

ROOMS: dict[str, Sequence[Check]] = {
    "settings": settings.CHECKS,
    "sources": sources.CHECKS,
    "storage": storage.CHECKS,
    "machine": machine.CHECKS,
    "orchestration": orchestration.CHECKS,
}


def examine(
    settings_file: Path | None = None,
    mapping: str | None = None,
    landing: Path | None = None,
    lake: Path | None = None,
    rooms: Sequence[str] = tuple(ROOMS),
    plan: Path | None = None,
) -> list[Finding]:
    """Look at everything that a night needs; nothing that is written stays."""
    case = replace(opened(settings_file, mapping, landing, lake), plan_file=plan)
    return [
        finding for room in rooms for check in ROOMS[room] for finding in _looked(room, check, case)
    ]


def opened(
    settings_file: Path | None, mapping: str | None, landing: Path | None, lake: Path | None
) -> Case:
    """The shop as far as it can be opened; what cannot is kept as a problem."""
    file = settings_file or DEFAULT_SETTINGS
    try:
        read = settings_of(settings_file, mapping, landing, lake)
    except SettingsError as error:
        return Case(file, None, None, problem=error)
    try:
        return Case(file, read, load_mapping(read.mapping))
    except SettingsError as error:
        return Case(file, read, None, mapping_problem=error)


def _looked(room: str, check: Check, case: Case) -> Iterator[Finding]:
    name = check.__name__.strip("_").replace("_", " ")
    for finding in _found(check, case) or [fine("")]:
        yield replace(finding, room=room, check=name)


def _found(check: Check, case: Case) -> list[Finding]:
    try:
        return list(check(case))
    except NotOpenError as lack:
        return [warning(f"not looked at without {lack}", f"mend {lack} first, as said above")]
    except NightrankError as error:
        return [wrong(error.what, f"{error.where}: {error.fix}")]
    except Exception as error:
        # the others must be told all the same
        return [
            wrong(
                f"this check broke: {as_ours(error).what}",
                "mend the other findings first; if it stays, report a defect of nightrank",
            )
        ]
