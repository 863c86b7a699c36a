"""Which process this is, said so that others on its machine can tell when it is gone.

And what it works at, so that they can end it. Where there is no /proc neither is known, and nothing
is ended.
"""

import os
import platform
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

_PROC = Path("/proc")
_GONE = "ZX"  # states of a process that has ended and that its parent has not looked after yet


@dataclass(frozen=True)
class Process:
    """One process of one machine.

    `mark` names the machine's boot, the namespace of process ids, and when the process started:
    an id is used again, after a restart or in a container beside. Empty where that is not told.
    """

    host: str
    pid: int
    mark: str

    def is_surely_gone(self) -> bool:
        """Whether it has ended; False also where it cannot be known from here."""
        here = _surroundings()
        if self.host != platform.node() or not here or not self.mark.startswith(f"{here} "):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another account's: it lives, or its id is used again
            return False
        _, state, started = _stat(self.pid)
        return state in _GONE if f"{here} {started}" == self.mark else bool(started)

    def is_surely_here(self) -> bool:
        """Whether it lives on this machine; False also where it cannot be known from here."""
        _, state, started = _stat(self.pid)
        mark = f"{_surroundings()} {started}"
        return (self.host, self.mark) == (platform.node(), mark) and state not in _GONE


def this_process() -> Process:
    """The process that asks."""
    pid, here = os.getpid(), _surroundings()
    started = _stat(pid)[2]
    return Process(platform.node(), pid, f"{here} {started}" if here and started else "")


def be_known_as(what: str) -> None:
    """Let others on this machine find this process by what it works at.

    And what it forks from its main thread: other threads have names of their own.
    """
    with suppress(OSError):  # it works all the same, and is not found
        (_PROC / "self/comm").write_text(_command(what))


def those_known_as(what: str) -> list[Process]:
    """The processes that live here under this name.

    Not those of another machine, nor of a container beside, which has process ids of its own.
    """
    host, here, name = platform.node(), _surroundings(), _command(what)
    pids = [int(each.name) for each in _PROC.glob("[0-9]*")]
    told = [(pid, *_stat(pid)) for pid in pids]
    return [
        Process(host, pid, f"{here} {started}")
        for pid, command, state, started in told
        if command == name and state not in _GONE
    ]


def end(found: Sequence[Process], seconds: float = 10.0) -> list[Process]:
    """End processes now and wait until they are gone, for so many seconds; returns what is left.

    Those of another account are left, unless they end by themselves.
    """
    for each in found:
        if each.is_surely_here():
            with suppress(OSError):  # it ended meanwhile, or is another account's
                os.kill(each.pid, signal.SIGKILL)
    until = time.monotonic() + seconds
    while left := [each for each in found if each.is_surely_here()]:
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return left


def _command(what: str) -> str:
    """A name as the system keeps it of a process, 15 letters at most; of no other container."""
    return f"nr-{sha256(f'{platform.node()} {_surroundings()} {what}'.encode()).hexdigest()[:12]}"


def _surroundings() -> str:
    """The machine's boot and the namespace of process ids; empty where they are not told."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def _stat(pid: int) -> tuple[str, str, str]:
    """Name and state of a process, and its start in ticks since the boot; all empty if not told."""
    with suppress(OSError):
        # The name stands in brackets and may hold any letter, brackets too.
        head, _, tail = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
        fields = tail.split()
        return head.partition("(")[2], fields[0], fields[19]
    return "", "", ""
