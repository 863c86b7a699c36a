"""Processes that belong together: started with a mark, watched, and ended, all of them.

Whatever a marked process starts inherits the mark, through its environment: also what it starts in
a session of its own, and what outlives it. So none is left behind.
"""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.scratch import replacing

MARK = "NIGHTRANK_UP"
_PROCESSES = Path("/proc")
LOG_BYTES = 10 * 2**20  # of a log, before it is put aside


@dataclass(frozen=True)
class Held:
    """What is said of a machine that is up, beside its lock."""

    process: int
    mark: str
    address: str


@dataclass
class Child:
    """One process that is to be there: how it is started, and how often it had to be."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    n_deaths: int = 0

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only who watches it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def patience(self) -> float:
        """Seconds to wait before it is started again: more, the oftener it died."""
        return float(min(2 ** min(self.n_deaths, 5), 30)) if self.n_deaths > 1 else 0.0

    def stop(self, seconds: float) -> None:
        """Ask it to end; after so many seconds, end it."""
        if self.process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.is_alive:
                self.process.send_signal(sign)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
                return


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock for as long as this process lives; False: another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def note(folder: Path, said: Held) -> None:
    """Say beside the lock who holds it."""
    with replacing(folder / "up.json") as beside:
        beside.write_text(json.dumps(asdict(said)))


def noted(folder: Path) -> Held | None:
    """Who holds the lock, or held it last."""
    with suppress(OSError, ValueError, TypeError):
        return Held(**json.loads((folder / "up.json").read_text()))
    return None


def marked(mark: str) -> list[int]:
    """The processes that have the mark, this one left out; empty where there is no /proc."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for process in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is another account's
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return [each for each in found if each != os.getpid() and not _is_ended(each)]


def _is_ended(process: int) -> bool:
    """Whether it has ended and only waits for its parent to look."""
    with suppress(OSError, IndexError):
        state = (_PROCESSES / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0]
        return state in ("Z", "X")
    return True


def end(which: Callable[[], Iterable[int]], seconds: float) -> int:
    """Ask processes to end, and end those that have not after so many; returns how many."""
    first = list(which())
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in which():
            with suppress(ProcessLookupError):
                os.kill(process, sign)
        deadline = time.monotonic() + seconds
        while any(which()) and time.monotonic() < deadline:
            time.sleep(0.05)
    return len(first)
