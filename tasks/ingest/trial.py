"""Read the beginning of one landed file as the mapping says, and write nothing of it down.

What the ingest of a night would say of these records is said beforehand: which raw columns the
file lacks, how many records fit, and why the others do not. Ids are hashed under a key that is
thrown away, and no text of a record is kept.
"""

import secrets
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tasks.ingest.columns import see_columns
from tasks.ingest.deliveries import Delivery, arrived_at
from tasks.ingest.formats import Layout, endings, layout_of, paths_sql
from tasks.ingest.hand import at_hand
from tasks.ingest.lines import PACKED, open_binary
from tasks.ingest.pseudonyms import use_key
from tasks.ingest.readers import How
from tasks.ingest.stage import Batch, stage
from tasks.lake.literals import literal
from tasks.lake.session import Session
from tasks.mapping import Mapping, path_parts, raw_columns
from tasks.records import LandedFile
from tasks.shop import Shop

N_RECORDS = 2_000
MOST_BYTES = 8 * 2**20
_ID = "trial"


@dataclass(frozen=True)
class Trial:
    """What became of the first records of a file; `reasons` are counts of records, most first."""

    n_read: int
    reasons: tuple[tuple[str, int], ...]
    absent: tuple[str, ...]  # raw columns that the mapping names and no record has
    refused: str | None = None  # why the file cannot be read at all

    @property
    def n_misfits(self) -> int:
        """Records that would go to quarantine."""
        return sum(n for _, n in self.reasons)


def try_file(s: Session, shop: Shop, file: LandedFile) -> Trial:
    """Read the first records of a file.

    Raises SettingsError where the mapping's own SQL cannot be run, and what opening a file raises
    (`formats.UNREADABLE`) where it is none of its format.
    """
    with at_hand(shop.landing, [file]) as landing:
        return _try(s, shop, file, landing)


def _try(s: Session, shop: Shop, file: LandedFile, landing: Path) -> Trial:
    source = shop.mapping.sources()[file.dataset]
    path = landing / file.path
    head = _head(s, path, layout_of(s.con, path, source))
    delivery = _delivery(file, shop.mapping)
    # As pseudonyms: no id is to stand in a file that a killed doctor would leave behind.
    batch = Batch(file.dataset, source, landing, [delivery], None, How(pseudonymises=True))
    batch.stand_ins[_ID] = head
    use_key(s, secrets.token_bytes(32))
    stage(s, batch)
    if batch.refused:
        return Trial(0, (), (), batch.refused[_ID])
    see_columns(s, batch)
    seen = {row[0] for row in s.rows("SELECT DISTINCT raw_column FROM seen")}
    named = raw_columns(source)
    absent = tuple(name for name in named if not {name, path_parts(name)[0]} & seen)
    counted = s.rows(
        "SELECT misfit, count(*) AS n FROM staged GROUP BY misfit ORDER BY n DESC, misfit"
    )
    rejected = s.rows("SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY ALL")
    reasons = [(reason, n) for reason, n in counted if reason is not None]
    n_read = sum(n for _, n in [*counted, *rejected])
    return Trial(n_read, (*reasons, *rejected), absent if n_read else ())


def _delivery(file: LandedFile, mapping: Mapping) -> Delivery:
    return Delivery(file, _ID, "", arrived_at(file, mapping), "")


def _head(s: Session, path: Path, layout: Layout) -> Path:
    """A copy of the first records, unpacked, under a name that tells as much of the format."""
    kept = "".join(ending for ending in endings(path) if ending not in PACKED)
    head = s.spill / f"head{kept}"
    if layout.format == "parquet":
        read = f"read_parquet({paths_sql([str(path)])}, hive_partitioning = false)"
        select = f"SELECT * FROM {read} LIMIT {N_RECORDS}"
        s.con.execute(f"COPY ({select}) TO {literal(str(head))} (FORMAT parquet)")
        return head
    with open_binary(path) as lines, head.open("wb") as copy:
        n_bytes = 0
        for line in islice(iter(lambda: lines.readline(MOST_BYTES), b""), N_RECORDS + 1):
            n_bytes += len(line)
            if n_bytes > MOST_BYTES and copy.tell():
                break
            copy.write(line)
    return head
