"""Places: folders and files on disk, or below a prefix of a bucket of an object store.

A place of a store has the verbs of a `Path` that we use, so that most code need not know which of
both it has. What differs stands here: listings tell sizes and times of all files at once, and a
file comes into its place whole, by a rename or by one put.
"""

import asyncio
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import total_ordering
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO

from pydantic import PlainSerializer, PlainValidator

from tasks.errors import StorageError
from tasks.stores import TRIES, Storage, StoreError, TakenError, asking, call, refusal_of

SCHEME = "s3://"
PIECE = 8 * 2**20  # bytes that are held of a file that is read piece by piece
_PART = 16 * 2**20  # bytes of a part of a large file that is put, of which so many are held
_PARTS_AT_ONCE = 4
_AT_ONCE = 1_000  # keys that one request removes
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_known: dict[str, Storage] = {}  # how the buckets that this process has seen are reached


@dataclass(frozen=True)
class Stat:
    """What is known of a file; times of stores are whole seconds."""

    st_size: int
    st_mtime: float
    etag: str


@total_ordering
@dataclass(frozen=True)
class StorePath:
    """A file or folder of a store: `s3://bucket/key`. There are no folders but by their files."""

    bucket: str
    key: str  # without slashes at its ends
    storage: Storage | None = field(default=None, repr=False)  # None: a name, not yet reached

    def __post_init__(self) -> None:
        if self.storage is not None:
            _known[self.bucket] = self.storage

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bucket, self.key, self.storage)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __lt__(self, other: "StorePath") -> bool:
        return str(self) < str(other)

    def __truediv__(self, other: str | PurePosixPath) -> "StorePath":
        return self.joinpath(str(other))

    def joinpath(self, *parts: str) -> "StorePath":
        """What lies below."""
        return replace(self, key="/".join(part.strip("/") for part in (self.key, *parts) if part))

    @property
    def name(self) -> str:
        """The last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The last part's ending."""
        return self._pure.suffix

    @property
    def parent(self) -> "StorePath":
        """The folder that it lies in."""
        return replace(self, key="" if "/" not in self.key else str(self._pure.parent))

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def _below(self) -> str:
        return f"{self.key}/" if self.key else ""

    @property
    def reached(self) -> Storage:
        """How it is reached."""
        assert self.storage is not None, f"{self} is a name alone"
        return self.storage

    def with_name(self, name: str) -> "StorePath":
        """Another in the same folder."""
        return self.parent / name

    def relative_to(self, other: "Place") -> PurePosixPath:
        """Its place below another."""
        return PurePosixPath(str(self)).relative_to(PurePosixPath(str(other)))

    def absolute(self) -> "StorePath":
        """Itself."""
        return self

    def stat(self) -> Stat:
        """Size and time. Raises FileNotFoundError, StoreError."""
        return _stat(self._call("head_object", Key=self.key))

    def is_file(self) -> bool:
        """Whether there is such a file."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is a file below."""
        return bool(self._call("list_objects_v2", Prefix=self._below, MaxKeys=1).get("KeyCount"))

    def exists(self) -> bool:
        """Whether there is such a file, or one below."""
        return (bool(self.key) and self.is_file()) or self.is_dir()

    def read_bytes(self) -> bytes:
        """All of a file, of one version of it."""
        return b"".join(self.pieces())

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of a file as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> BinaryIO:
        """All of a file, in memory: for small ones."""
        assert mode == "rb"
        return BytesIO(self.read_bytes())

    def pieces(self) -> Iterator[bytes]:
        """A file piece by piece, all of one version."""
        return iter(self.versioned()[1])

    def versioned(self) -> tuple[Stat, "Pieces"]:
        """What is known of a file, and that version of it piece by piece, by one request."""
        found = self._call("get_object", Key=self.key)
        stat = _stat(found)
        return stat, Pieces(self, stat, found["Body"])

    def fetch(self, target: Path) -> None:
        """Copy a file to this machine's disk; what comes of it where that fails does not stay."""
        save(self.pieces(), target)

    def write_bytes(self, data: bytes) -> None:
        """Put a file, whole."""
        self._call("put_object", Key=self.key, Body=data)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Put a file of text, whole."""
        self.write_bytes(text.encode(encoding))

    def create(self, data: bytes) -> bool:
        """Put a file only if there is none; whether it was put."""
        try:
            self._call("put_object", Key=self.key, Body=data, IfNoneMatch="*")
        except TakenError:
            return False
        return True

    def put(self, source: Path) -> None:
        """Put a file from this machine's disk, whole; a large one in parts that show at the end."""
        with asking(self.reached, str(self)):
            self.reached.files().put_file(
                str(source),
                f"{self.bucket}/{self.key}",
                chunksize=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file; one that is not there is no error."""
        self._call("delete_object", Key=self.key)

    def mkdir(self, mode: int = 0, parents: bool = True, exist_ok: bool = True) -> None:
        """Do nothing: a folder is there as soon as a file is."""

    def iterdir(self) -> Iterator["StorePath"]:
        """What lies in a folder."""
        seen = dict.fromkeys(entry.path.split("/", 1)[0] for entry in entries(self))
        yield from (self / name for name in seen)

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """The files below that a pattern matches."""
        yield from (self / entry.path for entry in entries(self, pattern))

    def rglob(self, pattern: str) -> Iterator["StorePath"]:
        """The same, at any depth."""
        return self.glob(f"**/{pattern}")

    def listed(self, prefix: str = "") -> Iterator["Entry"]:
        """All files below, whose paths begin so."""
        asked = {"Prefix": self._below + prefix}
        while True:
            found = self._call("list_objects_v2", **asked)
            for each in found.get("Contents", ()):
                path = each["Key"].removeprefix(self._below)
                if path and not path.endswith("/"):
                    yield Entry(path, each["Size"], each["LastModified"].astimezone(UTC))
            if not found.get("IsTruncated"):
                return
            asked["ContinuationToken"] = found["NextContinuationToken"]

    def remove(self) -> None:
        """Remove all files below."""
        keys = [{"Key": self._below + entry.path} for entry in self.listed()]
        for start in range(0, len(keys), _AT_ONCE):
            told = {"Objects": keys[start : start + _AT_ONCE], "Quiet": True}
            done = self._call("delete_objects", Delete=told)
            if done.get("Errors"):
                raise StoreError(
                    f"files could not be removed ({done['Errors'][0].get('Code')})",
                    where=str(self),
                    unchanged="the others were removed",
                    fix=f"let the user of {self.reached.key} delete there",
                )

    def drop_uploads(self, before: datetime) -> int:
        """Give up what was begun to be put below before then, in parts, and never ended: how many.

        A killed writer leaves such parts; they show in no listing, and take room.
        """
        asked, n_dropped = {"Prefix": self._below}, 0
        while True:
            found = self._call("list_multipart_uploads", **asked)
            for each in found.get("Uploads", ()):
                if each["Initiated"] < before:
                    told = {"Key": each["Key"], "UploadId": each["UploadId"]}
                    self._call("abort_multipart_upload", **told)
                    n_dropped += 1
            if not found.get("IsTruncated"):
                return n_dropped
            asked["KeyMarker"] = found["NextKeyMarker"]
            asked["UploadIdMarker"] = found.get("NextUploadIdMarker", "")

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return call(self.reached, str(self), method, Bucket=self.bucket, **arguments)


@dataclass
class Pieces:
    """One version of a file while it comes; what is not wanted to its end must be closed."""

    place: StorePath
    stat: Stat
    body: Any

    def __iter__(self) -> Iterator[bytes]:
        n_bytes = 0
        with asking(self.place.reached, str(self.place)):
            try:
                while piece := self._next(n_bytes):
                    n_bytes += len(piece)
                    yield piece
            finally:
                self.close()

    def _next(self, at: int) -> bytes:
        """The piece that begins there; where the answer broke off, of another answer."""
        for _ in range(TRIES - 1):
            try:
                return self._read()
            except Exception:
                if at == self.stat.st_size:
                    return b""
                self.close()
                rest = {"Range": f"bytes={at}-", "IfMatch": self.stat.etag}
                self.body = self.place._call("get_object", Key=self.place.key, **rest)["Body"]
        return self._read()

    def _read(self) -> bytes:
        loop = self.place.reached.files().loop
        return bytes(asyncio.run_coroutine_threadsafe(self.body.read(PIECE), loop).result())

    def close(self) -> None:
        """Want no more of it."""
        self.place.reached.files().loop.call_soon_threadsafe(self.body.close)


def save(pieces: Iterable[bytes], target: Path) -> None:
    """Write what comes of a store to this machine's disk, all of it or nothing.

    Raises StorageError where there is no room.
    """
    try:
        with target.open("wb") as copy:
            for piece in pieces:
                copy.write(piece)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, StorageError) or not isinstance(error, OSError):
            raise
        raise StorageError(
            f"a file of the store cannot be copied to this machine: {error.strerror or error}",
            where=str(target),
            unchanged="what was not written yet stays as it was, and what was served stays served",
            fix="make room there, or let TMPDIR name a larger disk; then run the command again",
        ) from error


def _stat(found: dict[str, Any]) -> Stat:
    return Stat(found["ContentLength"], found["LastModified"].timestamp(), found["ETag"])


def try_store(root: StorePath) -> float:
    """List, write, read and remove below a place, and see that a second conditional put fails.

    Returns by how much the store's clock is ahead, seconds. Raises StoreError for what it refuses.
    """
    probe, began = root / f".probing-{uuid.uuid4().hex}", time.time()
    answer = root._call("list_objects_v2", Prefix=root._below, MaxKeys=1)
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    skew = parsedate_to_datetime(told).timestamp() - (began + time.time()) / 2 if told else 0.0
    try:
        probe.create(b"first")  # said to be there already where the answer was lost: it is ours
        if probe.create(b"second") or not probe.is_file() or probe.read_bytes() != b"first":
            raise refusal_of("NotConditional", root.reached, str(root))
    finally:
        probe.unlink()
    return skew


Place = Path | StorePath


@dataclass(frozen=True)
class Entry:
    """One file of a listing; `path` is relative to the folder that was listed."""

    path: str
    n_bytes: int
    modified_at: datetime


def place_of(value: "str | Place") -> Place:
    """A place by its name. Raises ValueError where it can be none."""
    if isinstance(value, StorePath | Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("name a folder")
    if not value.startswith(SCHEME):
        return Path(value)
    bucket, _, key = value.removeprefix(SCHEME).partition("/")
    if "@" in bucket:  # not to be told again: what stands there may be a key and a secret
        raise ValueError("no key belongs into a name: write s3://bucket/folder")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{bucket!r} is no name of a bucket: write s3://bucket/folder")
    parts = [part for part in key.split("/") if part]
    if {".", ".."} & set(parts):
        raise ValueError("a place of a store has no . and .. in it")
    return StorePath(bucket, "/".join(parts))


Named = Annotated[Place, PlainValidator(place_of), PlainSerializer(str)]


def reached_by(storage: Storage, place: Place) -> Place:
    """The place, with how it is reached if it is of a store."""
    return replace(place, storage=storage) if isinstance(place, StorePath) else place


def known(url: str) -> StorePath:
    """A file of a bucket that this process has seen, by its whole name."""
    found = place_of(url)
    assert isinstance(found, StorePath)
    return replace(found, storage=_known.get(found.bucket))


def is_any_known() -> bool:
    """Whether this process has to do with a store."""
    return bool(_known)


def entries(folder: Place, pattern: str = "**/*") -> Iterator[Entry]:
    """The files below a folder that a pattern matches, with sizes and times."""
    if isinstance(folder, StorePath):
        yield from _matching(folder, pattern)
        return
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # it went meanwhile
            if path.is_file():
                stat = path.stat()
                at = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield Entry(path.relative_to(folder).as_posix(), stat.st_size, at)


def _matching(folder: StorePath, pattern: str) -> Iterator[Entry]:
    """As `Path.glob` does, by one listing of what begins as the pattern does."""
    from fsspec.utils import glob_translate

    pattern = PurePosixPath(pattern).as_posix()  # ./a//b means a/b, as it does on disk
    matches = re.compile(glob_translate(pattern)).fullmatch
    prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    yield from (entry for entry in folder.listed(prefix) if matches(entry.path))


def size(folder: Place) -> tuple[int, int]:
    """Bytes and number of all files below a folder; what goes meanwhile counts no more."""
    if isinstance(folder, StorePath):
        sizes = [entry.n_bytes for entry in folder.listed()]
        return sum(sizes), len(sizes)
    n_bytes, n_files, open_folders = 0, 0, [str(folder)]
    while open_folders:
        # pathlib would take several times as long over the thousands of files of a lake
        with suppress(FileNotFoundError), os.scandir(open_folders.pop()) as inside:
            for entry in inside:
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    n_bytes += entry.stat(follow_symlinks=False).st_size
                    n_files += 1
    return n_bytes, n_files


def remove(place: Place) -> None:
    """Remove a folder or file, whatever of it is there."""
    if isinstance(place, StorePath):
        place.unlink()
        place.remove()
    elif place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
