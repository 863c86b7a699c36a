"""A real `nightrank up` on a free port, its processes to be killed, and what its server says."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tasks.operate.processes import MARK, marked, noted
from tests.scenarios.nights import Place

PLAN = """
name: nightrank
deployments:
  - name: nightly
    entrypoint: flows.nightly.nightly
    tags: [nightrank, nightly]
    schedules:
      - {{slug: nightly, cron: "{cron}", timezone: UTC}}
    work_pool:
      name: cpu
      job_variables:
        env: {{PREFECT_FLOWS_HEARTBEAT_FREQUENCY: "30"}}
"""
NEVER = "0 0 1 1 *"  # New Year's Eve is far from every test


def free_port() -> int:
    with socket.socket() as ear:
        ear.bind(("127.0.0.1", 0))
        port: int = ear.getsockname()[1]
        return port


def wait_for(what: Callable[[], Any], seconds: float, why: str, every: float = 0.1) -> Any:
    """Look every so many seconds until it is so; the answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"after {seconds:g} seconds not yet: {why}")


@dataclass
class Up:
    """A machine that is up."""

    place: Place
    home: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def ask(self, path: str, **filters: Any) -> Any:
        """What the server answers; nothing while it is down."""
        with suppress(httpx.HTTPError):
            return httpx.post(f"{self.api}{path}", json=filters, timeout=10).json()
        return []

    def runs(self) -> list[dict[str, Any]]:
        """Runs that have begun, the first one first."""
        state = {"type": {"not_any_": ["SCHEDULED"]}}
        found = self.ask("/flow_runs/filter", flow_runs={"state": state}, limit=100)
        return sorted(found, key=lambda run: run["expected_start_time"])

    def state(self, run: str) -> str:
        found = self.ask("/flow_runs/filter", flow_runs={"id": {"any_": [run]}})
        return str(found[0]["state"]["name"]) if found else "unknown"

    def schedule(self) -> str:
        """A run of the deployment, due now; its id."""
        name = httpx.get(f"{self.api}/deployments/name/nightly/nightly", timeout=10).json()["id"]
        state = {
            "type": "SCHEDULED",
            "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
        }
        made = httpx.post(
            f"{self.api}/deployments/{name}/create_flow_run", json={"state": state}, timeout=10
        )
        return str(made.raise_for_status().json()["id"])

    def wait(self, run: str, states: set[str], seconds: float) -> str:
        # each look makes the server and this process work for a while
        wait_for(lambda: self.state(run) in states, seconds, f"{states}, but {self.said()}", 0.5)
        return self.state(run)

    def said(self) -> str:
        return self.log.read_text()

    def pids(self, *words: str) -> list[int]:
        """Processes of this machine whose command line holds these words."""
        about = noted(self.home / "nightrank")
        ours = marked(about.mark) if about is not None else []
        return [pid for pid in ours if all(word in _command(pid) for word in words)]

    def kill(self, *words: str) -> None:
        pids = self.pids(*words)
        assert pids, words
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """End it as a person would; no process of it is left."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        assert self.pids() == []
        return code


def _command(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []


def in_mid_night(place: Place) -> bool:
    """Whether a night of the seventh day has built features and not yet a release."""
    log = place.lake / "features" / "behaviours_daily" / "ds=2026-01-11"
    return log.exists()


@contextmanager
def brought_up(place: Place, root: Path, cron: str = NEVER, **more: str) -> Iterator[Up]:
    """A machine for this shop; taken down in the end, and looked at for what it leaves."""
    plan = root / "prefect.yaml"
    plan.write_text(PLAN.format(cron=cron))
    home, port, log = root / "home", free_port(), root / "up.log"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", MARK))}
    command = [sys.executable, "-m", "flows.cli", "up", "--port", str(port), "--file", str(plan)]
    command += ["--settings", str(place.settings)]
    command += ["--landing", str(place.landing), "--lake", str(place.lake)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**clean, "PREFECT_HOME": str(home), **more},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    up = Up(place, home, port, process, log)
    try:
        wait_for(
            lambda: "stop it with Ctrl-C" in up.said() or process.poll() is not None, 180, "up"
        )
        assert process.poll() is None, up.said()
        yield up
    finally:
        if process.poll() is None:
            up.stop()
