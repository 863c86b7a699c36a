import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import processes
from tasks.processes import Process, end, this_process, those_known_as

PRINT = "from tasks.processes import this_process; print(this_process().mark, flush=True); input()"


def test_a_process_knows_that_it_lives() -> None:
    assert this_process().pid == os.getpid()
    assert not this_process().is_surely_gone()
    assert this_process().is_surely_here()


def test_a_killed_process_is_gone_whether_or_not_its_parent_has_looked() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRINT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        other = Process(this_process().host, started.pid, started.stdout.readline().strip())
        assert not other.is_surely_gone()
        assert other.is_surely_here()
        started.send_signal(signal.SIGKILL)
        until = time.monotonic() + 30
        while not other.is_surely_gone():  # a zombie, which has its id still
            assert time.monotonic() < until
        assert not other.is_surely_here()
        started.wait()
        assert other.is_surely_gone()
        assert not other.is_surely_here()


def test_an_id_that_is_used_again_is_another_process() -> None:
    ours = this_process()
    assert replace(ours, mark=f"{ours.mark}0").is_surely_gone()
    assert not replace(ours, mark=f"{ours.mark}0").is_surely_here()


def test_what_cannot_be_known_from_here_is_not_gone() -> None:
    ours = replace(this_process(), pid=2**22 + 1)  # beyond the largest id
    assert ours.is_surely_gone()
    assert not replace(ours, host="elsewhere").is_surely_gone()
    assert not replace(this_process(), host="elsewhere").is_surely_here()
    assert not replace(ours, mark="").is_surely_gone()
    assert not replace(this_process(), mark="").is_surely_here()
    boot, namespace, start = ours.mark.split(" ")
    for mark in (f"other {namespace} {start}", f"{boot} pid:[1] {start}"):
        assert not replace(ours, mark=mark).is_surely_gone()


KNOWN = """
import sys
from tasks.processes import be_known_as
if sys.argv[1]:
    be_known_as(sys.argv[1])
print("known", flush=True)
input()
"""


@contextmanager
def known(name: str) -> Iterator[subprocess.Popen[str]]:
    """A process under a name; without one where that is empty."""
    command = [sys.executable, "-c", KNOWN, name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "known\n"
        try:
            yield started
        finally:
            started.kill()


def test_only_those_of_a_name_are_ended_and_are_gone_then() -> None:
    with known("plan 1") as one, known("plan 1") as two, known("plan 10") as other:
        found = those_known_as("plan 1")
        assert {each.pid for each in found} == {one.pid, two.pid}
        assert all(each.is_surely_here() for each in found)
        assert end(found) == []
        assert not any(each.is_surely_here() for each in found)
        assert those_known_as("plan 1") == []  # their parent has not looked yet
        assert other.poll() is None
        assert end(found) == []


def test_of_many_that_end_them_at_once_none_ends_another_process() -> None:
    """A name is a process's own: what only has the id of one that is gone is none of them."""
    with known("plan") as named, known("") as nameless:
        (found,) = those_known_as("plan")
        reused = replace(found, pid=nameless.pid)
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(end, [found, reused]) for _ in range(8)]
            jobs += [pool.submit(lambda: end(those_known_as("plan"))) for _ in range(8)]
            assert [each.result() for each in jobs] == [[]] * 16
        assert named.wait(10) == -signal.SIGKILL
        assert nameless.poll() is None


FORKING = """
import os, time
from tasks.processes import be_known_as
be_known_as("forking")
if os.fork():
    print("known", flush=True)
time.sleep(60)
"""


def test_what_a_process_forks_is_known_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "known\n"
        found = those_known_as("forking")
        assert len(found) == 2
        assert end(found) == []


def test_what_may_not_be_ended_is_told_as_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    with known("plan") as started:
        found = those_known_as("plan")
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", refused)  # as it is where another account started it
            assert end(found, seconds=0.1) == found
        assert started.poll() is None


def test_where_there_is_no_proc_nothing_is_known_and_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with known("plan") as started:
        found = those_known_as("plan")
        monkeypatch.setattr(processes, "_PROC", tmp_path)
        assert those_known_as("plan") == []
        processes.be_known_as("plan")  # and it works all the same
        end(found, seconds=0.0)
        assert started.poll() is None
