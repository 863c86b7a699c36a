"""Real schedules under real kills: worker, server, both, in mid-night; the next night runs."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.flows.machines import Up, brought_up, in_mid_night, wait_for
from tests.flows.receivers import webhook
from tests.scenarios.nights import Place, day, with_seventh_day
from tests.scenarios.test_kills import _SERVED, polled

pytestmark = [pytest.mark.soak, pytest.mark.prefect]
EVERY_MINUTE = "* * * * *"
MARKED_SECONDS = 120.0
ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}
KILLED: dict[str, list[tuple[str, ...]]] = {
    "worker": [("prefect", "worker")],
    "server": [("prefect", "server")],
    "both": [("prefect", "server"), ("prefect", "worker")],
}
ALERTS = '\n[alerts]\nwebhook = "NIGHTRANK_TEST_WEBHOOK"\n'


@pytest.mark.parametrize("with_its_run", [True, False], ids=["run dies too", "run lives on"])
@pytest.mark.parametrize("what", list(KILLED))
def test_the_next_scheduled_night_runs(
    what: str, with_its_run: bool, one_night: Place, sample: Path, tmp_path: Path
) -> None:
    place = with_seventh_day(one_night, sample, tmp_path / "shop")
    with polled(place, 0.01) as seen, brought_up(place, tmp_path, EVERY_MINUTE) as up:
        wait_for(lambda: in_mid_night(place), 300, "a scheduled night half done")
        hit = next(run["id"] for run in up.runs() if run["state"]["type"] == "RUNNING")
        for words in KILLED[what]:
            up.kill(*words)
        killed_at = time.monotonic()
        if with_its_run:
            up.kill("prefect.engine")
        _is_marked(up, hit, killed_at, with_its_run)
        following = wait_for(
            lambda: [r for r in up.runs() if r["id"] != hit and r["state"]["name"] in ENDED],
            300,
            "a night after it",
        )
        assert following[0]["state"]["name"] == "Completed", up.said()
        after = place.ask(_SERVED)[0]
    _is_whole(place, seen, one_night.ask(_SERVED)[0], after, with_its_run)


def _is_marked(up: Up, hit: str, killed_at: float, with_its_run: bool) -> None:
    """A run whose process is gone is crashed within two minutes; one that lives ends well."""
    if with_its_run:
        up.wait(hit, {"Crashed"}, MARKED_SECONDS + 5 - (time.monotonic() - killed_at))
    else:
        assert up.wait(hit, ENDED, 400) == "Completed", up.said()


def _is_whole(place: Place, seen: set[Any], before: Any, after: Any, with_its_run: bool) -> None:
    assert after[:3] == (day(6), day(6), 1)
    assert before in seen
    assert seen <= {before, after}, "a missing, partial or mixed night was served"
    published = "SELECT action, count(*), count(DISTINCT release_id) FROM serve.publications "
    assert place.ask(f"{published} WHERE ds = '{day(6)}' GROUP BY 1") == [("publish", 1, 1)]
    outcomes = f"SELECT outcome FROM ops.nights WHERE ds = '{day(6)}' ORDER BY started_at"
    ended = [row[0] for row in place.ask(outcomes)]
    assert ended == (["died", "published"] if with_its_run else ["published"])


def test_a_run_that_died_with_its_worker_is_told_once(
    one_night: Place, sample: Path, tmp_path: Path
) -> None:
    """Its run is made by hand: Prefect tells late of what was scheduled less than five minutes ago,
    for it waits for an event before the first that its scheduler never emits."""
    place = with_seventh_day(one_night, sample, tmp_path / "shop")
    with place.settings.open("a") as settings:
        settings.write(ALERTS)
    with webhook() as (url, calls), brought_up(place, tmp_path, NIGHTRANK_TEST_WEBHOOK=url) as up:
        hit = up.schedule()
        wait_for(lambda: in_mid_night(place), 300, "a night half done")
        up.kill("prefect", "worker")
        up.kill("prefect.engine")
        killed_at = time.monotonic()
        _is_marked(up, hit, killed_at, True)
        told = wait_for(lambda: [c for c in calls if c["outcome"] == "crashed"], 60, "a call")
        assert [call["alert"] for call in told] == ["crashed"]
        assert "silent" in told[0]["reason"]
        assert [call["alert"] for call in calls] == ["crashed"]
