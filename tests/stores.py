"""A real object store on this machine, and shops whose lake and landing folder lie in it."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flows.nightly import nightly
from tasks.lake.tables import Lake
from tasks.lake.warehouse import views
from tasks.night import Outcome, refresh
from tasks.places import Place, StorePath
from tasks.shop import Shop, open_shop
from tasks.stores import Storage
from tests.scenarios.nights import Place as OnDisk

WEED = Path(sys.executable).with_name("weed")
BUCKET = "shop"
OWNER = ("owner-key-7Q", "owner-secret-4vZ9")
READER = ("reader-key-2M", "reader-secret-8xK1")
STRANGER = ("stranger-key-5T", "stranger-secret-3wB6")
_PROCESSES = multiprocessing.get_context("forkserver")
_GRPC = 10_000  # how far above each port its twin is


def set_keys(keys: tuple[str, str]) -> None:
    """Have these keys in the environment."""
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = keys


@dataclass
class Server:
    """A store that keeps its files below a folder; killed and started again, it has them still."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: _free_ports(5))
    certificates: tuple[Path, Path, Path] | None = None  # as `make_certificates` gives them
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        if self.certificates is not None:
            return f"https://127.0.0.1:{self.ports[4]}"
        return f"http://127.0.0.1:{self.ports[3]}"

    @property
    def storage(self) -> Storage:
        ca = None if self.certificates is None else self.certificates[0]
        return Storage(endpoint=self.endpoint, ca=ca)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        users = self.folder.parent / f"{self.folder.name}.json"
        users.write_text(json.dumps({"identities": _identities()}))
        master, volume, filer, s3, _ = self.ports
        options: dict[str, Any] = {
            "dir": self.folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "volume.port": volume,
            "filer.port": filer,
            "s3.port": s3,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": users,
            "s3.iam": "false",
            "metricsPort": 0,
            "volume.max": 20,
            "master.volumeSizeLimitMB": 64,
            "master.telemetry": "false",
        }
        if self.certificates is not None:
            _, certificate, key = self.certificates
            options |= {"s3.port.https": self.ports[4]}
            options |= {"s3.cert.file": certificate, "s3.key.file": key}
        told = [f"-{name}={value}" for name, value in options.items()]
        log = self.folder.parent / f"{self.folder.name}.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(WEED), "server", "-s3", *told], stdout=out, stderr=out, cwd=self.folder
            )
        self._wait(log)

    def _wait(self, log: Path) -> None:
        set_keys(OWNER)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, log.read_text()[-2000:]
            if not _is_free(self.ports[3]):
                with suppress(Exception):  # it is not ready yet
                    files = self.storage.files()
                    if not files.exists(BUCKET):
                        files.call_s3("create_bucket", Bucket=BUCKET)
                    files.pipe_file(f"{BUCKET}/ready", b"")
                    return
            time.sleep(0.2)
        raise AssertionError(log.read_text()[-2000:])

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def at(self, *parts: str) -> StorePath:
        return StorePath(BUCKET, "/".join(parts), self.storage)


def _identities() -> list[dict[str, Any]]:
    rights = {OWNER: ["Admin", "Read", "Write", "List"], READER: ["Read", "List"]}
    return [
        {
            "name": keys[0].split("-")[0],
            "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}],
            "actions": actions,
        }
        for keys, actions in rights.items()
    ]


def _free_ports(n: int) -> list[int]:
    found: list[int] = []
    candidate = 20_000 + os.getpid() % 20_000
    while len(found) < n:
        candidate = 20_000 + (candidate - 20_000 + 7) % 25_000
        if _is_free(candidate) and _is_free(candidate + _GRPC):
            found.append(candidate)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as ear:
        try:
            ear.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def running(folder: Path, certificates: tuple[Path, Path, Path] | None = None) -> Iterator[Server]:
    """A server until it is left."""
    server = Server(folder, certificates=certificates)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class InStore:
    """A shop whose lake lies in a store, and its landing folder too."""

    root: Path  # of its settings
    url: str

    @classmethod
    def of(cls, local: OnDisk, server: Server, root: Path) -> "InStore":
        """The same shop as one on disk, with nothing landed yet."""
        root.mkdir(parents=True)
        shop = cls(root, str(server.at(root.name)))
        told = f'\n[storage]\nendpoint = "{server.endpoint}"\nwork = "{root / "work"}"\n'
        shop.settings.write_text(local.settings.read_text() + told)
        return shop

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"

    @property
    def shop(self) -> Shop:
        return open_shop(self.settings, None, f"{self.url}/landing", f"{self.url}/lake")

    @property
    def lake(self) -> Place:
        return self.shop.lake.root

    def land(self, folder: Path, *parts: str) -> None:
        """Put what has landed on disk, all of it or what lies below a part of it."""
        storage = self._storage()
        for path in sorted(folder.joinpath(*parts).rglob("*")):
            if path.is_file():
                key = f"{self.url}/landing/{path.relative_to(folder).as_posix()}"
                StorePath(BUCKET, key.removeprefix(f"s3://{BUCKET}/"), storage).put(path)

    def _storage(self) -> Storage:
        from tasks.settings import load_settings

        return load_settings(self.settings).storage

    def run(self, ds: date | None = None) -> Outcome:
        """Run a night as plain functions."""
        url = self.url
        return nightly.fn(ds, settings=self.settings, landing=f"{url}/landing", lake=f"{url}/lake")

    def refresh(self) -> None:
        """Make the file of views."""
        refresh(self.shop)

    def ask(self, question: str) -> list[Any]:
        """Ask the file of views."""
        with views(Lake(self.lake)) as con:
            return con.sql(question).fetchall()


class _HandingOn(BaseHTTPRequestHandler):
    """Hands requests on; a put that is to fail where there is a file may replace that file."""

    server: "_Proxy"
    protocol_version = "HTTP/1.1"  # who puts waits for a word before the body

    def log_message(self, format: str, *told: Any) -> None:
        pass

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.does_once("fails", self.path):
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.forgets and self.command == "PUT" and self.headers.get("If-None-Match"):
            bucket, _, key = self.path.split("?")[0].lstrip("/").partition("/")
            self.server.behind.storage.files().call_s3("delete_object", Bucket=bucket, Key=key)
        with closing(HTTPConnection("127.0.0.1", self.server.behind.ports[3], timeout=60)) as there:
            self._answer(there, body)

    def _answer(self, there: HTTPConnection, body: bytes) -> None:
        there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() == "expect":
                continue
            there.putheader(name, value)
        there.endheaders(body)
        answer = there.getresponse()
        told = answer.read()
        if self.command == "PUT" and self.server.does_once("loses", self.path):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        if self.command == "GET" and self.server.does_once("breaks", self.path):
            self.close_connection = True
            told = told[: len(told) // 2]
        self.wfile.write(told)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _hand_on  # noqa: N815


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behind: Server, forgets: bool, once: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _HandingOn)
        self.behind, self.forgets, self._once = behind, forgets, dict(once)

    def does_once(self, what: str, path: str) -> bool:
        """Whether it does so to this request: the first of a path that ends as it was told."""
        ending = self._once.get(what)
        if not ending or not path.split("?")[0].endswith(ending):
            return False
        del self._once[what]
        return True


def _serve(told: Any, ports: list[int], forgets: bool, once: dict[str, str]) -> None:
    set_keys(OWNER)
    proxy = _Proxy(Server(Path(), ports), forgets, once)
    told.send(f"http://127.0.0.1:{proxy.server_address[1]}")
    proxy.serve_forever()


@contextmanager
def proxied(behind: Server, *, forgets: bool = False, **once: str) -> Iterator[str]:
    """A store behind a proxy: the address, until it is left.

    It makes the store forget conditional puts. Of a path that ends so, it `loses` the answer to the
    first put, `breaks` off in the middle of the first file that is read, or `fails` at the first
    request. In a process of its own, for delta-rs keeps Python waiting while it waits.
    """
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_serve, args=(theirs, behind.ports, forgets, once))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()
        for end in (ours, theirs):
            end.close()
