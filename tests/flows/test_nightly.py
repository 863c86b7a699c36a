"""The night through Prefect: a real server, the real command, and a real kill."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.nights import Place, contents, day, leave_out_what_only_reads

pytestmark = pytest.mark.prefect
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of commands that talk to one real Prefect server, which they start."""
    home = tmp_path_factory.mktemp("prefect")
    return {**os.environ, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}


def command(place: Place, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "flows.cli",
        "run",
        *arguments,
        "--settings",
        str(place.settings),
        "--landing",
        str(place.landing),
        "--lake",
        str(place.lake),
    ]


def test_a_night_killed_under_prefect_converges(
    place: Place, server: dict[str, str], two_nights: Place
) -> None:
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


def test_stages_on_a_gpu_have_one_place_at_a_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import get_client
    from prefect.concurrency.sync import concurrency
    from prefect.testing.utilities import prefect_test_harness

    from flows.nightly import nightly
    from tasks import gpu, steps
    from tasks.train import night as training

    leave_out_what_only_reads(monkeypatch)
    monkeypatch.setattr(steps, "device_tags", lambda _: [steps.GPU])
    held: list[int] = []
    train_model = training.train_model

    def watched(*args: Any) -> Any:
        with get_client(sync_client=True) as client:
            held.append(client.read_global_concurrency_limit_by_name(gpu.LIMIT).active_slots)
        # no other run has a place meanwhile
        with pytest.raises(TimeoutError), concurrency(gpu.LIMIT, timeout_seconds=0.5):
            held.append(-1)
        return train_model(*args)

    monkeypatch.setattr(training, "train_model", watched)
    with prefect_test_harness(server_startup_timeout=180):
        outcome = nightly(settings=place.settings, landing=place.landing, lake=place.lake)
        with get_client(sync_client=True) as client:
            limit = client.read_global_concurrency_limit_by_name(gpu.LIMIT)
            runs = client.read_task_runs()
    assert outcome.ending == "published"
    assert (held, limit.limit, limit.active_slots) == ([1] * 2, 1, 0)
    on_gpu = {run.name for run in runs if steps.GPU in run.tags}
    assert on_gpu == {"train bpr", "train popularity", "score bpr", "score popularity"}


def test_what_prefect_was_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Task runs carry the stages' names and states; artifacts show the night."""
    from prefect import get_client
    from prefect.testing.utilities import prefect_test_harness

    from flows.nightly import nightly

    leave_out_what_only_reads(monkeypatch)
    with prefect_test_harness(server_startup_timeout=180):
        outcome = nightly(settings=place.settings, landing=place.landing, lake=place.lake)
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs()
            artifacts: Any = client.request("POST", "/artifacts/filter", json={}).json()
    assert outcome.ending == "published"
    names = {run.name for run in runs}
    assert {"ingest", "check clean", "train bpr", "publish"} <= names
    assert {run.state_name for run in runs} == {"Completed"}
    shown = {"night", "stages", "report", "train-bpr", "score-bpr", "score-popularity"}
    assert {each["key"] for each in artifacts} == shown
    bars = [each["data"] for each in artifacts if each["key"] == "train-bpr"]
    assert bars == [100.0]
    assert {tuple(run.tags) for run in runs if run.name == "train bpr"} == {("train",)}
    assert place.ask("SELECT DISTINCT ds FROM serve.current") == [(day(6),)]
