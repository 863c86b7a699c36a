"""Text files line by line: the header of a CSV file, and the line on which a record stands."""

import csv
import gzip
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, cast

from tasks.mapping import Source

_LONGEST_FIELD = 1 << 22  # characters; DuckDB refuses lines half as long


def header(path: Path, source: Source) -> tuple[str, ...]:
    """The column names of a CSV file; a column without a name gets one by its place."""
    with _open_text(path, source, newline="\n") as lines:
        first = lines.readline(1 << 20).lstrip("\ufeff").rstrip("\r\n")
    if not first:
        raise ValueError("it is empty: not even a header line")
    if len(source.delimiter) > 1:
        names = first.split(source.delimiter)
    else:
        names = next(_records([first], source))
    return tuple(name or f"column {place}" for place, name in enumerate(names, 1))


def refuse_big_endian(path: Path, source: Source) -> None:
    """Big-endian UTF-16 is a ValueError: DuckDB reads little-endian only, and finds no record."""
    if source.encoding == "utf-16":
        with _open_binary(path) as handle:
            if handle.read(2) == b"\xfe\xff":
                raise ValueError("it is big-endian UTF-16; deliver it little-endian or as UTF-8")


@dataclass(frozen=True)
class Lines:
    """Lines of a file: of what the reader rejected, and of the records that it took."""

    rejected: dict[int, int]
    taken: dict[int, int]


def lines_of(
    path: Path, source: Source, rejected: Collection[int], numbers: Collection[int]
) -> Lines:
    """Where the reader's lines `rejected` and the `numbers`th records that it took begin.

    DuckDB counts a record that spans lines as one line, blank lines as one each.
    """
    found = Lines({}, {})
    last_rejected, last_taken = max(rejected, default=0), max(numbers, default=0)
    n = 0
    for row, line, is_record in _rows(path, source):
        if n >= last_taken and row > last_rejected:
            break
        if row in rejected:
            found.rejected[row] = line
        elif is_record:
            n += 1
            if n in numbers:
                found.taken[n] = line
    return found


def _rows(path: Path, source: Source) -> Iterator[tuple[int, int, bool]]:
    """As the reader counts: (its line, the file's line, whether it is a record), from 1 on."""
    if source.format == "jsonl":
        yield from ((line, line, True) for line in count(1))
    csv.field_size_limit(_LONGEST_FIELD)
    with _open_text(path, source, newline="") as text:
        reader = _records(text, source)
        last = 0
        for row, record in enumerate(reader, 1):
            first, last = last + 1, reader.line_num
            yield row, first, bool(record) and not (source.header and row == 1)


def _records(lines: Iterable[str], source: Source) -> Any:
    """A csv reader; for a delimiter of several characters, one that finds the lines only."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if source.quote else csv.QUOTE_NONE
    return csv.reader(
        lines, delimiter=source.delimiter[0], quotechar=source.quote or None, quoting=quoting
    )


def _open_text(path: Path, source: Source, *, newline: str) -> TextIO:
    return TextIOWrapper(_open_binary(path), source.encoding, errors="replace", newline=newline)


def _open_binary(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")
