"""Files of a store as DuckDB reads them: fetched whole by one request, and kept on disk a while.

Files of tables never change, so what was fetched is asked for once; others are asked for again at
each opening, and come only if they changed. What was opened stays as it was: a list that is
replaced meanwhile is read to its end. Files too large for that are read piece by piece, those that
may change only as long as they do not.
"""

import atexit
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from tasks.places import PIECE, Stat, StorePath, is_any_known, known, save
from tasks.scratch import scratch
from tasks.stores import StoreError, asking

if TYPE_CHECKING:
    import duckdb

WHOLE = 64 * 2**20  # bytes; larger files are read piece by piece
KEPT = 2 * 2**30  # bytes that are kept on disk
_OF_TABLES = "part-"  # how delta-rs begins the names of files, none of which it gives twice
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_numbers = count(1)


@dataclass(frozen=True)
class _Copy:
    """A file as it was when it was fetched."""

    path: Path
    stat: Stat


class _Opened:
    """An open file that threads share: each has a place of its own in it.

    DuckDB seeks and then reads, from several threads at once. It lets go of some files without
    closing them.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], close: Callable[[], None]) -> None:
        self._read_at, self._close = read_at, close
        self._place = threading.local()

    @classmethod
    def on_disk(cls, path: Path) -> "_Opened":
        """A file of this machine."""
        number = os.open(path, os.O_RDONLY)
        return cls(lambda at, n: os.pread(number, n, at), partial(os.close, number))

    @classmethod
    def in_pieces(cls, file: Any, place: StorePath) -> "_Opened":
        """A file that is read piece by piece, by one thread at a time."""
        turn = threading.Lock()

        def read_at(at: int, n: int) -> bytes:
            with turn, asking(place.reached, str(place)):
                file.seek(at)
                return bytes(file.read(n))

        return cls(read_at, file.close)

    def seek(self, at: int) -> int:
        """Go to a place."""
        self._place.at = at
        return at

    def read(self, n: int) -> bytes:
        """Read on from there."""
        at = getattr(self._place, "at", 0)
        data = self._read_at(at, n)
        self._place.at = at + len(data)
        return data

    def close(self) -> None:
        """Read no more."""
        close, self._close = self._close, lambda: None
        close()

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Fetched(AbstractFileSystem):  # type: ignore[misc]
    """What DuckDB asks of a file system, for all stores that this process knows."""

    protocol = ("s3",)
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[str, _Copy] = {}
        self._seen = threading.local()  # sizes and times as this thread opened files last
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path itself: our SQL names files one by one."""
        return [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file to be read."""
        if mode != "rb":
            raise OSError(f"{path} can only be read")
        with self._lock_of(path):
            while isinstance(found := self._copy(path), _Copy):
                self._note(path, found.stat.st_size, _time(found.stat))
                try:
                    return _Opened.on_disk(found.path)
                except FileNotFoundError:  # it went to make room for another: it comes anew
                    with self._guard:
                        self._forget(path)
            return found

    def size(self, path: str) -> int:
        """Bytes of a file as this thread opened it last."""
        noted: tuple[int, datetime] | None = getattr(self._seen, "files", {}).get(path)
        return noted[0] if noted is not None else known(path).stat().st_size

    def modified(self, path: str) -> datetime:
        """Its time."""
        noted: tuple[int, datetime] | None = getattr(self._seen, "files", {}).get(path)
        return noted[1] if noted is not None else _EPOCH

    def _note(self, path: str, n_bytes: int, modified_at: datetime) -> None:
        if not hasattr(self._seen, "files"):
            self._seen.files = {}
        self._seen.files[path] = (n_bytes, modified_at)

    def _lock_of(self, path: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(path, threading.Lock())

    def _copy(self, path: str) -> Any:
        """A copy on disk, or what reads a large file piece by piece."""
        place, have = known(path), self._copies.get(path)
        is_of_table = place.name.startswith(_OF_TABLES)
        if have is not None and (is_of_table or have.stat.etag == place.stat().etag):
            return have
        return self._fetch(path, place)

    def _fetch(self, path: str, place: StorePath) -> Any:
        now, pieces = place.versioned()
        if now.st_size <= WHOLE:
            return self._keep(path, pieces, now)
        pieces.close()
        with asking(place.reached, path):
            # it reads on only while the file is the one that was opened
            name = f"{place.bucket}/{place.key}"
            file = place.reached.files().open(name, "rb", block_size=PIECE)
        self._note(path, file.size, file.details["LastModified"].astimezone(UTC))
        return _Opened.in_pieces(file, place)

    def _keep(self, path: str, pieces: Iterable[bytes], stat: Stat) -> _Copy:
        target = _folder() / str(next(_numbers))
        save(pieces, target)
        if target.stat().st_size != stat.st_size:
            raise _torn(path)
        made = _Copy(target, stat)
        with self._guard:
            self._forget(path)
            self._make_room(stat.st_size)
            self._copies[path] = made
        return made

    def _make_room(self, n_bytes: int) -> None:
        """Forget what was fetched first, until all that is kept is little enough."""
        total = n_bytes + sum(each.stat.st_size for each in self._copies.values())
        for path, copy in list(self._copies.items()):
            if total <= KEPT:
                return
            total -= copy.stat.st_size
            self._forget(path)

    def _forget(self, path: str) -> None:
        copy = self._copies.pop(path, None)
        if copy is not None:
            with suppress(OSError):  # who has it open reads on
                copy.path.unlink()


def _time(stat: Stat) -> datetime:
    return datetime.fromtimestamp(stat.st_mtime, UTC)


def _torn(path: str) -> StoreError:
    return StoreError(
        "a file came shorter than the store said",
        where=path,
        unchanged="nothing was written",
        fix="run the command again; if it stays, the store lost a part of the file",
    )


@cache
def _folder() -> Path:
    until_exit = ExitStack()
    atexit.register(until_exit.close)
    return until_exit.enter_context(scratch("fetched"))


@cache
def _filesystem() -> Fetched:
    return Fetched()


def read_stores(con: "duckdb.DuckDBPyConnection") -> None:
    """Let a connection read files of stores, if this process has to do with one."""
    if not is_any_known() or "s3" in con.list_filesystems():
        return
    con.register_filesystem(_filesystem())
    con.execute("SET enable_external_file_cache = false")  # it would not see that a file changed
