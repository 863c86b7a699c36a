"""Two processes ingest at once, also into one date, and processes that are killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.ingest.landing import arrival
from tasks.ingest.night import ingest
from tasks.lake.tables import Lake
from tests.scenarios.nights import barrier, in_process, start
from tests.tasks.ingest.conftest import DATED, NOON, TinyShop, event, jsonl_events, lines

Meeting = Any  # a barrier


def shop_at(root: Path, folder: str) -> TinyShop:
    """The shop of `root`, seeing one folder of files only."""
    return TinyShop(root, {"events": jsonl_events(files=f"{folder}/*.jsonl")})


def ingest_and_meet(root: Path, folder: str, table: str, meeting: Meeting) -> None:
    """Ingest, and wait for the other between the reading and the writing of a table."""
    replace: Callable[..., Any] = Lake.replace
    met: list[str] = []

    def meet_first(self: Lake, pinned: Any, where: Any, rows: Any) -> Any:
        if pinned.table.name == table and not met:
            met.append(table)
            meeting.wait(60)
        return replace(self, pinned, where, rows)

    Lake.replace = meet_first  # type: ignore[method-assign]
    shop = shop_at(root, folder).shop
    ingest(shop, arrival(shop.landing, shop.mapping, None), folder)


@pytest.mark.parametrize("table", ["clean.events", "ops.quarantine", "ops.files"])
@pytest.mark.parametrize("folders", [("a", "b"), ("a", "a")], ids=["two files", "one file"])
def test_two_at_once_into_one_date(tmp_path: Path, table: str, folders: tuple[str, str]) -> None:
    tiny = TinyShop(tmp_path, {"events": jsonl_events(files="*/*.jsonl")})
    tiny.land("a/1.jsonl", lines(*(event(n) for n in range(100)), "{"))
    tiny.land("b/2.jsonl", lines(*(event(n) for n in range(50, 150)), "}"))
    tiny.land("start/0.jsonl", lines(event(10_000)))
    starting = shop_at(tmp_path, "start").shop
    ingest(starting, arrival(starting.landing, starting.mapping, None), "start")
    meeting = barrier(2)
    workers = [start(ingest_and_meet, tmp_path, folder, table, meeting) for folder in folders]
    for worker in workers:
        worker.join(90)
    assert [worker.exitcode for worker in workers] == [0, 0]
    n = 151 if "b" in folders else 101
    assert tiny.query("SELECT count(*), count(DISTINCT event_id) FROM clean.events") == [(n, n)]
    assert len(tiny.misfits()) == len(set(folders))
    counts = tiny.counts()
    assert sum(row[2] for row in counts.values()) == n
    assert counts["a/1.jsonl"][1] == 101


def ingest_and_die(root: Path, moment: int, sources: Any) -> None:
    """Ingest, and be killed before (odd) or after (even) the moment-th half of a write."""
    replace: Callable[..., Any] = Lake.replace
    halves = 0

    def count_down(*arguments: Any) -> Any:
        nonlocal halves
        halves += 1
        if halves == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        written = replace(*arguments)
        halves += 1
        if halves == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    Lake.replace = count_down  # type: ignore[assignment, method-assign]
    TinyShop(root, sources).ingest()
    os._exit(7)  # it had fewer writes


SOURCES = {"events": jsonl_events(arrived=DATED)}


def land_two_nights(tiny: TinyShop) -> None:
    """A first night that is ingested, and a second that is not: misfits, late rows, duplicates."""
    rows = [event(n) for n in range(20)]
    tiny.land("events/dt=2026-01-05/a.jsonl", lines(*rows, "{", event(1)))
    tiny.ingest()
    late = [event(n, t=NOON + n * 3600) for n in range(15, 50)]
    tiny.land("events/dt=2026-01-06/a.jsonl", lines(*rows[:5], *late, "}", event(60, u=None)))
    tiny.land("events/dt=2026-01-06/b.jsonl", lines(event(3, i="oil"), event(61)))
    tiny.land("events/dt=2026-01-06/c.jsonl", "\xff\n", as_is=True)


def killed_converges(root: Path, moment: int) -> bool:
    """Kill an ingest at a moment and run it again; False where it has no such moment."""
    whole, killed = TinyShop(root / "whole", SOURCES), TinyShop(root / "killed", SOURCES)
    for tiny in (whole, killed):
        land_two_nights(tiny)
    whole.ingest()
    code = in_process(ingest_and_die, killed.root, moment, SOURCES)
    if code == 7:
        return False
    assert code == -signal.SIGKILL
    killed.ingest()
    assert killed.tables() == whole.tables()
    return True


@pytest.mark.parametrize("moment", [2, 3, 7])
def test_a_killed_ingest_converges(tmp_path: Path, moment: int) -> None:
    assert killed_converges(tmp_path, moment)
