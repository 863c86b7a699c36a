"""Backfills through Prefect and by the command: a real server, real processes for the nights."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cli import main
from flows.commands import backfills
from tasks.backfill import ledger, workers
from tasks.backfill.driving import Driving, cancel
from tasks.errors import StorageError
from tasks.lake.tables import Lake
from tests.flows.servers import at
from tests.scenarios.backfills import UNCHECKED, fail_on_purpose, left_behind, unchecked_work
from tests.scenarios.daily import day
from tests.tasks.backfill.conftest import History

FIRST, LAST = 8, 10

pytestmark = pytest.mark.prefect


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    shop = History(tmp_path / "shop")
    shop.land(0, LAST - 1)
    shop.ingest()
    monkeypatch.setattr(workers, "work", unchecked_work)
    monkeypatch.setattr(workers, "PRELOADED", UNCHECKED)
    return shop


def run(shop: History, *arguments: str) -> int:
    paths = ("--settings", str(shop.place.settings), "--landing", str(shop.place.landing))
    return main(["backfill", *arguments, *paths, "--lake", str(shop.place.lake)])


def test_what_the_command_and_prefect_tell(
    history: History, prefect_api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    lake, dates = Lake(history.place.lake), [str(day(n)) for n in range(FIRST, LAST + 1)]
    fail_on_purpose(history.place, day(FIRST))

    assert run(history, dates[0], dates[2], "--dry-run") == 0
    told = capsys.readouterr().out
    assert re.search(rf"{dates[0]} │ waiting", told)
    assert re.search(rf"{dates[2]} │ empty .*no event", told)
    assert "no night has been timed yet" in told
    assert ledger.every(lake) == []

    with at(prefect_api):
        assert run(history, dates[0], dates[2]) == 1
        out, err = capsys.readouterr()
        assert "1 of 3 nights failed" in err
        assert re.search(rf"{dates[1]} │ done .*swapped in", out)
        assert run(history, dates[0], dates[1], "--keep-aside") == 1  # it fails once more
        fail_on_purpose(history.place)
        assert run(history, dates[0], dates[0], "--failed", "--keep-aside") == 0
        assert re.search(rf"{dates[0]} │ done .*kept aside", capsys.readouterr().out)
        with get_client(sync_client=True) as client:
            ours = FlowRunFilter(name=FlowRunFilterName(like_="backfill "))
            runs = client.read_task_runs(flow_run_filter=ours)
            nights = {(each.name, each.state_name) for each in runs}
            flows = sorted(str(e.state_name) for e in client.read_flow_runs(flow_run_filter=ours))
            keys = {each.key for each in client.read_artifacts(flow_run_filter=ours)}
    assert nights >= {
        (f"night {dates[0]}", "Failed"),
        (f"night {dates[0]}", "Completed"),
        (f"night {dates[1]}", "Completed"),
    }
    assert flows == ["Completed", "Failed", "Failed"]
    assert keys - {None} == {"backfill", "backfill-nights"}
    assert left_behind(history.place.lake) == []

    assert run(history, dates[0], dates[1]) == 0
    assert "nothing to do: no night" in capsys.readouterr().out
    assert run(history, "--list") == 0
    assert "1 failed, 1 done, 1 empty" in capsys.readouterr().out
    assert run(history, dates[0], dates[1], "--all", "--as-of", "then", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "2 nights of backfills with the same models" in told
    assert re.search(r"total: \d+\.\d minutes with 2 at once", told)


def test_an_error_of_the_lake_at_a_night_is_no_success(
    history: History,
    prefect_api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise StorageError("away for a moment", where="here", unchanged="all", fix="try again")

    with at(prefect_api), monkeypatch.context() as patch:
        patch.setattr(ledger, "take", broken)
        assert run(history, str(day(FIRST))) == 1
    assert "away for a moment" in capsys.readouterr().err
    (entry,) = ledger.every(Lake(history.place.lake))
    assert (entry.state, entry.reason) == ("cancelled", "an error stopped the plan")


def test_prefect_is_told_why_a_night_was_not_begun(
    history: History, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import get_client
    from prefect.client.schemas.sorting import TaskRunSort

    def stopped(run: Driving, *_: object) -> None:
        run.stop("stopped by SIGTERM")

    monkeypatch.setattr(Driving, "_begin", stopped)
    with at(prefect_api):
        assert run(history, str(day(FIRST))) == 130
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(sort=TaskRunSort.EXPECTED_START_TIME_DESC)
    night = next(each for each in runs if each.name == f"night {day(FIRST)}")
    assert night.state is not None
    assert night.state.message == "stopped by SIGTERM"


def test_an_ended_plan_with_failed_nights_ends_so_again_when_it_is_resumed(
    history: History, prefect_api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = history.plan(FIRST, LAST)
    failed, *others = planned.entries
    ended = [replace(each, state="empty") for each in others]
    entries = [replace(failed, state="failed", reason="why it failed"), *ended]
    ledger.write(Lake(history.place.lake), entries)
    with at(prefect_api):
        assert run(history, "--resume", planned.plan.plan_id) == 1
    told = capsys.readouterr()
    assert re.search(rf"{day(FIRST)} │ failed .*why it failed", told.out)
    assert f"1 of 3 nights failed: {day(FIRST)}: why it failed" in told.err
    assert f"nightrank backfill {day(FIRST)} {day(LAST)} --failed" in told.err
    assert ledger.of_plan(Lake(history.place.lake), planned.plan.plan_id) == entries


@pytest.mark.parametrize("is_old", [False, True])
def test_a_cancel_while_prefect_starts_is_heard(
    history: History, prefect_api: str, monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    lake, asked = Lake(history.place.lake), [str(day(FIRST)), str(day(LAST))]
    if is_old:
        planned = history.plan(FIRST, LAST)
        ledger.write(lake, planned.entries)
        cancel(history.shop, planned.plan.plan_id)
        asked = ["--resume", planned.plan.plan_id]

    def cancelled() -> None:
        (plan_id,) = ledger.by_plan(lake)
        cancel(history.shop, plan_id)

    monkeypatch.setattr(backfills, "prepare_prefect", cancelled)
    with at(prefect_api):
        assert run(history, *asked) == 130
    assert {each.state for each in ledger.every(lake)} == {"cancelled", "empty"}
    assert {each.attempts for each in ledger.every(lake)} == {0}


def test_wrong_requests_are_usage_errors(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, told in (
        ([], "no night is named"),
        (["2026-01-05", "2026-01-01"], "are 0 nights"),
        (["yesterday"], "is no date"),
        (["2026-01-05", "--models", "magic"], "magic"),
        (["2026-01-05", "--max-active", "0"], "0 nights at once"),
        (["--show", "x"], "no plan x"),
        (["--cancel", "x"], "no plan x"),
    ):
        assert run(history, *arguments) == 2, arguments
        assert told in capsys.readouterr().err
