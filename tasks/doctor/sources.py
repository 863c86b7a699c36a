"""The landing folder: what has arrived, when, and whether the mapping reads it."""

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tasks.doctor.findings import Case, Finding, fine, warning, wrong
from tasks.errors import NightrankError, SettingsError, SourceError
from tasks.ingest.formats import UNREADABLE
from tasks.ingest.landing import arrival, files_of
from tasks.ingest.trial import N_RECORDS, Trial, try_file
from tasks.lake.session import session
from tasks.mapping import REQUIRED, Source
from tasks.places import StorePath
from tasks.records import LandedFile
from tasks.shop import Shop, refuse_absent_landing

FRESH = 60.0  # seconds since a file changed, in which it may still be written
PAUSE = 0.3  # seconds between two looks at such files
AHEAD = timedelta(minutes=10)  # that a clock may be off
MANY = 0.2  # of the first records that do not fit: more than dirt
FARTHEST = timedelta(hours=14)  # ahead of UTC, where a date begins first


def landing_folder(case: Case) -> Iterator[Finding]:
    """It is there and can be read."""
    landing = case.settings.paths.landing
    refuse_absent_landing(landing)
    if isinstance(landing, StorePath):
        yield fine(f"{landing} can be listed")
        return
    if os.access(landing, os.R_OK | os.X_OK):
        yield fine(f"{landing} can be read")
    else:
        yield wrong(
            f"{landing} cannot be read", f"chmod u+rx {landing}, or name another: --landing"
        )


def patterns(case: Case) -> Iterator[Finding]:
    """Each source has files, and their paths have the dates that the mapping looks for."""
    for dataset, source in case.mapping.sources().items():
        try:
            files = files_of(case.shop.landing, dataset, source)
        except SourceError as error:
            yield wrong(error.what, f"{case.mapping_file}, [{dataset}]: {error.fix}")
            continue
        if files:
            yield fine(f"{dataset}: {len(files):,} files match {source.files}")
        elif source.optional and dataset != "events":
            yield fine(f"{dataset}: none, and it is optional")
        else:
            yield wrong(
                f"{dataset}: nothing in {case.settings.paths.landing} matches {source.files!r}",
                f"{case.mapping_file}: mend files in [{dataset}], or deliver the files",
            )


def newest_date(case: Case) -> Iterator[Finding]:
    """There is a date whose files have all arrived."""
    try:
        found = arrival(case.shop.landing, case.mapping, None)
    except SourceError as error:
        yield wrong(error.what, error.fix)
        return
    if case.mapping.events.arrived.path is None:
        yield fine("events have no date in their path: the night is of their newest day")
    else:
        yield fine("; ".join([f"newest whole date: {found.ds}", *found.waiting]))


def _landed(shop: Shop) -> list[LandedFile]:
    """The files of all sources whose paths are as they should be."""
    files: list[LandedFile] = []
    for dataset, source in shop.mapping.sources().items():
        try:
            files += files_of(shop.landing, dataset, source)
        except SourceError:
            continue  # another check tells
    return files


def times_of_files(case: Case) -> Iterator[Finding]:
    """No file is of the future, by its date or by its own time."""
    now = datetime.now(UTC)
    files = _landed(case.shop)
    dated = [f for f in files if f.delivered and f.delivered > (now + FARTHEST).date()]
    ahead = [f for f in files if f.modified_at > now + AHEAD]
    for each in _some(dated):
        yield wrong(
            f"{each.path} is of {each.delivered}, which has not begun",
            f"move {each.path} away until then, or mend its date",
        )
    for each in _some([f for f in ahead if f not in dated]):
        tell = warning if each.delivered else wrong  # without a date, it is when it arrived
        yield tell(
            f"the time of {each.path} lies {_span(each.modified_at - now)} ahead",
            f"touch {each.path}; and set the clock of the machine that writes it",
        )
    if not dated and not ahead:
        yield fine(f"none of {len(files):,} files lies ahead")


def _some(files: Sequence[LandedFile]) -> Sequence[LandedFile]:
    return sorted(files, key=lambda file: file.path)[:3]


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:,.0f} days" if hours > 48 else f"{hours:,.1f} hours"


def files_at_rest(case: Case) -> Iterator[Finding]:
    """No file grows while it can be seen: a night would read half of it."""
    landing, now = case.shop.landing, datetime.now(UTC)
    if isinstance(landing, StorePath):
        yield fine("files of a store are whole when they show")
        return
    young = [f for f in _landed(case.shop) if abs((now - f.modified_at).total_seconds()) < FRESH]
    if young:
        time.sleep(PAUSE)
    moved = [file for file in young if not _is_same(landing / file.path, file)]
    for each in _some(moved):
        yield warning(
            f"{each.path} is being written",
            f"write it as {_hidden(each.path)} and rename it when it is whole: names with a dot "
            "in front are not read",
        )
    if not moved:
        yield fine("no file changes")


def _hidden(path: str) -> str:
    return str(Path(path).with_name(f".{Path(path).name}"))


def _is_same(path: Path, file: LandedFile) -> bool:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    modified_at = datetime.fromtimestamp(stat.st_mtime, UTC)
    return (stat.st_size, modified_at) == (file.n_bytes, file.modified_at)


def columns_and_records(case: Case) -> Iterator[Finding]:
    """The newest file of each source has the columns that the mapping names, and records fit."""
    for dataset, source in case.mapping.sources().items():
        try:
            files = files_of(case.shop.landing, dataset, source)
        except SourceError:
            continue
        if not files:
            continue
        newest = max(files, key=lambda f: (str(f.delivered), f.modified_at, f.n_bytes, f.path))
        yield from _tried(case, newest, source)


def _tried(case: Case, file: LandedFile, source: Source) -> Iterator[Finding]:
    try:
        with session(case.shop.lake, case.settings.compute) as s:
            trial = try_file(s, case.shop, file)
    except SettingsError as error:
        yield wrong(error.what, f"{case.mapping_file}, {error.where}: {error.fix}")
        return
    except UNREADABLE as error:
        # not its words: they may quote a record
        trial = Trial(0, (), (), type(error).__name__)
    except NightrankError as error:
        yield wrong(error.what, error.fix)
        return
    if trial.refused is not None:
        yield wrong(
            f"{file.path} cannot be read as {source.format}: {trial.refused}",
            f"{case.mapping_file}: mend format, encoding or delimiter in [{file.dataset}], "
            "or deliver the file again",
        )
        return
    yield from _said(case, file, source, trial)


def _said(case: Case, file: LandedFile, source: Source, trial: Trial) -> Iterator[Finding]:
    fields = {column: name for name, column in source.columns.items()}
    for column in trial.absent:
        field = fields.get(column, "")
        tell = wrong if not field or field in REQUIRED[file.dataset] else warning
        yield tell(
            f"{file.path} has no column {column!r}" + (f" ({field})" if field else ""),
            f"{case.mapping_file}: mend {field or column} in [{file.dataset}.columns], or where "
            f"else [{file.dataset}] names {column!r}",
        )
    if not trial.n_read:
        yield warning(f"{file.path} holds no record", f"deliver {file.path} again")
        return
    share, first = trial.n_misfits / trial.n_read, trial.reasons[0][0] if trial.reasons else ""
    read = (
        f"of the first {trial.n_read:,} records" if trial.n_read >= N_RECORDS else "of its records"
    )
    if share > MANY:
        tell = wrong if share == 1 else warning
        yield tell(
            f"{file.path}: {share:.0%} {read} do not fit, most: {first}",
            f"{case.mapping_file}: mend [{file.dataset}], {_where(first)}",
        )
    elif not trial.absent:
        yield fine(f"{file.path}: {1 - share:.1%} {read} fit")


def _where(reason: str) -> str:
    """Which keys of a mapping make records not fit for a reason."""
    if "time" in reason or "future" in reason or "1970" in reason:
        return "time (its column, unit, zone, format)"
    return "behaviour (column, values, rules)" if "behaviour" in reason else "columns or types"


CHECKS = (
    landing_folder,
    patterns,
    newest_date,
    times_of_files,
    files_at_rest,
    columns_and_records,
)
