"""What a machine that is up does beside its processes."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from tasks.errors import StorageError
from tasks.operate import machine
from tasks.operate.machine import Machine


def machine_that(bury: Callable[[], Sequence[str]], say: Callable[[str], None]) -> Machine:
    return Machine("127.0.0.1", 1, Path(), [], [], say, bury)


def test_nights_that_died_are_looked_for_again_and_again_whatever_goes_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "BURY_SECONDS", 0.01)
    told: list[str] = []
    answers = iter(["trouble", "surprise", "nothing", "one"])

    def bury() -> Sequence[str]:
        answer = next(answers, "stop")
        if answer == "trouble":
            raise StorageError("no room", where="here", unchanged="all", fix="make room")
        if answer == "surprise":
            raise duckdb.IOException("a file is gone")
        if answer == "stop":
            up.stopping.set()
        return ["died, and noted so: night"] if answer == "one" else []

    up = machine_that(bury, told.append)
    thread = threading.Thread(target=machine._bury_the_dead, args=(up,))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    trouble, surprise, died = told
    assert trouble == "could not look for nights that died: no room"
    assert "a file is gone" in surprise
    assert died == "died, and noted so: night"
