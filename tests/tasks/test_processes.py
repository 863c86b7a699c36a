import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

from tasks.processes import Process, this_process

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
