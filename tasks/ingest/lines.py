"""Text files line by line: the header of a CSV file, and the line on which a record stands."""

import csv
import gzip
from collections.abc import Collection, Iterable, Iterator
from io import TextIOWrapper
from itertools import count, islice
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


def lines_of(
    path: Path, source: Source, rejected: Collection[int], numbers: Collection[int]
) -> dict[int, int]:
    """The first line of the `numbers`th records, among those that do not stand on `rejected`."""
    if not numbers:
        return {}
    starts = count(1) if source.format == "jsonl" else _csv_starts(path, source)
    taken = islice((line for line in starts if line not in rejected), max(numbers))
    return {number: line for number, line in enumerate(taken, 1) if number in numbers}


def _csv_starts(path: Path, source: Source) -> Iterator[int]:
    """The first line of every record, the header left out; a blank line is no record."""
    csv.field_size_limit(_LONGEST_FIELD)
    with _open_text(path, source, newline="") as text:
        reader = _records(text, source)
        if source.header:
            next(reader, None)
        last = reader.line_num
        for record in reader:
            first, last = last + 1, reader.line_num
            if record:
                yield first


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
