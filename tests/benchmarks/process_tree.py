"""What a command and all that it starts cost: wall and CPU seconds, and the peak of their memory.

For Linux. Processes that outlive the command, such as a server that it left, count too: this
process takes them over, ends them and waits for them, so that their CPU seconds come to it. Memory
is the largest sum, over the processes that live at a moment, of what each holds at most; pages that
two of them share count twice.
"""

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROCESSES = Path("/proc")
_SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
SAMPLED = 0.1  # seconds between two looks at the memory
PATIENCE = 10.0  # seconds that what was left has to end


@dataclass(frozen=True)
class Used:
    """What was used."""

    seconds: float
    cpu_seconds: float
    peak_mb: int
    exit_code: int
    output: str  # stdout and stderr, the last 4,000 characters


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> Used:
    """Run a command to its end; its output goes to `log`.

    Nothing else may be started by this process meanwhile.
    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    started, cpu = time.perf_counter(), _cpu_seconds()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT)
        peak, is_over = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(peak, is_over))
        watcher.start()
        try:
            exit_code = process.wait()
            seconds = time.perf_counter() - started
            _end_the_rest()
        finally:
            is_over.set()
            watcher.join()
    return Used(
        seconds=round(seconds, 1),
        cpu_seconds=round(_cpu_seconds() - cpu, 1),
        peak_mb=round(peak[0] / 1024),
        exit_code=exit_code,
        output=log.read_text(errors="replace")[-4000:],
    )


def _cpu_seconds() -> float:
    """Of all descendants that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(peak: list[int], is_over: threading.Event) -> None:
    while not is_over.wait(SAMPLED):
        peak[0] = max(peak[0], sum(map(_peak_kb, descendants())))


def descendants() -> list[int]:
    """The processes that this one started, and those that they started."""
    children: dict[int, list[int]] = {}
    for folder in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, ahead = [], [os.getpid()]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def _peak_kb(pid: int) -> int:
    """The most that a process held since it began, or since it had the system forget."""
    with suppress(OSError, StopIteration):
        lines = (_PROCESSES / str(pid) / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


def _end_the_rest() -> None:
    deadline = time.monotonic() + PATIENCE
    while left := descendants():
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(SAMPLED)
