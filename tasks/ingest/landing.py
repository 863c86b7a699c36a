"""Which files have landed, and which date they make whole."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import date

from tasks.errors import SourceError
from tasks.mapping import Mapping, Source
from tasks.places import Entry, Place, entries
from tasks.records import LandedFile


@dataclass(frozen=True)
class Arrival:
    """What a night finds: its date (None until undated files are read) and the files up to it."""

    ds: date | None
    files: tuple[LandedFile, ...]
    waiting: tuple[str, ...] = ()


def find_files(landing: Place, mapping: Mapping) -> list[LandedFile]:
    """Every landed file of every dataset, by delivery; an absent required one is an error."""
    found: list[LandedFile] = []
    for dataset, source in mapping.sources().items():
        files = files_of(landing, dataset, source)
        if not files and (dataset == "events" or not source.optional):
            raise SourceError(
                f"no file of {dataset} has landed: nothing matches {source.files!r}",
                where=str(landing.absolute()),
                unchanged="no table was changed; what was served stays served",
                fix=f"deliver the files, or mend files in [{dataset}] of the mapping",
            )
        found.extend(files)
    return sorted(found, key=lambda file: (file.delivered or date.min, file.dataset, file.path))


def files_of(landing: Place, dataset: str, source: Source) -> list[LandedFile]:
    """Every landed file of one dataset. Raises SourceError where a path has no date."""
    return [
        _landed(dataset, source, entry)
        for entry in entries(landing, source.files)
        if not _is_hidden(entry.path)
    ]


def _is_hidden(path: str) -> bool:
    """Files being written, and what other tools keep beside: below a folder so named too."""
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _landed(dataset: str, source: Source, entry: Entry) -> LandedFile:
    relative = entry.path
    if not relative.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in relative):
        raise SourceError(
            f"the name of a file is not UTF-8: {relative!r}",
            where=f"[{dataset}] files of the mapping",
            unchanged="no table was changed; what was served stays served",
            fix="rename the file",
        )
    return LandedFile(
        dataset=dataset,
        path=relative,
        n_bytes=entry.n_bytes,
        modified_at=entry.modified_at,
        delivered=date_in(relative, dataset, source),
    )


def date_in(path: str, dataset: str, source: Source) -> date | None:
    """The date in a path, if the mapping looks for one. Raises SourceError where there is none."""
    if source.arrived.path is None:
        return None
    match = re.search(source.arrived.path, path)
    try:
        if match is not None:
            day = date.fromisoformat(match.group(1))
            if 1970 <= day.year < 9999:
                return day
        problem = "has no date" if match is None else "has a date that cannot be"
    except (ValueError, TypeError):  # the group need not take part in the match
        problem = "has a date that is none"
    raise SourceError(
        f"{path} {problem} where the mapping looks for one: {source.arrived.path!r}",
        where=f"[{dataset}] arrived.path of the mapping",
        unchanged="no table was changed; what was served stays served",
        fix="move the file away, or narrow files or mend arrived.path in the mapping",
    )


def arrival(landing: Place, mapping: Mapping, ds: date | None) -> Arrival:
    """The night's date and files: the newest whole date, or `ds` if that one is whole."""
    files = find_files(landing, mapping)
    if mapping.events.arrived.path is None:
        return Arrival(ds, tuple(f for f in files if _is_due(f, ds)))
    missing = _missing_by_day(files, mapping)
    newest = max(missing)
    night = ds or max((day for day, lacks in missing.items() if not lacks), default=None)
    if night is None or missing.get(night, ["any file"]):
        raise _incomplete(night or newest, missing.get(night or newest), landing)
    waiting = [
        f"{day} waits for {', '.join(lacks)}"
        for day, lacks in missing.items()
        if day > night and lacks
    ]
    return Arrival(night, tuple(f for f in files if _is_due(f, night)), tuple(sorted(waiting)))


def _is_due(file: LandedFile, ds: date | None) -> bool:
    return ds is None or file.delivered is None or file.delivered <= ds


def _missing_by_day(files: list[LandedFile], mapping: Mapping) -> dict[date, list[str]]:
    """For every date on which anything was delivered, what it still lacks."""
    counts = Counter((file.dataset, file.delivered) for file in files)
    dated = {name: s for name, s in mapping.sources().items() if s.arrived.path and not s.optional}
    days = sorted({file.delivered for file in files if file.delivered is not None})
    return {
        day: [
            f"{name} ({counts[name, day]} of {source.files_per_day} files)"
            for name, source in dated.items()
            if counts[name, day] < source.files_per_day
        ]
        for day in days
    }


def _incomplete(ds: date, lacks: list[str] | None, landing: Place) -> SourceError:
    what = ", ".join(lacks) if lacks else "every source (no file of that date has landed)"
    return SourceError(
        f"the files of {ds} have not all arrived; missing: {what}",
        where=str(landing.absolute()),
        unchanged="no table was changed; what was served stays served",
        fix=f"wait for the files, then nightrank run --ds {ds}; or name a whole date",
    )
