"""Which landed files are new: known by path, size and time first, by content second."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tasks.lake.session import Session
from tasks.lake.tables import fingerprint
from tasks.mapping import Events, Impressions, Mapping
from tasks.records import LandedFile

OCCURRENCES = ("events", "impressions")
SNAPSHOTS = ("items", "users")


@dataclass(frozen=True)
class Delivery:
    """One file to account for; `repeats` is the path whose content it repeats."""

    file: LandedFile
    file_id: str
    content_hash: str
    arrived_at: datetime
    mapping_hash: str
    repeats: str | None = None

    @property
    def dataset(self) -> str:
        """events, impressions, items or users."""
        return self.file.dataset

    @property
    def ds(self) -> date:
        """UTC date of delivery: the date in the path, else the day it arrived."""
        return self.file.delivered or self.arrived_at.astimezone(UTC).date()


@dataclass(frozen=True)
class _Known:
    """What ops.files knows of a delivery."""

    dataset: str
    path: str
    content_hash: str
    n_bytes: int
    modified_at: datetime
    mapping_hash: str
    state: str
    ds: date


def new_deliveries(
    s: Session, landing: Path, mapping: Mapping, files: Sequence[LandedFile]
) -> list[Delivery]:
    """The files that ops.files does not know yet as this mapping reads them, by delivery.

    A file whose mapping was mended is read again. An event's file with the content of another is a
    repetition; a snapshot's only for the same date, since a catalogue may return to what it was.
    """
    rows = _known(s)
    newest = {(row.dataset, row.path): row for row in rows}
    hashes = {dataset: mapping_hash(mapping, dataset) for dataset in mapping.sources()}
    read = [
        row
        for row in rows
        if row.mapping_hash == hashes.get(row.dataset) or row.state == "withdrawn"
    ]
    first_with = {_content_key(row): row.path for row in reversed(read) if row.state != "refused"}
    there = {(_content_key(row), row.path) for row in read}
    found: list[Delivery] = []
    for file in sorted(files, key=lambda file: (_arrived_at(file, mapping), file.path)):
        last = newest.get((file.dataset, file.path))
        is_current = last is not None and (
            last.mapping_hash == hashes[file.dataset] or last.state == "withdrawn"
        )
        if (
            is_current
            and last
            and (last.n_bytes, last.modified_at)
            == (
                file.n_bytes,
                file.modified_at,
            )
        ):
            continue
        content = content_hash(landing / file.path)
        if is_current and last and last.content_hash == content:
            continue
        arrived_at = _arrived_at(file, mapping)
        row = Delivery(file, "", content, arrived_at, hashes[file.dataset])
        first = first_with.setdefault(_content_key(row), file.path)
        if (_content_key(row), file.path) in there:
            continue  # it returned to what it was, and those records are here
        repeats = None if first == file.path else first
        found.append(replace(row, file_id=_file_id(row), repeats=repeats))
    return found


def _known(s: Session) -> list[_Known]:
    s.read("ops.files", newest=True)
    columns = ", ".join(_Known.__dataclass_fields__)
    rows = s.rows(f"SELECT {columns} FROM ops.files ORDER BY ingested_at, path, file_id")
    return [_Known(*row) for row in rows]


def mapping_hash(mapping: Mapping, dataset: str) -> str:
    """A hash of what decides how a dataset's records are read."""
    where = {"files", "files_per_day", "optional"}
    return fingerprint([mapping.sources()[dataset].model_dump_json(exclude=where)])


def _content_key(row: "Delivery | _Known") -> tuple[str, str, date | None]:
    return row.dataset, row.content_hash, row.ds if row.dataset in SNAPSHOTS else None


def _file_id(delivery: Delivery) -> str:
    return fingerprint([delivery.file.path, *map(str, _content_key(delivery))])


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _arrived_at(file: LandedFile, mapping: Mapping) -> datetime:
    """The end of the date in the path, in the source's zone; else the file's own time."""
    if file.delivered is None:
        return file.modified_at
    source = mapping.sources()[file.dataset]
    of_times = source.time.zone if isinstance(source, Events | Impressions) else "UTC"
    zone = ZoneInfo(source.arrived.zone or of_times)
    end = datetime.combine(file.delivered + timedelta(days=1), time(), zone)
    return end.astimezone(UTC)
