"""Text files line by line: the header of a CSV file, and the line on which a record stands."""

import csv
import gzip
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO, cast

import pyarrow as pa

from tasks.mapping import Source

Compression = Literal["none", "gzip", "zstd"]
_LONGEST_LINE = 2_000_000  # bytes that DuckDB's reader takes, with room for its own
_PIECE = 1 << 23  # bytes
_LOOK = 1 << 16  # bytes
_LONGEST_FIELD = 1 << 30  # characters; a quote that is not closed takes all that follows
_BETWEEN = "\x1f"  # stands for a delimiter of several characters
PACKED: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def compression_of(path: Path) -> Compression:
    """Told by the first bytes; a ValueError where the name promises what they do not hold."""
    with path.open("rb") as handle:
        start = handle.read(4)
    kinds = (kind for magic, kind in _MAGIC.items() if start.startswith(magic))
    found: Compression = next(kinds, "none")
    promised = PACKED.get(path.suffix.lower(), found)
    if found != promised:
        raise ValueError(f"its name says {promised}, its first bytes do not")
    return found


def header(path: Path, source: Source, delimiter: str) -> tuple[str, ...]:
    """The column names of a CSV file; a column without a name gets one by its place."""
    with _open_text(path, source, newline="\n") as lines:
        first = lines.readline(1 << 20).lstrip("\ufeff").rstrip("\r\n")
    if not first:
        raise ValueError("it is empty: not even a header line")
    if len(delimiter) > 1:
        names = first.split(delimiter)
    else:
        names = next(_records([first], source, delimiter))
    return tuple(name or f"column {place}" for place, name in enumerate(names, 1))


def refuse_big_endian(path: Path, source: Source) -> None:
    """Big-endian UTF-16 is a ValueError: DuckDB reads little-endian only, and finds no record."""
    if source.encoding == "utf-16":
        with open_binary(path) as handle:
            if handle.read(2) == b"\xfe\xff":
                raise ValueError("it is big-endian UTF-16; deliver it little-endian or as UTF-8")


@dataclass(frozen=True)
class Lines:
    """Lines of a CSV file: of what the reader rejected, and of the records that it took."""

    rejected: dict[int, int] = field(default_factory=dict)
    taken: "array[int]" = field(default_factory=lambda: array("q"))


def lines_of(
    path: Path, source: Source, delimiter: str, rejected: Collection[int], n_taken: int
) -> Lines:
    """Where the reader's lines `rejected` and the first `n_taken` records that it took begin.

    DuckDB counts a record that spans lines as one line, blank lines as one each. Where it takes a
    tail behind a stray quote for a record more, this stands on the last line that begins one.
    """
    found = Lines()
    last_rejected, line = max(rejected, default=0), 1
    for row, line, is_record in _rows(path, source, delimiter):
        if len(found.taken) >= n_taken and row > last_rejected:
            break
        if row in rejected:
            found.rejected[row] = line
        elif is_record:
            found.taken.append(line)
    found.taken.extend([line] * (n_taken - len(found.taken)))
    return found


def has_long_line(path: Path) -> bool:
    """Whether a line may be too long for DuckDB's buffer of 32 MB: it passes over such a line.

    Looks for the first line end in every piece; packed files have to be unpacked for that.
    """
    size = path.stat().st_size
    if compression_of(path) == "none":
        if size < 2 * _PIECE:
            return False
        # Read, not mapped: a mapped file's pages would count as this process's memory.
        with path.open("rb") as handle:
            return any(not _ends_a_line(handle, start) for start in range(0, size - _PIECE, _PIECE))
    with open_binary(path) as unpacked:
        pieces = iter(lambda: unpacked.read(_PIECE), b"")
        return any(len(piece) == _PIECE and b"\n" not in piece for piece in pieces)


def _ends_a_line(handle: BinaryIO, start: int) -> bool:
    """Whether a line ends in the piece that starts here; most do within the first few bytes."""
    handle.seek(start)
    return any(b"\n" in handle.read(_LOOK) for _ in range(_PIECE // _LOOK))


def cut_lines(path: Path, target: Path) -> None:
    """Copy a text file, unpacked; lines longer than DuckDB's reader takes are cut, and say so.

    Lines that end in CR alone end in LF in the copy.
    """
    with open_binary(path) as start:
        first = start.read(_PIECE)
    if b"\n" not in first and b"\r" in first:
        straight = target.with_suffix(".straight")
        _replace(path, straight, b"\r", b"\n")
        path = straight
    with open_binary(path) as lines, target.open("wb") as short:
        while line := lines.readline(_LONGEST_LINE):
            if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
                short.write(line)
                continue
            n_bytes = len(line)
            while (rest := lines.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                n_bytes += len(rest)
            # Cut, it is no record any more: it goes to quarantine, and the others are read.
            short.write(b"A LINE OF %d BYTES: " % (n_bytes + len(rest)) + line[:400] + b"\n")


def end_lines_alike(path: Path, target: Path) -> None:
    """Copy JSON lines, unpacked, with every CR a space: JSON takes both between its values."""
    _replace(path, target, b"\r", b" ")


def _replace(path: Path, target: Path, old: bytes, new: bytes) -> None:
    with open_binary(path) as unpacked, target.open("wb") as straight:
        while piece := unpacked.read(_PIECE):
            straight.write(piece.replace(old, new))


def _rows(path: Path, source: Source, delimiter: str) -> Iterator[tuple[int, int, bool]]:
    """As the reader counts: (its line, the file's line, whether it is a record), from 1 on."""
    csv.field_size_limit(_LONGEST_FIELD)
    with _open_text(path, source, newline="") as text:
        reader = _records(text, source, delimiter)
        last = 0
        for row, record in enumerate(reader, 1):
            first, last = last + 1, reader.line_num
            yield row, first, bool(record) and not (source.header and row == 1)


def _records(lines: Iterable[str], source: Source, delimiter: str) -> Any:
    """A csv reader, which must agree with DuckDB's about where records begin."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if source.quote else csv.QUOTE_NONE
    if len(delimiter) > 1:
        lines = (line.replace(delimiter, _BETWEEN) for line in lines)
        delimiter = _BETWEEN
    return csv.reader(lines, delimiter=delimiter, quotechar=source.quote or None, quoting=quoting)


def _open_text(path: Path, source: Source, *, newline: str) -> TextIO:
    return TextIOWrapper(open_binary(path), source.encoding, errors="replace", newline=newline)


def open_binary(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked."""
    match compression_of(path):
        case "gzip":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case "zstd":
            return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
        case "none":
            return path.open("rb")
