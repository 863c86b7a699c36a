"""One machine that runs it all: server, work pools, workers, schedules; and takes it down again.

What dies is started again. What a killed one left is ended before another one begins.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

import httpx

from tasks.errors import NightrankError, StorageError, UsageError, as_ours
from tasks.operate import processes
from tasks.operate.processes import MARK, Child, Held

Say = Callable[[str], None]
READY_SECONDS = 180.0  # for a server or a worker to answer on a slow machine
LOOK_SECONDS = 0.25
WATCH_SECONDS = 15.0  # between two looks for runs that died unseen
BURY_SECONDS = 30.0  # between two looks for nights that died and nobody noted
STEADY_SECONDS = 60.0  # after which a death is the first one again
STOP_SECONDS = 15.0
WHY = "nightrank up was stopped; the next night mends what this one left"


@dataclass
class Machine:
    """Where it listens, what runs there, and who is told."""

    host: str
    port: int
    folder: Path  # of its lock, its word about itself, and its logs
    pools: Sequence[str]
    deploy: Sequence[str]  # arguments of nightrank deploy
    say: Say
    bury: Callable[[], Sequence[str]]  # notes in the lake what died there; a line for each
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    stopping: threading.Event = field(default_factory=threading.Event)
    children: list[Child] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{host}:{self.port}"

    @property
    def api(self) -> str:
        """Where programs find it."""
        return f"{self.address}/api"


class _StoppedError(Exception):
    """A person wants it to end while it still begins."""


def prefect_home() -> Path:
    """Where this user's Prefect keeps its state."""
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser().absolute()


def environment(machine: Machine) -> dict[str, str]:
    """What its processes are told: this server, no analytics, and leases that outlive a server.

    Prefect keeps leases in memory: a server that is killed would forget that a place is taken, and
    the limit of the nightly deployment would count it as taken for ever.
    """
    ours = {
        "PREFECT_API_URL": machine.api,
        "PREFECT_SERVER_API_HOST": machine.host,
        "PREFECT_SERVER_API_PORT": str(machine.port),
        "PREFECT_UI_URL": machine.address,
        "PREFECT_SERVER_UI_API_URL": machine.api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "DO_NOT_TRACK": "1",
        MARK: machine.mark,
    }
    usual = {"PREFECT_WORKER_QUERY_SECONDS": "5"}
    return {**usual, **os.environ, **ours}


def up(machine: Machine) -> int:
    """Bring it up, watch it until a signal comes, take it down. Returns the exit code.

    Safe to run twice: the second one says where the first is. Raises UsageError where the port is
    taken by somebody else, StorageError where the server does not come up.
    """
    with processes.held(machine.folder) as is_ours:
        before = processes.noted(machine.folder)
        if not is_ours:
            where = f"at {before.address}, process {before.process}" if before else "elsewhere"
            machine.say(f"nightrank is up already {where}")
            return 0
        _end_what_was_left(machine, before)
        _refuse_taken_port(machine)
        processes.note(machine.folder, Held(os.getpid(), machine.mark, machine.address))
        with _told_by_signals(machine.stopping):
            try:
                return _bring_up_and_watch(machine)
            except _StoppedError:
                return 0
            finally:
                _take_down(machine)


def _end_what_was_left(machine: Machine, before: Held | None) -> None:
    if before is None:
        return
    n_left = processes.end(lambda: processes.marked(before.mark), STOP_SECONDS)
    if n_left:
        machine.say(f"ended {n_left} processes that a killed nightrank up had left")


def _refuse_taken_port(machine: Machine) -> None:
    family = socket.AF_INET6 if ":" in machine.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ear.bind((machine.host, machine.port))
        except OSError as error:
            raise UsageError(
                f"cannot listen at {machine.host}:{machine.port}: {error.strerror or error}",
                where="nightrank up --host --port",
                unchanged="nothing was started",
                fix="name another port with --port, or stop what listens there",
            ) from error


@contextmanager
def _told_by_signals(stopping: threading.Event) -> Iterator[None]:
    def stop(_sign: int, _frame: FrameType | None) -> None:
        stopping.set()

    signs = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {sign: signal.signal(sign, stop) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _bring_up_and_watch(machine: Machine) -> int:
    env = environment(machine)
    server = _start(machine, "server", ["server", "start", *_listening(machine)], env)
    _wait(machine, server, lambda: answers(machine.api))
    code = _deploy(machine, env)
    if code:
        return code
    for pool in machine.pools:
        name = f"nightrank-{pool}-{socket.gethostname()}"
        command = ["worker", "start", "--type", "process", "--pool", pool, "--name", name]
        worker = _start(machine, f"worker {pool}", command, env)
        _wait(machine, worker, partial(_is_online, machine, pool, name))
    machine.say(f"up: {machine.address}")
    machine.say(f"other commands find it with: export PREFECT_API_URL={machine.api}")
    machine.say(f"logs: {machine.folder}; stop it with Ctrl-C")
    # Apart: a lake that does not answer must not keep a dead server from being started again.
    threading.Thread(target=_bury_the_dead, args=(machine,), daemon=True).start()
    _watch(machine)
    return 0


def _listening(machine: Machine) -> list[str]:
    return ["--host", machine.host, "--port", str(machine.port)]


def _start(machine: Machine, name: str, command: list[str], env: Mapping[str, str]) -> Child:
    child = Child(
        name=name,
        command=[sys.executable, "-P", "-m", "prefect", *command],
        environment=env,
        log=machine.folder / f"{name.replace(' ', '-')}.log",
    )
    machine.children.append(child)
    child.start()
    return child


def _wait(machine: Machine, child: Child, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready():
        if machine.stopping.wait(LOOK_SECONDS):
            raise _StoppedError
        if not child.is_alive or time.monotonic() > deadline:
            raise StorageError(
                f"the {child.name} did not come up",
                where=str(child.log),
                unchanged="no schedule was changed",
                fix="the last lines of that log say why; mend it and run nightrank up again",
            )


def answers(api: str) -> bool:
    """Whether a server answers there."""
    try:
        return httpx.get(f"{api}/health", timeout=5.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _is_online(machine: Machine, pool: str, name: str) -> bool:
    try:
        url = f"{machine.api}/work_pools/{pool}/workers/filter"
        found = httpx.post(url, json={}, timeout=5.0)
        workers = found.raise_for_status().json()
    except httpx.HTTPError:
        return False
    return any((each["name"], each["status"]) == (name, "ONLINE") for each in workers)


def _deploy(machine: Machine, env: Mapping[str, str]) -> int:
    """In a process of its own, which may be as large as a night is."""
    command = [sys.executable, "-P", "-m", "flows.cli", "deploy", *machine.deploy]
    with subprocess.Popen(
        command, env=dict(env), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            machine.say(line.rstrip("\n"))
    return process.returncode


def _watch(machine: Machine) -> None:
    """Start again what dies, and mark runs that died while no server watched."""
    looked_at = time.monotonic()
    while not machine.stopping.wait(LOOK_SECONDS):
        for child in machine.children:
            _keep_alive(machine, child)
        if time.monotonic() - looked_at > WATCH_SECONDS:
            looked_at = time.monotonic()
            _mark_dead_runs(machine)


def _keep_alive(machine: Machine, child: Child) -> None:
    now = time.monotonic()
    if child.is_alive or now - child.started_at < child.patience:
        return
    child.n_deaths = 1 if now - child.started_at > STEADY_SECONDS else child.n_deaths + 1
    assert child.process is not None
    machine.say(f"the {child.name} died (exit code {child.process.returncode}): started again")
    child.start()


def _mark_dead_runs(machine: Machine) -> None:
    from tasks.operate.applying import the_server
    from tasks.operate.automations import SILENT
    from tasks.operate.runs import crash_the_dead

    server = machine.children[0]
    if not server.is_alive or time.monotonic() - server.started_at < SILENT.total_seconds():
        return
    try:
        with the_server() as client:
            for name in crash_the_dead(client):
                machine.say(f"{name}: marked as crashed, its process is gone")
    except NightrankError as error:  # it may be restarting; the next look is near
        machine.say(f"could not look for dead runs: {error.what}")


def _bury_the_dead(machine: Machine) -> None:
    """Note nights that died, though nobody looks and no other night begins."""
    while not machine.stopping.wait(BURY_SECONDS):
        try:
            for line in machine.bury():
                machine.say(line)
        except Exception as error:  # whatever it is, the next look is near
            machine.say(f"could not look for nights that died: {as_ours(error).what}")


def _take_down(machine: Machine) -> None:
    """Runs first, then workers, then the server; then whatever is left."""
    machine.say("stopping")
    with suppress(NightrankError):  # a server that is down cannot be told
        _end_runs(machine)
    for child in reversed(machine.children):
        child.stop(STOP_SECONDS)
    processes.end(lambda: processes.marked(machine.mark), STOP_SECONDS)
    machine.say("stopped")


def _end_runs(machine: Machine) -> None:
    """Tell the server that runs are cancelled; the workers end them, or we do."""
    if len(machine.children) < 2 or not answers(machine.api):
        return
    from tasks.operate.applying import the_server
    from tasks.operate.runs import ask_to_cancel, have_cancelled, in_progress

    server, *workers = machine.children
    with the_server() as client:
        runs = in_progress(client)
        for run in runs:
            machine.say(f"{run.name}: cancelled")
        ask_to_cancel(client, runs, WHY)
        deadline = time.monotonic() + STOP_SECONDS
        while runs and in_progress(client) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        for worker in workers:
            worker.stop(STOP_SECONDS)
        keep = {server.process.pid} if server.process is not None else set()
        processes.end(lambda: set(processes.marked(machine.mark)) - keep, STOP_SECONDS)
        have_cancelled(client, runs, WHY)
