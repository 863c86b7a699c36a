import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.operate.processes import MARK, Child, Held, end, held, marked, note, noted

SLEEPER = "import subprocess, sys, time; {more}; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
PARENT = "subprocess.Popen([sys.executable, '-c', TEXT], start_new_session=True)".replace(
    "TEXT", repr("import time; time.sleep(60)")
)


def child(folder: Path, mark: str, more: str = "pass") -> Child:
    made = Child(
        name="sleeper",
        command=[sys.executable, "-c", SLEEPER.format(more=more)],
        environment={**os.environ, MARK: mark},
        log=folder / "sleeper.log",
    )
    made.start()
    return made


def wait_for_marked(mark: str, n_processes: int) -> None:
    deadline = time.monotonic() + 20
    while len(marked(mark)) != n_processes and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(marked(mark)) == n_processes


def test_what_a_marked_process_starts_is_marked_and_ended_too(tmp_path: Path) -> None:
    mark = tmp_path.name
    parent = child(tmp_path, mark, PARENT)
    wait_for_marked(mark, 2)
    assert parent.process is not None
    parent.process.send_signal(signal.SIGKILL)  # its child lives on, in a session of its own
    parent.process.wait()
    wait_for_marked(mark, 1)
    assert end(lambda: marked(mark), 5) == 1
    assert marked(mark) == []


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    mark = tmp_path.name
    deaf = child(tmp_path, mark, STUBBORN)
    wait_for_marked(mark, 1)
    time.sleep(0.5)  # it learns not to listen
    deaf.stop(0.3)
    assert deaf.process is not None
    assert deaf.process.returncode == -signal.SIGKILL


def test_who_dies_often_is_started_again_later(tmp_path: Path) -> None:
    sleeper = Child("x", [], {}, tmp_path / "x.log")
    waits = []
    for sleeper.n_deaths in (0, 1, 2, 3, 9):
        waits.append(sleeper.patience)
    assert waits == [0, 0, 4, 8, 30]


def test_a_folder_is_held_once_and_by_the_living_only(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from tasks.operate.processes import held; import time\n"
        f"with held(Path({str(tmp_path)!r})) as ours: print(ours, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        with held(tmp_path) as ours:
            assert not ours
        other.kill()
    with held(tmp_path) as ours:
        assert ours


def test_what_is_said_beside_the_lock_is_read_or_is_none(tmp_path: Path) -> None:
    assert noted(tmp_path) is None
    said = Held(1, "mark", "http://127.0.0.1:4200")
    note(tmp_path, said)
    assert noted(tmp_path) == said
    (tmp_path / "up.json").write_text('{"process": 1')
    assert noted(tmp_path) is None


@pytest.mark.parametrize("mark", ["never"])
def test_nobody_has_a_mark_that_nobody_was_given(mark: str) -> None:
    assert marked(mark) == []
