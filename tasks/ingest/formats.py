"""What a landed file is: its format, compression and raw columns, told by the file itself."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb

from tasks.ingest.lines import PACKED, Compression, compression_of, header, refuse_big_endian
from tasks.lake.literals import literal
from tasks.mapping import Source

Format = Literal["jsonl", "csv", "parquet"]
MOST_COLUMNS = 2_000
OUR_FILE = "# file"
_GLOB = re.compile(r"[\[*?]")
_ENDINGS: Mapping[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Layout:
    """How one file is to be read; files of one layout are read in one go.

    `columns` are the raw columns in order with their types, all text in CSV; JSON lines have none
    of their own, for each record may have others.
    """

    format: Format
    compression: Compression = "none"
    delimiter: str = ","
    columns: tuple[tuple[str, str], ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """The raw columns' names."""
        return tuple(name for name, _ in self.columns)


def layout_of(con: duckdb.DuckDBPyConnection, path: Path, source: Source) -> Layout:
    """Look at a file. Raises ValueError, OSError, csv.Error or duckdb.Error where it is none."""
    form = _format(path, source)
    if form == "parquet":
        read = f"read_parquet({paths_sql([str(path)])}, hive_partitioning = false)"
        described = con.sql(f"DESCRIBE SELECT * FROM {read}")
        columns = tuple((row[0], row[1]) for row in described.fetchall())
        _refuse_columns([name for name, _ in columns])
        return Layout(form, columns=columns)
    refuse_big_endian(path, source)
    compression = compression_of(path)
    if form == "jsonl":
        return Layout(form, compression)
    delimiter = _delimiter(path, source)
    names = header(path, source, delimiter) if source.header else source.names
    _refuse_columns(names)
    return Layout(form, compression, delimiter, tuple((name, "VARCHAR") for name in names))


def _refuse_columns(names: Sequence[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise ValueError(f"it has {len(names):,} columns; at most {MOST_COLUMNS:,} can be read")
    # SQL does not tell a name in capitals from the same in small letters.
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError(f"a column name stands twice: {', '.join(names)}")
    if OUR_FILE in names:
        raise ValueError(f"a column is named {OUR_FILE!r}, as one of nightrank's own")


UNREADABLE = (OSError, EOFError, ValueError, csv.Error, duckdb.Error)


def _format(path: Path, source: Source) -> Format:
    if source.format != "auto":
        return source.format
    with path.open("rb") as handle:
        if handle.read(4) == b"PAR1":
            return "parquet"
    ending = _ending(path)
    if ending not in _ENDINGS:
        raise ValueError(
            f"its format is not told by its ending {ending or '(none)'!r}: name it *.jsonl, "
            "*.csv, *.tsv or *.parquet, or set format in the mapping"
        )
    return _ENDINGS[ending]


def endings(path: Path) -> tuple[str, ...]:
    """The parts of a file's name that tell how to read it."""
    told = {*_ENDINGS, *PACKED}
    return tuple(ending for ending in map(str.lower, path.suffixes) if ending in told)


def _ending(path: Path) -> str:
    endings = [ending for ending in path.suffixes if ending not in PACKED]
    return endings[-1].lower() if endings else ""


def _delimiter(path: Path, source: Source) -> str:
    is_default = source.delimiter == Source.model_fields["delimiter"].default
    return "\t" if is_default and _ending(path) == ".tsv" else source.delimiter


def paths_sql(files: list[str]) -> str:
    """Paths as they are: DuckDB would take brackets, stars and question marks for patterns."""
    return literal([_GLOB.sub(r"[\g<0>]", file) for file in files])
