"""`nightrank up`: a real server, a real worker, real kills, and who is told."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flows.machines import Up, brought_up, in_mid_night, wait_for
from tests.flows.receivers import mailbox, webhook
from tests.scenarios.nights import Place, day, leave_out_what_only_reads, with_seventh_day
from tests.scenarios.test_kills import _SERVED, polled

pytestmark = pytest.mark.prefect
ALERTS = """
[alerts]
webhook = "NIGHTRANK_TEST_WEBHOOK"
[alerts.mail]
server = "127.0.0.1"
port = {port}
sender = "nightrank@shop.example"
recipients = ["oncall@shop.example", "boss@shop.example"]
"""
HOLDS = "[publish]\nmax_shrink = 0.0\n"


@dataclass
class Told:
    """A machine, and what those got whom it tells."""

    up: Up
    calls: list[dict[str, Any]]
    letters: list[str]


@pytest.fixture(scope="module")
def told(
    one_night: Place, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    root = tmp_path_factory.mktemp("machine")
    place = with_seventh_day(one_night, sample, root / "shop")
    with webhook() as (url, calls), mailbox() as (port, letters):
        with place.settings.open("a") as settings:
            settings.write(ALERTS.format(port=port))
        with brought_up(place, root, NIGHTRANK_TEST_WEBHOOK=url) as up:
            yield Told(up, calls, letters)
            assert up.stop() == 0


def test_deploying_again_changes_nothing(told: Told) -> None:
    up = told.up
    env = {**os.environ, "PREFECT_API_URL": up.api, "NIGHTRANK_TEST_WEBHOOK": "http://x.example"}
    command = [sys.executable, "-m", "flows.cli", "up", "--settings", str(up.place.settings)]
    command += ["--landing", str(up.place.landing)]
    env["PREFECT_HOME"] = str(up.home)
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"is up already at http://127.0.0.1:{up.port}" in done.stdout


def test_a_night_killed_with_its_server_is_mended_by_the_next(told: Told, two_nights: Place) -> None:
    up = told.up
    before = up.place.ask(_SERVED)[0] if (up.place.lake / "warehouse.duckdb").exists() else None
    with polled(up.place) as seen:
        killed = up.schedule()
        wait_for(lambda: in_mid_night(up.place), 120, f"a night half done; {up.said()}")
        up.kill("prefect", "server")
        up.kill("prefect.engine")
        assert up.wait(killed, {"Crashed"}, 120) == "Crashed"
        following = up.schedule()
        assert up.wait(following, {"Completed", "Failed", "Crashed"}, 180) == "Completed"
    assert "the server died" in up.said()
    after = up.place.ask(_SERVED)[0]
    assert seen <= {before, after, up.place.ask(_SERVED)[0]}
    assert up.place.ask("SELECT DISTINCT ds FROM serve.current") == [(day(6),)]
    published = "SELECT count(*), count(DISTINCT release_id) FROM serve.publications WHERE ds = "
    assert up.place.ask(published + f"'{day(6)}'") == [(1, 1)]
