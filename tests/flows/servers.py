"""A real Prefect server on a free port, and commands that are told of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.operate.machine import answers
from tests.flows.machines import free_port


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A server that keeps its state in a folder, and the address of its API."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_UI_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env={**clean, **quiet, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while not answers(api):
            assert process.poll() is None, (home / "server.log").read_text()
            assert time.monotonic() < deadline, (home / "server.log").read_text()
            time.sleep(0.2)
        yield api
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def at(api: str) -> Iterator[None]:
    """In this process, which has Prefect imported: runs go through that server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}):
        yield
