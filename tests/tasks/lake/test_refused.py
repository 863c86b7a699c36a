"""A disk that is full or may not be written, below a lake or below a store, on a real small one."""

import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import StorageError
from tasks.ingest.hand import at_hand
from tasks.lake.tables import Lake
from tasks.places import StorePath, try_store
from tasks.records import LandedFile
from tasks.stores import Storage
from tests.certificates import make_certificates
from tests.stores import BUCKET, OWNER, Server, running

NAME = "ops.nights"
MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)


def row(text: str, ds: date) -> dict[str, Any]:
    """One that is too large for what may be left of a page of a full disk."""
    now, long = datetime.now(UTC), secrets.token_hex(200_000)
    told = {"run_id": text, "outcome": "held", "reason": long, "release_id": None, "ds": ds}
    return {**told, "started_at": now, "ended_at": now}


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of so many MiB until it is left."""
    folder.mkdir()
    size = ["-o", f"size={mib}m"]
    done = subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("this account may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / "junk").open("wb", buffering=0) as junk, suppress(OSError):
        while junk.write(bytes(2**16)):
            pass


def refused(lake: Lake) -> StorageError:
    """What a write says; the table keeps what it had."""
    before = lake.pin(NAME)
    with pytest.raises(StorageError) as caught:
        lake.append(NAME, {"ds": TUESDAY}, [row("second", TUESDAY)])
    after = Lake(lake.root).pin(NAME)
    assert (after.version, after.files()) == (before.version, before.files())
    assert [each["run_id"] for each in lake.rows(after, {"ds": MONDAY}).to_pylist()] == ["first"]
    return caught.value


def _refuse_the_log(disk: Path) -> None:
    """A file of rows still fits, the commit that names it does not: told with its cause too."""
    said = set()
    lake = Lake(disk / "small")
    for _ in range(20):
        with suppress(OSError):
            os.truncate(disk / "junk", (disk / "junk").stat().st_size - 2**12)
        try:
            lake.append(NAME, {"ds": TUESDAY}, [{**row("second", TUESDAY), "reason": "short"}])
        except StorageError as error:
            said.add(error.what)
            continue
        break
    assert len(said) > 1
    assert all("No space left on device" in each for each in said)


def test_a_full_disk_and_one_that_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        lake = Lake(disk / "lake")
        lake.append(NAME, {"ds": MONDAY}, [row("first", MONDAY)])
        fill(disk)
        error = refused(lake)
        assert "No space left on device" in error.what
        assert "paths.lake" in error.fix
        _refuse_the_log(disk)
        (disk / "junk").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        error = refused(lake)
        assert "Read-only file system" in error.what
        assert "paths.lake" in error.fix


def test_a_store_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    with small_disk(tmp_path / "disk", 64) as disk, running(disk / "files") as server:
        lake = Lake(Server.at(server, "lake"))
        lake.append(NAME, {"ds": MONDAY}, [row("first", MONDAY)])
        fill(disk)
        error = refused(lake)
        assert "failed" in error.what or "is full" in error.what
        assert "room" in error.fix
        assert not [key for key in OWNER if key in str(error)]


def test_a_machine_with_no_room_for_what_a_store_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    with small_disk(tmp_path / "disk", 2) as disk, running(tmp_path / "files") as server:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        landed = LandedFile("events", "large", 2**22, datetime.now(UTC), None)
        (server.at("landing") / "large").write_bytes(bytes(2**22))
        with (
            pytest.raises(StorageError, match="No space left on device") as caught,
            at_hand(server.at("landing"), [landed]),
        ):
            pass
        assert "TMPDIR" in caught.value.fix
        assert not any(disk.iterdir())


def test_a_store_whose_certificate_no_public_authority_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each client is told of the authority: s3fs by its settings, delta-rs by the environment."""
    monkeypatch.setenv("SSL_CERT_FILE", "")  # to be as it was afterwards
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OWNER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OWNER[1])
    with running(tmp_path / "files", make_certificates(tmp_path)) as server:
        stranger = StorePath(BUCKET, "lake", Storage(endpoint=server.endpoint))
        with pytest.raises(StorageError, match="is not trusted") as caught:
            try_store(stranger)
        assert "storage.ca" in caught.value.fix
        with pytest.raises(StorageError, match="is not trusted"):
            Lake(stranger).pin(NAME)
        lake = Lake(server.at("lake"))
        try_store(server.at("lake"))
        lake.append(NAME, {"ds": MONDAY}, [row("first", MONDAY)])
        assert lake.pin(NAME).version == 1
