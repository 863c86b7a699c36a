"""Which nights a plan has, when it goes on, and how its nights change hands; no night is made."""

import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tasks.backfill import deaths, ledger
from tasks.backfill.apart import closes
from tasks.backfill.deaths import end_orphans, known_name, note_deaths, plan_lease
from tasks.backfill.driving import cancel, drive, driving, plans, sweep
from tasks.backfill.forecast import forecast
from tasks.backfill.ledger import Entry
from tasks.backfill.plan import Planned, plans_folder, resume, with_models
from tasks.errors import BackfillError, UsageError
from tasks.lake import leases
from tasks.lake.tables import Lake
from tasks.processes import Process, end
from tasks.running import note_end
from tasks.serve.publications import Publication, note
from tests.scenarios.daily import day
from tests.tasks.backfill.conftest import History
from tests.tasks.test_processes import known

NOW = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def shop(loaded: History) -> History:
    return loaded


def states(planned: Planned) -> dict[date, str]:
    return {each.ds: each.state for each in planned.entries}


def write(shop: History, planned: Planned, *changed: Entry) -> list[Entry]:
    new = {each.ds: each for each in changed}
    entries = [new.get(each.ds, each) for each in planned.entries]
    ledger.write(shop.shop.lake, entries)
    return entries


def done(entry: Entry) -> Entry:
    ended_at = entry.planned_at
    return replace(entry, state="done", outcome="swapped in", n_rows=1, ended_at=ended_at)


def failed(entry: Entry) -> Entry:
    return replace(entry, state="failed", reason="why", ended_at=entry.planned_at)


def test_dates_without_events_are_empty_and_no_error(shop: History) -> None:
    planned = shop.plan(4, 7)
    assert states(planned) == {
        day(4): "waiting",
        day(5): "waiting",
        day(6): "empty",
        day(7): "empty",
    }
    assert planned.entries[2].reason == f"no event of {day(6)} is in the lake"
    assert not shop.plan(6, 7).has_work


def test_the_order_is_the_plans(shop: History) -> None:
    newest = shop.plan(2, 4, is_newest_first=True)
    assert [each.ds for each in newest.entries] == [day(4), day(3), day(2)]
    assert [each.place for each in newest.entries] == [0, 1, 2]


def test_missing_are_those_without_any_release(shop: History) -> None:
    held = Publication("r", day(2), "hold", "x", "nightly", NOW, "bpr", 1, 1, "run")
    note(shop.shop.lake, held)
    assert list(states(shop.plan(1, 4, choice="missing"))) == [day(1), day(3), day(4)]
    other = shop.plan(3, 3, models=("popularity",))
    write(shop, other, done(other.entries[0]))
    assert list(states(shop.plan(1, 4, choice="missing"))) == [day(1), day(4)]


def test_failed_are_those_whose_last_attempt_failed(shop: History) -> None:
    first = shop.plan(1, 3)
    write(shop, first, *(failed(each) for each in first.entries))
    again = shop.plan(2, 2, choice="failed")
    assert list(states(again)) == [day(2)]
    write(shop, again, done(again.entries[0]))
    assert list(states(shop.plan(1, 4, choice="failed"))) == [day(1), day(3)]


def test_a_plan_that_was_left_before_a_night_hides_no_failure_of_it(shop: History) -> None:
    first = shop.plan(1, 2)
    write(shop, first, *(failed(each) for each in first.entries))
    left = shop.plan(1, 2, models=("popularity",))
    write(shop, left, *(replace(each, state="cancelled") for each in left.entries))
    assert list(states(shop.plan(1, 4, choice="failed"))) == [day(1), day(2)]


def test_a_night_that_went_well_since_is_no_failure(shop: History) -> None:
    first = shop.plan(1, 2)
    write(shop, first, *(failed(each) for each in first.entries))
    ended = [(day(1), "kept", 1), (day(1), "failed", -1), (day(2), "failed", 1)]
    for ds, outcome, minutes in ended:
        at = first.plan.planned_at + timedelta(minutes=minutes)
        row = {"run_id": f"{ds} {outcome}", "outcome": outcome, "reason": "x", "release_id": None}
        note_end(shop.shop, {**row, "started_at": at, "ended_at": at, "ds": ds}, ds)
    assert list(states(shop.plan(1, 4, choice="failed"))) == [day(2)]


def test_a_night_that_was_never_judged_is_missing(shop: History) -> None:
    """Its plan was left before the last pass, and cannot go on where the recipe is another."""
    left = shop.plan(1, 2)
    unjudged = replace(done(left.entries[0]), outcome=None)
    write(shop, left, unjudged, replace(left.entries[1], state="cancelled"))
    assert list(states(shop.plan(1, 3, choice="missing"))) == [day(1), day(2), day(3)]
    assert list(states(shop.plan(1, 3))) == [day(1), day(2), day(3)]


def test_what_is_done_from_the_same_inputs_is_not_done_again(shop: History) -> None:
    first = shop.plan(1, 2)
    write(shop, first, *map(done, first.entries))
    again = shop.plan(1, 3)
    assert (list(states(again)), again.skipped) == ([day(3)], (day(1), day(2)))
    assert len(shop.plan(1, 2, "then").entries) == 2  # what was known then is another question
    assert len(shop.plan(1, 2, models=("popularity",)).entries) == 2
    shop.land_late(5, 2)
    shop.ingest()
    assert list(states(shop.plan(1, 2))) == [day(2)]


def test_what_is_done_and_not_judged_yet_is_not_told_as_to_be_made(shop: History) -> None:
    planned = shop.plan(1, 2)
    left = replace(done(planned.entries[0]), outcome=None, seconds=60.0)
    write(shop, planned, left)
    told = forecast(shop.shop, shop.plan(1, 2))
    assert [(each.state, each.minutes) for each in told.nights] == [("done", None), ("waiting", 1)]
    assert told.minutes == 1 / 2  # two at once


def test_the_same_request_goes_on_with_the_plan_and_its_pins(shop: History) -> None:
    first = shop.plan(1, 3, "then")
    write(shop, first, done(first.entries[0]))
    shop.land_late(5, 2)
    shop.ingest()
    again = shop.plan(1, 3, "then", max_active=7)
    assert (again.is_old, again.plan.plan_id) == (True, first.plan.plan_id)
    assert (again.plan.pins, again.plan.max_active) == (first.plan.pins, 7)
    named = resume(shop.shop, first.plan.plan_id).plan
    assert (named.pins, named.recipe) == (first.plan.pins, first.plan.recipe)
    for other in (
        shop.plan(1, 4, "then"),
        shop.plan(1, 3, "now"),
        shop.plan(1, 3, "then", keeps_aside=True),
    ):
        assert not other.is_old
    shop.place.settings.write_text(shop.place.settings.read_text().replace("k = 5", "k = 6"))
    assert not shop.plan(1, 3, "then").is_old
    with pytest.raises(UsageError, match="other settings"):
        resume(shop.shop, first.plan.plan_id)


def test_models(shop: History) -> None:
    assert with_models(shop.shop, ()).settings.train.models == ("popularity", "bpr")
    ease = with_models(shop.shop, ("ease", "ials")).settings
    assert ease.train.models == ("popularity", "ease", "ials")
    assert (ease.publish.model, ease.train.configs) == ("ease", {})
    # what a plan keeps of its models leads to the same again
    assert with_models(shop.shop, ease.train.models).settings == ease


def test_one_of_two_takes_a_night(shop: History) -> None:
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    mine = ledger.take(lake, plan_id, day(1), "mine", 1)
    assert mine is not None
    assert (mine.state, mine.attempts, mine.slot) == ("running", 1, 1)
    assert ledger.take(lake, plan_id, day(1), "other", 2) is None
    ended = ledger.end(lake, replace(mine, run_id="other"), "done")
    assert ended.state == "running"  # it is not the other's to end
    assert ledger.end(lake, mine, "failed", reason="why").state == "failed"


def test_nights_of_a_dead_run_wait_again_and_its_folder_stays(shop: History) -> None:
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    ledger.take(lake, plan_id, day(1), "mine", 1)
    (plans_folder(lake) / plan_id).mkdir(parents=True)
    with leases.leased(lake, plan_lease(plan_id), "mine", leases.Terms("drives it")):
        assert note_deaths(lake) == sweep(lake) == []  # it lives
        assert ledger.of_plan(lake, plan_id)[0].state == "running"
    (said,) = note_deaths(lake)
    assert "died" in said
    assert ledger.of_plan(lake, plan_id)[0].state == "waiting"
    assert (plans_folder(lake) / plan_id).exists()
    assert sweep(lake) == []


def test_what_a_dead_driver_left_is_ended_before_its_nights_wait(
    shop: History, tmp_path: Path
) -> None:
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    ledger.take(lake, plan_id, day(1), "dead", 1)
    copy = Lake(shutil.copytree(shop.place.lake, tmp_path / "copied"))
    with known(known_name(lake, plan_id)) as orphan:
        assert len(note_deaths(copy)) == 1
        assert orphan.poll() is None  # it works at another lake
        assert len(note_deaths(lake)) == 1
        assert orphan.wait(0) == -signal.SIGKILL


def test_what_begins_while_somebody_looks_is_left_to_the_next_look(
    shop: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that still started when it was looked for; its driver is dead at the next glance."""
    planned = shop.plan(1, 1)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    ledger.take(lake, plan_id, day(1), "dead", 1)
    begun: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:

        def drivers(*_: object) -> list[leases.Lease]:
            begun.append(stack.enter_context(known(known_name(lake, plan_id))))
            return []

        with monkeypatch.context() as patch:
            patch.setattr(deaths, "drivers", drivers)
            assert note_deaths(lake) == []
        (worker,) = begun
        assert worker.poll() is None  # it may be a new driver's
        assert ledger.of_plan(lake, plan_id)[0].state == "running"
        assert len(note_deaths(lake)) == 1
        assert worker.wait(0) == -signal.SIGKILL


def test_what_an_orphan_forked_before_it_was_ended_is_ended_too(
    shop: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, ended = known_name(shop.shop.lake, "plan"), list[int]()
    with ExitStack() as stack:

        def fork_then_end(found: Sequence[Process]) -> list[Process]:
            if not ended:
                stack.enter_context(known(name))
            ended.extend(each.pid for each in found)
            return end(found)

        monkeypatch.setattr(deaths, "end", fork_then_end)
        stack.enter_context(known(name))
        assert end_orphans(shop.shop.lake, "plan") == []
        assert len(ended) == 2


def test_one_that_goes_on_with_a_plan_ends_first_what_still_works_at_it(shop: History) -> None:
    """Whoever drove it died after this one had looked."""
    planned = shop.plan(1, 1)
    write(shop, planned)
    again = resume(shop.shop, planned.plan.plan_id)
    with (
        known(known_name(shop.shop.lake, planned.plan.plan_id)) as orphan,
        driving(shop.shop, again) as run,
    ):
        assert orphan.wait(0) == -signal.SIGKILL
        assert run.waiting() == [day(1)]


def test_a_night_at_which_a_process_works_that_cannot_be_ended_is_not_said_to_wait(
    shop: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, other = shop.plan(1, 1), shop.plan(2, 2)
    for each in (planned, other):
        write(shop, each)
        ledger.take(shop.shop.lake, each.plan.plan_id, each.entries[0].ds, "dead", 1)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    monkeypatch.setattr(deaths, "end", list)  # as it is where another account started it
    with known(known_name(lake, plan_id)) as orphan:
        (said,) = note_deaths(lake)
        assert other.plan.plan_id in said
        assert ledger.of_plan(lake, plan_id)[0].state == "running"
        with pytest.raises(BackfillError, match="still worked at") as told:
            drive(shop.shop, resume(shop.shop, plan_id))
        assert f"process {orphan.pid} on" in told.value.where


def test_a_night_that_another_run_has_begun_since_is_not_taken_for_dead(shop: History) -> None:
    planned = shop.plan(1, 1)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    ledger.take(lake, plan_id, day(1), "dead", 1)
    ledger.ready(lake, plan_id, [])  # somebody goes on with it, while another still looks
    ledger.take(lake, plan_id, day(1), "alive", 1)
    assert ledger.bury(lake, plan_id, {"dead"}) == []
    assert ledger.of_plan(lake, plan_id)[0].state == "running"
    (dead,) = ledger.bury(lake, plan_id, {"alive"})
    assert (dead.state, dead.reason) == ("waiting", "the process that made it died")


def test_a_folder_that_nobody_needs_is_removed(shop: History) -> None:
    lake = shop.shop.lake
    planned = shop.plan(1, 1)
    write(shop, planned, done(planned.entries[0]))
    for name in (planned.plan.plan_id, "of-no-plan"):
        (plans_folder(lake) / name).mkdir(parents=True)
    assert len(sweep(lake)) == 2
    assert list(plans_folder(lake).iterdir()) == []


def test_the_folder_of_a_cancelled_plan_goes_when_nobody_drives_it(shop: History) -> None:
    """Its driver did not stop in time, and was killed then."""
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    (plans_folder(lake) / plan_id).mkdir(parents=True)
    with leases.leased(lake, plan_lease(plan_id), "mine", leases.Terms("drives it")):
        ledger.ask_to_cancel(lake, plan_id, "it was cancelled")
        assert sweep(lake) == []
        assert (plans_folder(lake) / plan_id).exists()
    (said,) = sweep(lake)
    assert plan_id in said
    assert not (plans_folder(lake) / plan_id).exists()


def test_the_folder_of_a_plan_that_goes_on_while_it_is_swept_stays(
    shop: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    (plans_folder(lake) / plan_id).mkdir(parents=True)
    asked = ledger.ask_to_cancel(lake, plan_id, "it was cancelled")

    def then_it_goes_on(lake: Lake) -> dict[str, list[Entry]]:
        found = deaths.look(lake)
        ledger.ready(lake, plan_id, ledger.cancels(asked))  # and whoever did that is gone again
        return found

    monkeypatch.setattr("tasks.backfill.driving.look", then_it_goes_on)
    assert sweep(lake) == []
    assert (plans_folder(lake) / plan_id).exists()


def test_one_that_goes_on_with_a_plan_waits_for_a_sweep_of_it(shop: History) -> None:
    planned = shop.plan(1, 1)
    lake, lease = shop.shop.lake, plan_lease(planned.plan.plan_id)
    assert leases.take(lake, lease, "sweeper", leases.Terms("removes the folder")) == []
    done_with_it = threading.Timer(0.5, leases.give_back, (lake, lease, "sweeper"))
    done_with_it.start()
    with driving(shop.shop, planned) as run:
        assert run.is_ours()
    done_with_it.join()


def test_a_plan_that_nobody_drives_is_cancelled_at_once(shop: History) -> None:
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    ledger.take(lake, plan_id, day(1), "dead", 1)
    assert cancel(shop.shop, plan_id).count("cancelled") == 2
    assert [each.plan.plan_id for each in plans(lake)] == [plan_id]
    assert ledger.take(lake, plan_id, day(2), "late", 1) is None
    ledger.ready(lake, plan_id, ledger.cancels(ledger.of_plan(lake, plan_id)))  # resumed
    assert {each.state for each in ledger.of_plan(lake, plan_id)} == {"waiting"}
    with pytest.raises(UsageError, match="no plan x"):
        cancel(shop.shop, "x")


def test_a_cancel_that_comes_as_a_plan_goes_on_is_heard(shop: History) -> None:
    planned = shop.plan(1, 3)
    write(shop, planned, done(planned.entries[0]))
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    cancel(shop.shop, plan_id)
    resumed = resume(shop.shop, plan_id)
    ledger.ready(lake, plan_id, ledger.cancels(resumed.entries))
    ledger.take(lake, plan_id, day(2), "dead", 1)
    again = resume(shop.shop, plan_id)
    ledger.ask_to_cancel(lake, plan_id, "it was cancelled")  # before its lease is taken
    result = drive(shop.shop, again)
    assert result.stopped == "somebody asked to cancel the plan"
    assert [each.state for each in result.entries] == ["done", "cancelled", "cancelled"]
    assert {each.attempts for each in result.entries} == {0, 1}


def test_a_second_cancel_is_heard_though_the_first_was_answered(shop: History) -> None:
    planned = shop.plan(1, 2)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    cancel(shop.shop, plan_id)
    answered = ledger.cancels(ledger.of_plan(lake, plan_id))  # somebody goes on with it
    assert len(answered) == 1
    cancel(shop.shop, plan_id)  # Prefect still starts
    with driving(shop.shop, resume(shop.shop, plan_id), answered) as run:
        assert run.waiting() == []
    assert run.result.stopped == "somebody asked to cancel the plan"
    with driving(shop.shop, resume(shop.shop, plan_id)) as run:
        assert run.waiting() == [day(1), day(2)]


def all_done(shop: History, planned: Planned) -> bool:
    return bool(ledger.change(shop.shop.lake, planned.plan.plan_id, done))


def test_what_stops_a_plan_after_its_last_night_stops_nothing(
    shop: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = shop.plan(1, 2)
    with driving(shop.shop, planned) as run:
        all_done(shop, planned)
        run.stop("stopped by SIGTERM")
    assert run.result.stopped is None
    assert run.result.count("done") == 2

    other = shop.plan(3, 4)
    write(shop, other)
    monkeypatch.setattr("tasks.backfill.driving._has_stopped", lambda *_: all_done(shop, other))
    assert cancel(shop.shop, other.plan.plan_id).stopped is None


def test_a_plan_that_does_not_stop_is_not_told_as_cancelled(shop: History) -> None:
    planned = shop.plan(1, 3)
    write(shop, planned)
    lake, plan_id = shop.shop.lake, planned.plan.plan_id
    ledger.take(lake, plan_id, day(1), "mine", 1)
    with (
        leases.leased(lake, plan_lease(plan_id), "mine", leases.Terms("drives it")),
        pytest.raises(BackfillError, match=f"running: {day(1)}\n") as told,
    ):
        cancel(shop.shop, plan_id, patience=0.0)
    assert "drives it, run mine" in told.value.where
    assert [each.state for each in ledger.of_plan(lake, plan_id)] == [
        "running",
        "cancelled",
        "cancelled",
    ]


def test_a_plan_that_has_ended_cannot_be_cancelled_any_more(shop: History) -> None:
    planned = shop.plan(1, 2)
    entries = write(shop, planned, done(planned.entries[0]), failed(planned.entries[1]))
    result = cancel(shop.shop, planned.plan.plan_id)
    assert (result.stopped, list(result.entries)) == (None, entries)
    assert ledger.of_plan(shop.shop.lake, planned.plan.plan_id) == entries


def test_a_file_without_a_date_counts_as_known_some_hours_longer(shop: History) -> None:
    dated = shop.shop
    assert closes(dated, day(0)) == {"events": datetime(2026, 1, 2, tzinfo=UTC)}
    source = dated.mapping.events.model_copy(
        update={"arrived": dated.mapping.events.arrived.model_copy(update={"path": None})}
    )
    undated = replace(dated, mapping=dated.mapping.model_copy(update={"events": source}))
    assert closes(undated, day(0)) == {"events": datetime(2026, 1, 2, 6, tzinfo=UTC)}


def test_nothing_ingested_is_told(tmp_path: Path) -> None:
    empty = History(tmp_path / "empty")
    empty.land(0, 1)
    with pytest.raises(UsageError, match="no event was ingested"):
        empty.plan(0, 1)
