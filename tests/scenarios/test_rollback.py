"""A night that is rolled back, held and let go on, by the commands; and nights that run at once."""

import csv
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from tasks.lake.leases import holders
from tasks.lake.tables import Lake
from tasks.night import begin, leave_dates
from tasks.progress import Nobody, watched_by
from tasks.shop import Shop, open_shop
from tests.scenarios.nights import (
    Moment,
    Place,
    contents,
    day,
    in_process,
    leave_out_what_only_reads,
    run_and_die,
    start,
)
from tests.scenarios.served import SEEN, Readers, polled


def command(place: Place, *arguments: str) -> int:
    where = ("--settings", place.settings, "--landing", place.landing, "--lake", place.lake)
    return main([*arguments, *map(str, where)])


def the_shop(place: Place) -> Shop:
    return open_shop(place.settings, None, place.landing, place.lake)


def saw_both(readers: Readers, *shops: Place) -> bool:
    """Whether every reader saw what these shops serve, each whole, and nothing else."""
    nights = [json.loads(json.dumps(shop.ask(SEEN)[0], default=str)) for shop in shops]
    return readers.saw_only(*nights) and all(map(readers.saw, nights))


def served(place: Place) -> date:
    """The date of the night that readers see."""
    ((ds,),) = place.ask("SELECT DISTINCT ds FROM serve.current")
    assert isinstance(ds, date)
    return ds


@pytest.fixture
def two(two_nights: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A shop that served two nights, with views and without pages."""
    leave_out_what_only_reads(monkeypatch)
    place = two_nights.copy(tmp_path / "shop")
    place.refresh()
    return place


def test_a_rollback_holds_until_it_is_let_go(
    two: Place, one_night: Place, two_nights: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    roll = ("rollback", "--reason", "the prices were wrong", "--hold")
    with polled(the_shop(two), two.root) as readers:
        assert command(two, *roll) == 0
    assert saw_both(readers, one_night, two_nights)
    assert served(two) == day(5)
    told = capsys.readouterr().out
    assert f"{day(5)}: served again, in place of {day(6)}" in told
    assert "later nights do not publish" in told
    assert command(two, *roll) == 0
    assert "nothing to do" in capsys.readouterr().out

    assert two.run().is_old  # the night that was rolled back is not published by running it
    text = two.settings.read_text()
    two.settings.write_text(text + "[publish]\nk = 19\n")  # another recipe, so another release
    outcome = two.run()
    assert outcome.ending == "held"
    assert "holds publishing back since" in outcome.reason
    assert "the prices were wrong" in outcome.reason
    assert two.run().is_old
    assert served(two) == day(5)
    assert command(two, "publish", "--force", "now") == 2

    assert command(two, "rollback", "--resume", "--reason", "they are mended") == 0
    assert two.run().ending == "published"
    assert served(two) == day(6)
    assert two.ask("SELECT max(rank) FROM serve.current") == [(19,)]
    capsys.readouterr()
    history(two, capsys)


def history(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Decisions newest first; what is served is marked, and no hold stands."""
    assert command(place, "history", "--format", "json") == 0
    rows: list[Any] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["action"], row["ds"], row["state"]) for row in rows] == [
        ("publish", str(day(6)), "served"),
        ("resume nights", str(day(5)), None),
        ("hold", str(day(6)), None),
        ("rollback", str(day(5)), None),
        ("hold nights", str(day(5)), None),
        ("publish", str(day(6)), None),
        ("publish", str(day(5)), None),
    ]
    assert rows[3]["reason"] == "the prices were wrong"
    assert rows[3]["who"]
    assert rows[3]["n_rows"] == rows[6]["n_rows"] > 0
    assert command(place, "history", "--last", "2", "--format", "csv") == 0
    assert len(list(csv.reader(io.StringIO(capsys.readouterr().out)))) == 3
    assert command(place, "history") == 0
    assert "they are mended" in capsys.readouterr().out
    assert command(place, "history", "--last", "0") == 2


def test_what_cannot_be_rolled_back_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, told in (
        (("--reason", " "), "without a reason"),
        (("--reason", "why"), "nothing was served before"),
        (("--reason", "why", "--to", "2026-03-01"), "there is no release of 2026-03-01"),
        (("--reason", "why", "--resume"), "nobody holds publishing back"),
        (("--reason", "why", "--resume", "--to", "2026-01-10"), "takes no --to"),
    ):
        assert command(place, "rollback", *arguments) == 2
        assert told in capsys.readouterr().err


class _Listening(Nobody):
    """Writes down whom a run waits for."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept

    def said(self, text: str) -> None:
        self.kept.write_text(text)


def run_and_tell(place: Place, ds: date | None, kept: Path) -> None:
    """Run a night, and write down whom it waited for and how it ended."""
    leave_out_what_only_reads(pytest.MonkeyPatch())
    with watched_by(_Listening(kept.with_suffix(".said"))):
        outcome = place.run(ds)
    kept.write_text(json.dumps([outcome.ending, outcome.is_old]))


def at_once(place: Place, *nights: date) -> tuple[list[Any], list[str]]:
    """Run nights in processes of their own at once: how each ended, and whom they waited for."""
    kept = [place.root / f"night-{number}" for number in range(len(nights))]
    started = [start(run_and_tell, place, ds, path) for ds, path in zip(nights, kept, strict=True)]
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * len(nights)
    said = [path.with_suffix(".said") for path in kept]
    return (
        sorted(json.loads(path.read_text()) for path in kept),
        [path.read_text() for path in said if path.exists()],
    )


def test_two_nights_of_one_date_at_once(place: Place, one_night: Place, two_nights: Place) -> None:
    """The second waits, says for whom, and finds nothing to do."""
    with polled(the_shop(place), place.root) as readers:
        ended, said = at_once(place, day(6), day(6))
    assert ended == [["published", False], ["published", True]]
    (waited_for,) = said
    assert waited_for.startswith(f"waiting for the night of {day(6)}, run ")
    assert saw_both(readers, one_night, two_nights)
    assert contents(place.lake) == contents(two_nights.lake)
    stages = place.ask(f"SELECT stage, count(*) FROM ops.stages WHERE ds = '{day(6)}' GROUP BY 1")
    assert {count for _, count in stages} == {1}
    assert holders(Lake(place.lake)) == []


def test_a_night_and_one_of_an_older_date_at_once(
    place: Place, one_night: Place, two_nights: Place
) -> None:
    """As the nightly run and a backfill are: none waits for the other, and nothing goes back."""
    with polled(the_shop(place), place.root) as readers:
        ended, said = at_once(place, day(6), day(4))
    assert ended == [["kept", False], ["published", False]]
    assert said == [] or "publishing" in said[0]  # but to decide, which is soon over
    assert saw_both(readers, one_night, two_nights)
    assert served(place) == day(6)
    current = "SELECT * EXCLUDE (model_version) FROM serve.current ORDER BY user_id, rank"
    assert place.ask(current) == two_nights.ask(current)


def test_a_run_that_died_is_noted_once_by_who_looks(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_and_die(place, None, Moment("ingest", 1), is_checked=False) == -9
    for _ in range(2):
        assert command(place, "status") == 0
        assert f"night of {day(6)}: died. process " in capsys.readouterr().out
    place.refresh()
    ended = "SELECT outcome, release_id FROM ops.nights ORDER BY ended_at"
    assert place.ask(ended) == [
        ("published", place.ask("FROM serve.current")[0][0]),
        ("died", None),
    ]
    assert holders(Lake(place.lake)) == []


def test_a_night_that_runs_is_seen(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    night = begin(the_shop(place), None)
    assert command(place, "status") == 0
    assert f"running: night of {day(6)}, run {night.run_id}, process " in capsys.readouterr().out
    leave_dates(night)


def stop_in_ingest(place: Place) -> None:
    """Run a night that somebody stops from the keyboard."""

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    leave_out_what_only_reads(pytest.MonkeyPatch())
    pytest.MonkeyPatch().setattr("tasks.steps.ingest_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        place.run()


def test_a_night_that_is_stopped_lets_its_date_go(place: Place) -> None:
    assert in_process(stop_in_ingest, place) == 0
    assert holders(Lake(place.lake)) == []
    place.refresh()
    assert place.ask(f"SELECT outcome, reason FROM ops.nights WHERE ds = '{day(6)}'") == [
        ("died", "it was stopped: KeyboardInterrupt")
    ]
