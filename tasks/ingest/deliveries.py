"""Which landed files are new: known by path, size and time first, by content second."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tasks.lake.literals import render
from tasks.lake.session import Session
from tasks.lake.tables import fingerprint
from tasks.mapping import Events, Impressions, Mapping
from tasks.records import LandedFile


@dataclass(frozen=True)
class Delivery:
    """One file to account for; `repeats` is the path whose content it repeats."""

    file: LandedFile
    file_id: str
    content_hash: str
    arrived_at: datetime
    repeats: str | None = None

    @property
    def ds(self) -> date:
        """UTC date of delivery: the date in the path, else the day it arrived."""
        return self.file.delivered or self.arrived_at.astimezone(UTC).date()


def new_deliveries(
    s: Session, landing: Path, mapping: Mapping, files: Sequence[LandedFile]
) -> list[Delivery]:
    """The files that ops.files does not know yet, in order of delivery."""
    s.read("ops.files")
    stats = set(s.rows("SELECT dataset, path, n_bytes, modified_at FROM ops.files"))
    known = {
        (dataset, content_hash): path
        for dataset, content_hash, path in s.rows(
            render(
                "SELECT dataset, content_hash, path FROM ops.files WHERE state <> $state "
                "ORDER BY state DESC, path",
                {"state": "refused"},
            )
        )
    }
    tried = set(s.rows("SELECT dataset, path, content_hash FROM ops.files"))
    found: list[Delivery] = []
    for file in sorted(files, key=lambda file: (_arrived_at(file, mapping), file.path)):
        if (file.dataset, file.path, file.n_bytes, file.modified_at) in stats:
            continue
        content = content_hash(landing / file.path)
        if (file.dataset, file.path, content) in tried:
            continue
        first = known.setdefault((file.dataset, content), file.path)
        found.append(_delivery(file, mapping, content, None if first == file.path else first))
    return found


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _delivery(file: LandedFile, mapping: Mapping, content: str, repeats: str | None) -> Delivery:
    file_id = fingerprint([file.dataset, file.path, content])
    return Delivery(file, file_id, content, _arrived_at(file, mapping), repeats)


def _arrived_at(file: LandedFile, mapping: Mapping) -> datetime:
    """The end of the date in the path, in the source's zone; else the file's own time."""
    if file.delivered is None:
        return file.modified_at
    source = mapping.sources()[file.dataset]
    zone = ZoneInfo(source.time.zone if isinstance(source, Events | Impressions) else "UTC")
    end = datetime.combine(file.delivered + timedelta(days=1), time(), zone)
    return end.astimezone(UTC)
