"""Which landed files are new: known by path, size and time first, by content second."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tasks.errors import SourceError, StorageError
from tasks.ingest.formats import endings
from tasks.lake.session import Session
from tasks.lake.tables import fingerprint
from tasks.mapping import Events, Impressions, Mapping, Source
from tasks.places import Place, StorePath
from tasks.records import LandedFile

OCCURRENCES = ("events", "impressions")
SNAPSHOTS = ("items", "users")
_YOUNG = timedelta(seconds=20)  # more than clocks differ
_HELD = ("ingested", "repeated")
ContentKey = tuple[str, str, date | None, tuple[str, ...]]


@dataclass(frozen=True)
class Delivery:
    """One file to account for.

    `repeats` is the path whose content it repeats, `noted_ds` the date that ops.files has for it.
    """

    file: LandedFile
    file_id: str
    content_hash: str
    arrived_at: datetime
    mapping_hash: str
    repeats: str | None = None
    noted_ds: date | None = None

    @property
    def dataset(self) -> str:
        """events, impressions, items or users."""
        return self.file.dataset

    @property
    def path(self) -> str:
        """Below the landing folder."""
        return self.file.path

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
    file_id: str
    ingested_at: datetime


def new_deliveries(
    s: Session, landing: Place, mapping: Mapping, files: Sequence[LandedFile]
) -> list[Delivery]:
    """The files that ops.files does not know yet as this mapping reads them, by delivery.

    A file whose mapping was mended is read again. An event's file with the content of another is a
    repetition; a snapshot's only for the same date, since a catalogue may return to what it was.
    """
    known = _Ledger(_known(s), mapping, landing)
    found: list[Delivery] = []
    for file in sorted(files, key=lambda file: (arrived_at(file, mapping), file.path)):
        if known.has_file(file):
            continue
        delivery = Delivery(
            file=file,
            file_id="",
            content_hash=_hash_of(landing, file),
            arrived_at=arrived_at(file, mapping),
            mapping_hash=known.hashes[file.dataset],
        )
        delivery = known.identify(delivery)
        if not known.has_delivery(delivery):
            found.append(known.note(delivery))
    return found


class _Ledger:
    """What is known of deliveries, by path and by content, and which of it still counts."""

    def __init__(self, rows: Sequence[_Known], mapping: Mapping, landing: Place) -> None:
        self.landing = landing
        self.hashes = {dataset: mapping_hash(mapping, dataset) for dataset in mapping.sources()}
        self.newest = {(row.dataset, row.path): row for row in rows}
        self.of_path = {(content_key(row), row.path): row for row in rows}
        self.ds_of = {row.file_id: row.ds for row in rows}
        self.path_of = {row.file_id: row.path for row in rows}
        read = [row for row in rows if row.mapping_hash == self.hashes.get(row.dataset)]
        self.first_with = {
            content_key(row): row.path for row in reversed(read) if row.state in _HELD
        }
        self.ingested = {content_key(row): row for row in rows if row.state == "ingested"}

    def _is_read(self, row: _Known | None) -> bool:
        """Whether a row stands as it is: read by this mapping, or withdrawn."""
        if row is None:
            return False
        return row.state == "withdrawn" or row.mapping_hash == self.hashes[row.dataset]

    def has_file(self, file: LandedFile) -> bool:
        """Whether the file is known without a look at its content."""
        last = self.newest.get((file.dataset, file.path))
        if last is None or _may_hide_a_change(last):
            return False
        return self._is_read(last) and _stamp(last) == (file.n_bytes, file.modified_at)

    def identify(self, delivery: Delivery) -> Delivery:
        """Give the delivery its id: its own, or that of the one that it is once more."""
        file_id = self._id_of(delivery)
        return replace(delivery, file_id=file_id, noted_ds=self.ds_of.get(file_id))

    def _id_of(self, delivery: Delivery) -> str:
        key, path = content_key(delivery), delivery.file.path
        last, same = self.newest.get((delivery.dataset, path)), self.of_path.get((key, path))
        has_returned = same is not None and same != last
        before = same or self._renamed(key)
        if before is not None and not has_returned:
            return before.file_id
        # What returns after another content is a delivery of its own: the last word counts.
        when = [str(delivery.file.modified_at)] if has_returned else []
        made = fingerprint([path, *map(str, key[:3]), *when])
        if self.path_of.get(made, path) != path:  # a renamed file took it along
            made = fingerprint([made, path])
        return made

    def _renamed(self, key: ContentKey) -> _Known | None:
        """What this content was before its mapping was mended, if the file of then is gone."""
        before = self.ingested.get(key)
        if before is None or key in self.first_with or (self.landing / before.path).exists():
            return None
        return before

    def has_delivery(self, delivery: Delivery) -> bool:
        """Whether its records were taken, or are not wanted any more."""
        same = self.of_path.get((content_key(delivery), delivery.file.path))
        last = self.newest.get((delivery.dataset, delivery.file.path))
        if same is None or last is None:
            return False
        return self._is_read(same) and (same.state == "withdrawn" or same == last)

    def note(self, delivery: Delivery) -> Delivery:
        """The delivery, told whether it repeats another file; it counts from now on."""
        path = delivery.file.path
        first = self.first_with.setdefault(content_key(delivery), path)
        return replace(delivery, repeats=None if first == path else first)


def _known(s: Session) -> list[_Known]:
    s.read("ops.files", newest=True)
    columns = ", ".join(_Known.__dataclass_fields__)
    rows = s.rows(f"SELECT {columns} FROM ops.files ORDER BY ingested_at, path, file_id")
    return [_Known(*row) for row in rows]


def mapping_hash(mapping: Mapping, dataset: str) -> str:
    """A hash of what decides how a dataset's records are read."""
    elsewhere = {"files", "files_per_day", "optional", "random_policies"}
    return fingerprint([mapping.sources()[dataset].model_dump_json(exclude=elsewhere)])


def content_key(row: "Delivery | _Known") -> ContentKey:
    """Equal for files that hold the same: as bytes, and as their endings tell to read them."""
    day = row.ds if row.dataset in SNAPSHOTS else None
    return row.dataset, row.content_hash, day, endings(Path(row.path))


def _stamp(row: _Known) -> tuple[int, datetime]:
    return row.n_bytes, row.modified_at


def _may_hide_a_change(row: _Known) -> bool:
    """Whether a file read so soon may have been changed since without another time.

    Stores tell times in whole seconds, by a clock of their own.
    """
    return not row.modified_at.microsecond and row.ingested_at - row.modified_at < _YOUNG


def _hash_of(landing: Place, file: LandedFile) -> str:
    try:
        return content_hash(landing / file.path)
    except StorageError:
        raise
    except OSError as error:
        raise SourceError(
            f"{file.path} cannot be read: {error.strerror or error}",
            where=str(landing),
            unchanged="no table was changed; what was served stays served",
            fix="see that the file stays where it is and can be read; then run the command again",
        ) from error


def content_hash(path: Place) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    if isinstance(path, StorePath):
        digest = hashlib.sha256()
        for piece in path.pieces():
            digest.update(piece)
        return digest.hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def arrived_at(file: LandedFile, mapping: Mapping) -> datetime:
    """The end of the date in the path, in the source's zone; else the file's own time."""
    if file.delivered is None:
        return file.modified_at
    return end_of(file.delivered, mapping.sources()[file.dataset])


def end_of(day: date, source: Source) -> datetime:
    """When a date ends where a source is: the time at which its files of that date arrive."""
    of_times = source.time.zone if isinstance(source, Events | Impressions) else "UTC"
    zone = ZoneInfo(source.arrived.zone or of_times)
    end = datetime.combine(day + timedelta(days=1), time(), zone)
    return end.astimezone(UTC)
