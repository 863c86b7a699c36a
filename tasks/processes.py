"""Which process this is, said so that others on its machine can tell when it is gone."""

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
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
        state, started = _state_and_start(self.pid)
        return state in _GONE if f"{here} {started}" == self.mark else bool(started)

    def is_surely_here(self) -> bool:
        """Whether it lives on this machine; False also where it cannot be known from here."""
        state, started = _state_and_start(self.pid)
        mark = f"{_surroundings()} {started}"
        return (self.host, self.mark) == (platform.node(), mark) and state not in _GONE


def this_process() -> Process:
    """The process that asks."""
    pid, here = os.getpid(), _surroundings()
    _, started = _state_and_start(pid)
    return Process(platform.node(), pid, f"{here} {started}" if here and started else "")


def _surroundings() -> str:
    """The machine's boot and the namespace of process ids; empty where they are not told."""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    """The state of a process and its start in ticks since the boot; both empty if not told."""
    with suppress(OSError):
        # The name of the program stands in brackets and may hold any letter, brackets too.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""
