"""Nights on an object store equal nights on disk, also where they were killed or the store was."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from tasks.errors import NightrankError
from tasks.lake.tables import Lake
from tasks.lake.warehouse import views
from tasks.places import StorePath, entries
from tasks.sample import ShopSettings, write_sample
from tests.scenarios.nights import (
    Moment,
    Place,
    contents,
    day,
    found,
    in_process,
    leave_out_what_only_reads,
    run_and_die,
)
from tests.stores import OWNER, READER, STRANGER, InStore, Server, proxied, set_keys

FIRST = 3  # the first night closes this day
SERVED = "SELECT min(ds), max(ds), count(DISTINCT release_id), count(*) FROM serve.current"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample shop of six small days."""
    root = tmp_path_factory.mktemp("small")
    write_sample(ShopSettings(n_days=6, n_users=40, n_items=30, seed=5), root)
    return root


@dataclass
class Twins:
    """The same shop on disk and in a store; the one on disk is never disturbed."""

    disk: Place
    store: InStore
    sample: Path
    served: set[tuple[object, ...]] = field(default_factory=set)

    def land(self, number: int) -> None:
        first = 0 if number == FIRST else number
        found(self.disk, first, number + 1, self.sample)
        for each in range(first, number + 1):
            for dataset in ("events", "impressions", "items", "users"):
                self.store.land(self.disk.landing, dataset, f"dt={day(each)}")

    def compare(self) -> None:
        ours, theirs = contents(self.store.lake), contents(self.disk.lake)
        assert [name for name in ours if ours[name] != theirs[name]] == []
        assert any(ours.values())
        self.served |= {self.disk.ask(SERVED)[0]}
        assert self.store.ask(SERVED) == self.disk.ask(SERVED)


def twins(server: Server, sample: Path, root: Path) -> Twins:
    disk = found(Place(root / "disk"), 0, 0, sample)
    return Twins(disk, InStore.of(disk, server, root / f"store-{root.name}"), sample)


@contextmanager
def polled(shop: InStore) -> Iterator[set[tuple[object, ...]]]:
    """Poll what is served over one open connection, all the while."""
    shop.refresh()
    seen: set[tuple[object, ...]] = set()
    failed: list[str] = []
    is_over = threading.Event()

    def poll() -> None:
        with views(Lake(shop.lake)) as con:
            while not is_over.wait(0.2):
                try:
                    seen.update(con.sql(SERVED).fetchall())
                except Exception as error:  # a store that is down is no half list
                    failed.append(str(error))

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        try:
            yield seen
        finally:
            is_over.set()
        polling.result()
    assert all("does not answer" in each for each in failed), failed


def _run_until_hit(shop: InStore, stage: str, pid: int) -> None:
    """Run a night; as a stage begins, the store is killed."""
    from tasks.progress import watched_by

    class Hitman:
        def began(self, name: str) -> None:
            if name == stage:
                os.kill(pid, signal.SIGKILL)

        def moved(self, *_: Any) -> None: ...
        def ended(self, *_: Any) -> None: ...
        def said(self, _: str) -> None: ...

    leave_out_what_only_reads(pytest.MonkeyPatch())
    try:
        with watched_by(Hitman()):
            shop.run()
    except NightrankError as error:
        assert "does not answer" in error.what, error.what  # noqa: PT017
        os._exit(7)


def run_plainly(shop: InStore | Place) -> None:
    leave_out_what_only_reads(pytest.MonkeyPatch())
    shop.run()


def killed(shop: InStore, moment: Moment) -> None:
    assert run_and_die(shop, None, moment, is_checked=False) == -9


@pytest.fixture(scope="module")
def both(server: Server, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """The twins after their first night, which nothing disturbed."""
    set_keys(OWNER)
    both = twins(server, small, tmp_path_factory.mktemp("twins"))
    both.land(FIRST)
    for shop in (both.disk, both.store):
        assert in_process(run_plainly, shop) == 0
    return both


def test_a_night_in_a_store_equals_a_night_on_disk(both: Twins, store: Server) -> None:
    both.compare()


SECRETS = [*OWNER, *READER, *STRANGER]
FAILURES = {
    "no such key": (STRANGER, "does not know the key in AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS"),
    "another secret": ((OWNER[0], STRANGER[1]), "refuses the secret", "storage.secret"),
    "may only read": (READER, "may not do this", "list, read, write and delete"),
    "no bucket": (OWNER, "no such bucket", "paths.lake"),
    "no answer": (OWNER, "does not answer", "storage.endpoint"),
    "no conditional put": (OWNER, "no conditional put", "storage.endpoint"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_a_store_refuses_is_told_and_yesterday_stays_served(
    both: Twins,
    store: Server,
    failure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    keys, what, fix = FAILURES[failure]
    before, objects = both.store.ask(SERVED), _objects(both.store)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    with proxied(store, forgets=True) as proxy:
        shop = _broken(both.store, failure, tmp_path, proxy)
        with pytest.raises(NightrankError) as caught:
            shop.run()
    assert what in caught.value.what
    assert fix in caught.value.fix
    told = "".join(traceback.format_exception(caught.value))
    out, err = capfd.readouterr()
    said = told + caplog.text + out + err
    assert not [secret for secret in SECRETS if secret in said]
    assert "Signature=" not in said
    monkeypatch.undo()
    set_keys(OWNER)
    assert both.store.ask(SERVED) == before
    assert _objects(both.store) == objects  # nothing was written


@pytest.mark.prefect
def test_a_night_that_is_refused_tells_no_key_by_command(
    both: Twins, store: Server, tmp_path: Path
) -> None:
    """Neither on the terminal, nor in what Prefect keeps of the run."""
    shop, home = _broken(both.store, "", tmp_path, ""), tmp_path / "prefect"
    keys = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), READER, strict=True))
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", *_arguments(shop)],
        env={**os.environ, **keys, "PREFECT_HOME": str(home)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"may not do this" in done.stderr + done.stdout
    kept = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert any(b"may not do this" in each for each in kept)
    said = [done.stdout, done.stderr, *kept]
    assert not [secret for secret in SECRETS if any(secret.encode() in each for each in said)]
    assert not any(b"Signature=" in each for each in said)


def _broken(shop: InStore, failure: str, root: Path, proxy: str) -> InStore:
    """The same shop, told of another bucket or address where that is what fails."""
    told = shop.settings.read_text()
    endpoint = told.split('endpoint = "')[1].split('"')[0]
    others = {"no answer": "http://127.0.0.1:9", "no conditional put": proxy}
    (root / "settings.toml").write_text(told.replace(endpoint, others.get(failure, endpoint)))
    url = shop.url.replace("s3://shop", "s3://nowhere") if failure == "no bucket" else shop.url
    return InStore(root, url)


def _arguments(shop: InStore) -> list[str]:
    places = {"settings": shop.settings, "landing": f"{shop.url}/landing"}
    places["lake"] = f"{shop.url}/lake"
    return [text for name, value in places.items() for text in (f"--{name}", str(value))]


def _objects(shop: InStore) -> list[tuple[str, int]]:
    return [(each.path, each.n_bytes) for each in entries(shop.lake)]


def test_no_key_is_written_anywhere(both: Twins, store: Server) -> None:
    """Not in an object, packed or not, nor in a row of a table."""
    lake = both.store.lake
    assert isinstance(lake, StorePath)
    for entry in entries(lake):
        data = (lake / entry.path).read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in data], entry.path
    rows = str(contents(lake)) + str(both.store.ask("SELECT * FROM ops.nights"))
    assert not [secret for secret in SECRETS if secret in rows]


def test_questions_and_findings_by_command(
    both: Twins, store: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(both.store)
    assert main(["query", "SELECT count(*) AS n FROM serve.current", *arguments]) == 0
    assert str(both.store.ask("SELECT count(*) FROM serve.current")[0][0]) in capfd.readouterr().out
    assert main(["status", "--format", "json", *arguments]) == 0
    assert '"n_bytes"' in capfd.readouterr().out
    rooms = ["--room", "storage", "--room", "sources"]
    main(["doctor", "--format", "json", *rooms, *arguments])
    found = json.loads(capfd.readouterr().out)["findings"]
    assert [each for each in found if each["verdict"] == "wrong"] == []
    assert any("put to conditionally" in each["found"] for each in found)
    assert main(["housekeeping", *arguments]) == 0
    assert str(both.store.ask(SERVED)[0][3]) in str(both.disk.ask(SERVED))


def test_nights_that_are_killed_converge(both: Twins, store: Server) -> None:
    """The second night is killed twice; the third once, and then the store is killed under it."""
    both.land(FIRST + 1)
    assert in_process(run_plainly, both.disk) == 0
    with polled(both.store) as seen:
        killed(both.store, Moment("ingest", 1))
        killed(both.store, Moment("publish", 3))
        assert in_process(run_plainly, both.store) == 0
    both.compare()
    assert seen <= both.served
    assert len(seen) == 2

    both.land(FIRST + 2)
    assert in_process(run_plainly, both.disk) == 0
    with polled(both.store) as seen:
        killed(both.store, Moment("train bpr", when="moved"))
        assert store.process is not None
        pid = store.process.pid
        assert in_process(_run_until_hit, both.store, "make_release", pid) == 7
        store.process.wait()
        store.start()
        assert in_process(run_plainly, both.store) == 0
    both.compare()
    assert seen <= both.served
    assert len(seen) == 2
