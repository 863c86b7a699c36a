"""Nights that the gate judges: what it compares, holds and says, and a night that is forced."""

from typing import Any

import pytest

from flows.cli import main
from tests.scenarios.nights import Place, day, leave_out_what_only_reads


@pytest.fixture
def place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    leave_out_what_only_reads(monkeypatch)
    return place


def set_gate(place: Place, rule: str, value: float, model: str = "bpr") -> None:
    text = place.settings.read_text()
    held = "\n".join(
        f"{rule} = {value}" if line.startswith(rule) else line for line in text.splitlines()
    )
    place.settings.write_text(f'{held}\n[publish]\nmodel = "{model}"\n')


def publish(place: Place, *arguments: str) -> int:
    where = ("--settings", place.settings, "--landing", place.landing, "--lake", place.lake)
    return main(["publish", *arguments, *map(str, where)])


def decisions(place: Place) -> list[Any]:
    return place.ask("SELECT ds, action FROM serve.publications ORDER BY decided_at")


def test_the_first_night_says_that_nothing_is_served(one_night: Place) -> None:
    assert one_night.ask("SELECT rule, verdict, sentence FROM serve.verdicts") == [
        ("value", "not judged", "nothing is served to compare it with")
    ]
    assert one_night.ask("SELECT count(*) FROM serve.comparisons") == [(0,)]
    cuts = one_night.ask("SELECT DISTINCT model, cut FROM serve.trials ORDER BY model")
    assert cuts == [("bpr", day(2)), ("popularity", day(2))]


def test_every_model_is_compared_with_what_is_served(two_nights: Place) -> None:
    rows = two_nights.ask(
        "SELECT model, is_candidate, estimator, champion_model, cut FROM serve.comparisons "
        f"WHERE ds = '{day(6)}' AND segment_kind = 'all' ORDER BY ALL"
    )
    assert {row[2] for row in rows} == {"ips", "clipped_ips", "snips", "dr", "time_split"}
    assert {(row[0], row[1], row[3], row[4]) for row in rows} == {
        ("bpr", True, "bpr", day(3)),
        ("popularity", False, "bpr", day(3)),
    }
    verdicts = dict(
        two_nights.ask(f"SELECT rule, verdict FROM serve.verdicts WHERE ds = '{day(6)}'")
    )
    assert {"users", "rows", "coverage", "top item", "value"} <= set(verdicts)
    assert "hold" not in verdicts.values()


def test_trial_lists_know_nothing_after_the_cut(two_nights: Place) -> None:
    """No item first used after the cut stands in one, and none that its user had bought before."""
    assert two_nights.ask(
        "SELECT count(*) FROM serve.trials AS t INNER JOIN features.behaviours_daily AS b "
        "ON t.user_id = b.user_id AND t.item_id = b.item_id "
        "WHERE b.behaviour = 'purchase' AND b.ds <= t.cut"
    ) == [(0,)]
    known = "SELECT DISTINCT user_id FROM features.behaviours_daily AS b WHERE b.ds <= t.cut"
    assert two_nights.ask(
        f"SELECT count(*) FROM serve.trials AS t WHERE model = 'bpr' AND user_id NOT IN ({known})"
    ) == [(0,)]


def test_a_held_night_is_forced_once_with_its_reason(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    set_gate(place, "max_coverage_loss", 0.01, model="popularity")
    outcome = place.run()
    assert outcome.ending == "held"
    assert "more than 1% went missing" in outcome.reason
    assert f"{day(5)} stays served" in outcome.reason
    assert place.ask("SELECT DISTINCT ds FROM serve.current") == [(day(5),)]
    assert publish(place, "--force", "the range was cut on purpose") == 0
    assert place.ask("SELECT DISTINCT ds, model FROM serve.current") == [(day(6), "popularity")]
    assert "published by force" in capsys.readouterr().out
    assert publish(place, "--force", "again") == 0
    assert decisions(place) == [(day(5), "publish"), (day(6), "hold"), (day(6), "force")]
    assert place.ask("SELECT reason FROM serve.publications WHERE action = 'force'") == [
        ("the range was cut on purpose",)
    ]
    assert place.run().is_old


@pytest.mark.parametrize("arguments", [("--force", " "), ("--force", "why", "--ds", "2026-01-10")])
def test_what_cannot_be_forced_is_refused(place: Place, arguments: tuple[str, ...]) -> None:
    before = decisions(place)
    assert publish(place, *arguments) == 2
    assert decisions(place) == before


def test_a_release_that_was_held_may_take_the_place_of_another_of_its_night(place: Place) -> None:
    text = place.settings.read_text()
    set_gate(place, "max_coverage_loss", 0.01, model="popularity")
    assert place.run().ending == "held"
    place.settings.write_text(text)
    assert place.run().ending == "published"  # another recipe, another release of the same night
    assert publish(place, "--force", "the other one") == 0
    assert decisions(place)[-1] == (day(6), "force")
