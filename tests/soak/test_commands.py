"""The real command, killed with the server that it had started, and given again."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.scenarios.nights import Place, contents

pytestmark = [pytest.mark.soak, pytest.mark.prefect]
ROOT = Path(__file__).parents[2]


def command(place: Place) -> list[str]:
    where = ("--settings", place.settings, "--landing", place.landing, "--lake", place.lake)
    return [sys.executable, "-m", "flows.cli", "run", *map(str, where)]


def test_a_night_killed_under_prefect_converges(
    place: Place, two_nights: Place, tmp_path: Path
) -> None:
    server = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "DO_NOT_TRACK": "1"}
    process: subprocess.Popen[str] = subprocess.Popen(
        command(place),
        env=server,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(r"done\s+check features", line):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)  # the server that the killed command had started

    done = subprocess.run(command(place), env=server, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "2026-01-11: published" in done.stdout
    assert re.search(r"publish\s+│ done", done.stdout)
    assert contents(place.lake) == contents(two_nights.lake)

    assert place.run().is_old
