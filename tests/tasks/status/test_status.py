"""What status says of a shop in each state, why, and which command mends it."""

import getpass
import gzip
import json
import os
import platform
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from expectations.catalogue import stored
from flows.cli import main
from tasks import steps
from tasks.backfill.deaths import plan_lease
from tasks.hours import look
from tasks.ingest.landing import arrival
from tasks.ingest.mend import withdraw
from tasks.ingest.night import ingest
from tasks.lake.leases import Terms, leased
from tasks.shop import Shop, open_shop
from tasks.status import Status, status
from tests.scenarios.nights import Place, day, leave_out_what_only_reads, with_seventh_day
from tests.tasks.doctor.test_doctor import files_and_folders

KEYS = {
    "problems": {"kind", "what", "mend"},
    "nights": {"run_id", "ds", "outcome", "reason", "started_at", "ended_at"},
    "unfinished": {"run_id", "ds", "state", "stage", "since", "process"},
    "stale_nights": {"ds", "n_files", "causes", "mend"},
    "backfills": {"plan_id", "nights", "first", "last"},
    "tables": {
        "name",
        "version",
        "n_rows",
        "newest",
        "days_behind",
        "fresh_within_days",
        "state",
        "stale_days",
        "causes",
        "mend",
        "checks",
    },
    "disk": {"layer", "n_bytes", "n_bytes_newest", "n_files"},
}
SERVING = {
    "release_id",
    "ds",
    "action",
    "reason",
    "who",
    "since",
    "model",
    "n_users",
    "n_rows",
    "state",
    "causes",
    "mend",
}


@pytest.fixture
def one(one_night: Place, tmp_path: Path) -> Place:
    """A shop that served its sixth day, and nothing else has landed."""
    return one_night.copy(tmp_path / "shop")


def opened(place: Place) -> Shop:
    return open_shop(place.settings, None, place.landing, place.lake)


def told(place: Place) -> Status:
    return status(opened(place))


def kinds(found: Status) -> set[str]:
    """Of the problems."""
    return {problem.kind for problem in found.problems}


def table(found: Status, name: str) -> Any:
    return next(each for each in found.tables if each.name == name)


def shop(place: Place, *more: str) -> list[str]:
    paths = ["--landing", str(place.landing), "--lake", str(place.lake)]
    return [*more, "--settings", str(place.settings), *paths]


def take_in(place: Place) -> None:
    """Read what has landed, as the hours between nights do."""
    it = opened(place)
    ingest(it, arrival(it.landing, it.mapping, None), "hour")


def test_a_shop_after_its_night_is_fresh(one_night: Place) -> None:
    before = files_and_folders(one_night.root)
    found = told(one_night)
    assert files_and_folders(one_night.root) == before, "status changes nothing"
    assert found.problems == ()
    assert found.exit_code() == 0
    assert found.serving is not None
    assert (found.serving.ds, found.serving.state) == (day(5), "fresh")
    assert {each.state for each in found.tables} == {"fresh"}
    assert len(found.tables) == len(stored())
    events = table(found, "clean.events")
    assert events.checks.passed > 10
    assert events.checks.critical == 0
    assert (events.newest, events.days_behind, events.stale_days) == (day(5), 0, ())
    sizes = {each.layer: each for each in found.disk}
    assert sizes["clean"].n_bytes >= sizes["clean"].n_bytes_newest > 0
    assert sizes["models"].n_files > 0


def test_machines_find_what_they_rely_on(
    one_night: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shop(one_night, "status", "--format", "json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {*KEYS, "landing", "serving", "hold", "missing_nights"}
    assert set(found["landing"]) == {"newest", "waiting", "n_quarantined"}
    assert set(found["serving"]) == SERVING
    for name in ("nights", "tables", "disk"):
        assert all(set(each) == KEYS[name] for each in found[name])
    assert found["serving"]["ds"] == str(day(5))


def test_before_the_first_night_it_is_late_and_no_lake_is_made(
    sample: Path, tmp_path: Path
) -> None:
    found = status(open_shop(None, None, sample / "landing", tmp_path / "lake"))
    assert kinds(found) == {"late"}
    assert {each.state for each in found.tables} == {"absent"}
    assert found.problems[0].mend == "nightrank run"
    assert list(tmp_path.iterdir()) == []


def test_a_day_that_landed_and_was_not_run_is_late(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(place)
    assert kinds(found) == {"late"}
    assert str(day(6)) in found.problems[0].what
    assert table(found, "features.behaviours_daily").days_behind == 1
    assert main(shop(place, "status")) == 0
    assert main(shop(place, "status", "--check")) == 1
    assert "mend: nightrank run" in capsys.readouterr().out


def test_what_is_served_may_not_be_too_old(one: Place, capsys: pytest.CaptureFixture[str]) -> None:
    age = (datetime.now(UTC).date() - day(5)).days
    assert main(shop(one, "status", "--check", "--max-age", str(age))) == 0
    assert main(shop(one, "status", "--check", "--max-age", str(age - 1))) == 1
    assert "late: what is served is of 2026-01-10" in capsys.readouterr().out


def test_a_late_file_is_named_with_its_time_until_the_night_runs_again(
    one_night: Place, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_only_reads(monkeypatch)
    place = with_seventh_day(one_night, sample, tmp_path / "shop")
    for folder in place.landing.glob(f"*/dt={day(6)}"):
        shutil.rmtree(folder)
    late = place.landing / "events" / f"dt={day(3)}" / "part-9.jsonl.gz"
    line = gzip.decompress((late.parent / "part-0.jsonl.gz").read_bytes()).splitlines()[0]
    record = json.loads(line) | {"event_id": "came-late"}
    late.write_bytes(gzip.compress(json.dumps(record).encode() + b"\n"))
    assert kinds(told(place)) == set()  # nobody has read it
    take_in(place)
    found = told(place)
    assert kinds(found) == {"stale"}
    daily = table(found, "features.behaviours_daily")
    assert (daily.state, daily.stale_days, daily.mend) == ("stale", (day(3),), "nightrank run")
    (cause,) = daily.causes
    assert cause.kind == "late file"
    assert f"events/dt={day(3)}/part-9.jsonl.gz was delivered at {day(4)} 00:00" in cause.what
    assert found.serving is not None
    assert [each.kind for each in found.serving.causes] == ["late file"]
    assert [(each.ds, each.n_files) for each in found.stale_nights] == [(day(5), 1)]
    assert found.exit_code() == 1
    place.run()
    assert kinds(told(place)) == set()


def test_rows_that_come_late_in_a_file_in_time_are_no_trouble(place: Place) -> None:
    (place.landing / "impressions" / f"dt={day(6)}" / "part-3.jsonl.gz").unlink()
    it = opened(place)
    found = arrival(it.landing, it.mapping, day(5))
    files = tuple(f for f in (place.landing / "events" / f"dt={day(6)}").iterdir())
    assert files
    more = arrival(it.landing, it.mapping.model_copy(update={"impressions": None}), day(6))
    ingest(it, more, "hour")
    assert found.ds == day(5)
    after = told(place)
    stale = table(after, "features.behaviours_daily")
    assert stale.state in ("late rows", "behind")
    assert {cause.kind for cause in stale.causes} <= {"late rows", "never built"}
    assert "stale" not in kinds(after)


def test_a_withdrawn_file_is_named(one: Place) -> None:
    withdraw(opened(one), f"events/dt={day(3)}/part-2.jsonl.gz", "run")
    found = told(one)
    daily = table(found, "features.behaviours_daily")
    assert {cause.kind for cause in daily.causes} == {"withdrawn file"}
    assert "part-2.jsonl.gz was withdrawn" in daily.causes[0].what
    assert "stale" in kinds(found)


def test_a_mended_mapping_is_told_before_and_after_files_are_read_again(one: Place) -> None:
    mapping = one.root / "mapping.toml"
    name = one.settings.read_text().splitlines()[0].split('"')[1]
    mapping.write_text(Path(name).read_text().replace('value = "price"\n', ""))
    one.settings.write_text(one.settings.read_text().replace(name, str(mapping)))
    before = told(one)
    events = table(before, "clean.events")
    assert (events.state, events.causes[0].kind) == ("stale", "mended mapping")
    take_in(one)
    after = told(one)
    assert table(after, "clean.events").state == "fresh"
    daily = table(after, "features.behaviours_daily")
    assert (daily.state, daily.causes[0].kind) == ("stale", "mended mapping")


def test_other_settings_make_what_is_served_stale(one: Place) -> None:
    one.settings.write_text(one.settings.read_text() + "[propensity]\nclip = 0.05\n")
    found = told(one)
    assert found.serving is not None
    assert [cause.kind for cause in found.serving.causes] == ["recipe changed"]
    assert found.serving.mend == f"nightrank run --ds {day(5)}"
    shares = table(found, "features.impression_propensities")
    assert {cause.kind for cause in shares.causes} == {"recipe changed"}
    assert kinds(found) == {"stale"}


def test_a_run_without_an_end_is_told(one: Place) -> None:
    lake = opened(one).lake
    row = lake.rows(lake.pin("ops.stages"), {"ds": day(5)}).to_pylist()[0]
    lake.append("ops.stages", {"ds": day(5)}, [row | {"run_id": "gone", "stage": "train bpr"}])
    (run,) = told(one).unfinished
    assert (run.run_id, run.ds, run.stage) == ("gone", day(5), "train bpr")
    assert (run.state, run.process) == ("died", None)
    with leased(lake, f"night {day(5)}", "gone", Terms("night")):
        (run,) = told(one).unfinished
        assert (run.state, run.stage) == ("running", "train bpr")
        assert run.process == f"{os.getpid()} on {platform.node()}"
    with leased(lake, f"night {day(6)}", "new", Terms("night")):
        first, second = told(one).unfinished
    assert (first.run_id, first.state) == ("gone", "died")
    assert (second.run_id, second.ds, second.state) == ("new", day(6), "running")
    assert second.stage is None


def test_an_hour_between_nights_is_no_night_that_died(place: Place) -> None:
    found = look(opened(place))
    assert found.night is not None
    steps.gather(found.night)
    assert told(place).unfinished == ()


def test_a_hold_of_a_person_is_told_until_it_is_let_go(
    one: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = ("rollback", "--hold", "--to", str(day(5)), "--reason", "the prices are wrong")
    assert main(shop(one, *hold)) == 0
    found = told(one).hold
    assert found is not None
    assert (found.reason, found.who) == ("the prices are wrong", getpass.getuser())
    capsys.readouterr()
    assert main(shop(one, "status")) == 0
    out = capsys.readouterr().out
    assert f"held: {found.who} holds publishing back since " in out
    assert found.mend in out
    assert main(shop(one, "status", "--format", "json")) == 0
    assert json.loads(capsys.readouterr().out)["hold"]["reason"] == "the prices are wrong"
    assert main(shop(one, "rollback", "--resume", "--reason", "they are mended")) == 0
    assert told(one).hold is None


def test_a_plan_that_is_not_done_is_told(one: Place) -> None:
    lake = opened(one).lake
    blank = dict.fromkeys(lake.schema("ops.backfills").names)
    states = {day(2): "done", day(3): "waiting", day(4): "waiting"}
    rows = [blank | {"plan_id": "p", "ds": ds, "state": state} for ds, state in states.items()]
    lake.put("ops.backfills", {"plan_id": "p"}, rows)
    (plan,) = told(one).backfills
    assert (plan.nights, plan.first, plan.last) == ({"done": 1, "waiting": 2}, day(2), day(4))
    lake.put("ops.backfills", {"plan_id": "p"}, [row | {"state": "done"} for row in rows])
    assert told(one).backfills == ()


def test_a_night_of_a_plan_that_died_is_not_told_as_running(
    one: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = opened(one).lake
    blank = dict.fromkeys(lake.schema("ops.backfills").names)
    row = blank | {"plan_id": "p", "ds": day(2), "state": "running", "run_id": "dead"}
    lake.put("ops.backfills", {"plan_id": "p"}, [row])
    with leased(lake, plan_lease("p"), "alive", Terms("drives it")):
        main(shop(one, "status", "--format", "json"))
        assert json.loads(capsys.readouterr().out)["backfills"][0]["nights"] == {"running": 1}
    main(shop(one, "status", "--format", "json"))
    assert json.loads(capsys.readouterr().out)["backfills"][0]["nights"] == {"waiting": 1}


def test_dates_that_no_night_ran_for_are_told_with_their_command(one: Place) -> None:
    found = told(one)
    alone = replace(found, missing_nights=(day(2),))
    both = replace(found, missing_nights=(day(2), day(4)))
    assert alone.mend_missing == f"nightrank run --ds {day(2)}"
    assert both.mend_missing == f"nightrank backfill {day(2)} {day(4)} --missing"


def test_a_date_that_a_backfill_has_made_is_missing_no_more(one: Place) -> None:
    lake = opened(one).lake
    row = lake.rows(lake.pin("ops.nights"), {"ds": day(5)}).to_pylist()[0]
    lake.append("ops.nights", {"ds": day(1)}, [row | {"run_id": "first", "ds": day(1)}])
    assert told(one).missing_nights == (day(2), day(3), day(4))
    blank = dict.fromkeys(lake.schema("ops.backfills").names) | {"plan_id": "p"}
    outcomes = {day(2): "swapped in", day(3): "kept aside", day(4): None}
    rows = [blank | {"ds": ds, "state": "done", "outcome": each} for ds, each in outcomes.items()]
    lake.put("ops.backfills", {"plan_id": "p"}, rows)
    assert told(one).missing_nights == (day(4),)


@pytest.mark.parametrize(("outcome", "code"), [("failed", 1), ("held", 3)])
def test_the_last_night_failed_or_is_held(one: Place, outcome: str, code: int) -> None:
    lake = opened(one).lake
    row = lake.rows(lake.pin("ops.nights"), {"ds": day(5)}).to_pylist()[0]
    ended_at = datetime.now(UTC)
    new = row | {"run_id": "later", "outcome": outcome, "ended_at": ended_at, "ds": day(6)}
    lake.append("ops.nights", {"ds": day(6)}, [new])
    found = told(one)
    assert kinds(found) == {outcome}
    assert found.exit_code() == code
    assert f"--ds {day(6)}" in found.problems[0].mend
