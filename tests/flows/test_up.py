"""`nightrank up`: a real server, a real worker, real kills, and who is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from tasks.lake.tables import Lake
from tests.flows.machines import Up, brought_up, in_mid_night, wait_for
from tests.flows.receivers import mailbox, webhook
from tests.flows.servers import at
from tests.scenarios.nights import Place, day, leave_out_what_only_reads, with_seventh_day
from tests.scenarios.test_gate import set_gate
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


@dataclass
class Told:
    """A machine, and what those got whom it tells."""

    up: Up
    url: str
    calls: list[dict[str, Any]]
    refused: list[int]  # answers to the next calls of the webhook
    letters: list[str]


@pytest.fixture(scope="module")
def told(
    one_night: Place, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    root = tmp_path_factory.mktemp("machine")
    place = with_seventh_day(one_night, sample, root / "shop")
    refused: list[int] = []
    with webhook(refused=refused) as (url, calls), mailbox() as (port, letters):
        with place.settings.open("a") as settings:
            settings.write(ALERTS.format(port=port))
        with brought_up(place, root, NIGHTRANK_TEST_WEBHOOK=url) as up:
            yield Told(up, url, calls, refused, letters)


def deploy(told: Told, *arguments: str) -> int:
    """In this process, which has Prefect imported; its address is set for the while."""
    place, plan = told.up.place, told.up.home.parent / "prefect.yaml"
    command = ["deploy", "--file", str(plan), "--settings", str(place.settings)]
    with pytest.MonkeyPatch.context() as patch, at(told.up.api):
        patch.setenv("NIGHTRANK_TEST_WEBHOOK", told.url)
        shop = ["--landing", str(place.landing), "--lake", str(place.lake)]
        return main([*command, *shop, *arguments])


def test_deploying_again_changes_nothing(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy(told) == 0
    assert capsys.readouterr().out == "15 of 15 were as they are to be\n"


def test_what_differs_is_changed_and_told(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    plan = told.up.home.parent / "prefect.yaml"
    text = plan.read_text()
    plan.write_text(text.replace("0 0 1 1 *", "30 2 2 1 *"))
    assert deploy(told) == 0
    said = "deployment nightly/nightly: changed\n14 of 15 were as they are to be\n"
    assert capsys.readouterr().out == said
    plan.write_text(text)
    assert deploy(told) == 0
    assert capsys.readouterr().out == said


def test_a_second_up_says_where_the_first_is(
    told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(told.up.home))
    monkeypatch.setenv("PREFECT_API_URL", told.up.api)
    place = told.up.place
    command = ["up", "--settings", str(place.settings), "--landing", str(place.landing)]
    assert main(command) == 0
    assert f"is up already at http://127.0.0.1:{told.up.port}" in capsys.readouterr().out


def test_a_held_night_ends_in_one_call_and_one_letter(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.nightly import nightly

    leave_out_what_only_reads(monkeypatch)
    place = told.up.place.copy(tmp_path / "held")
    set_gate(place, "max_coverage_loss", 0.01, model="popularity")
    with at(told.up.api):
        outcome = nightly(settings=place.settings, landing=place.landing, lake=place.lake)
    assert outcome.ending == "held"
    call = wait_for(lambda: told.calls, 60, "a call of the webhook")[0]
    assert call == {
        "alert": "held",
        "ds": str(day(6)),
        "outcome": "held",
        "reason": outcome.reason,
        "page": outcome.report,
        "text": f"nightrank: {day(6)}: held: {outcome.reason}",
    }
    letter = wait_for(lambda: told.letters, 60, "a letter")[0]
    assert f"Subject: nightrank: {day(6)}: held" in letter
    assert "To: oncall@shop.example, boss@shop.example" in letter
    assert "outcome: held" in letter
    assert "u000" not in letter
    assert (len(told.calls), len(told.letters)) == (1, 1)


def test_an_alert_that_the_webhook_does_not_take_is_told_by_letter(told: Told) -> None:
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    del told.calls[:], told.letters[:]
    told.refused[:] = [500, 410]  # tried again, and then refused for good
    payload = {"ds": str(day(6)), "outcome": "stale", "reason": "it is old", "page": None}
    with at(told.up.api):
        emit_event("nightrank.data.stale", {"prefect.resource.id": "nightrank"}, payload=payload)
        EventsWorker.instance().drain()
    assert wait_for(lambda: len(told.letters) == 2, 60, "both letters")
    stale, untold = sorted(told.letters, key=lambda letter: "untold" in letter)
    assert "reason: it is old" in stale
    assert "Subject: nightrank: nightrank: stale: untold" in untold
    assert "the webhook answered 410" in untold
    (call,) = wait_for(lambda: told.calls, 60, "a call that tells it too")
    assert (call["alert"], call["run"]) == ("untold", "nightrank: stale")
    assert told.refused == []


def test_a_night_killed_with_its_server_is_mended_by_the_next(told: Told, one_night: Place) -> None:
    # That the crash is told is for the soak: of a run of less than five minutes a server that was
    # killed tells late, for it waits for the event before, which it has forgotten.
    up = told.up
    before = one_night.ask(_SERVED)[0]
    with polled(up.place) as seen:
        killed = up.schedule()
        wait_for(lambda: in_mid_night(up.place), 120, "a night half done")
        up.kill("prefect", "server")
        up.kill("prefect.engine")
        assert up.wait(killed, {"Crashed"}, 120) == "Crashed"
        wait_for(lambda: outcomes(up.place) == ["died"], 90, "the dead night noted by nobody else")
        following = up.schedule()
        assert up.wait(following, {"Completed", "Failed", "Crashed"}, 180) == "Completed"
        after = up.place.ask(_SERVED)[0]
    assert "the server died" in up.said()
    assert before in seen
    assert seen <= {before, after}, "a missing, partial or mixed night was served"
    assert after[:2] == (day(6), day(6))
    decided = f"SELECT action, count(*) FROM serve.publications WHERE ds = '{day(6)}' GROUP BY 1"
    assert up.place.ask(decided) == [("publish", 1)]
    assert outcomes(up.place) == ["died", "published"]
    assert f"died, and noted so: night of {day(6)}, run " in up.said()


def outcomes(place: Place) -> list[str]:
    """How the runs of the seventh day's night ended, the first one first."""
    lake = Lake(place.lake)
    rows = lake.rows(lake.pin("ops.nights"), {"ds": day(6)}).to_pylist()
    return [row["outcome"] for row in sorted(rows, key=lambda row: row["started_at"])]


def test_it_leaves_no_process_behind(told: Told) -> None:
    assert told.up.pids("prefect")
    assert told.up.stop() == 0
    assert told.up.pids() == []
    assert told.up.said().endswith("stopping\nstopped\n")
