"""The order of degrading, rung by rung, in real nights of a small shop.

A model whose time is over is dropped; the cold model stands in; yesterday stays; popularity, where
nothing is served yet. And another run of the night makes the whole release.
"""

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import OverrunError, TrainingError
from tasks.shop import Shop, open_shop
from tasks.status import status
from tasks.train import registry
from tests.scenarios.nights import Place, day, found, leave_out_what_only_reads, rows

HASTE = "[train]\nmax_minutes = 0.00001\n"  # less than a step
ALONE = f'{HASTE}models = ["bpr"]\n[publish]\ncold_model = "bpr"\n'
STAND_IN = (
    '[train]\nmodels = ["bpr", "lightgcn"]\n[publish]\nmodel = "lightgcn"\ncold_model = "bpr"\n'
)
AT_ONCE = "[night]\ndeadline_minutes = 0.00001\n"


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_only_reads(monkeypatch)


@pytest.fixture
def first(sample: Path, tmp_path: Path) -> Place:
    """A shop of four days that has not run a night."""
    return found(Place(tmp_path / "first"), 0, 4, sample)


def add(place: Place, lines: str) -> str:
    """Add lines to the settings; returns the text before."""
    text = place.settings.read_text()
    place.settings.write_text(text + lines)
    return text


def opened(place: Place) -> Shop:
    return open_shop(place.settings, None, place.landing, place.lake)


def served(place: Place) -> list[Any]:
    return place.ask("SELECT DISTINCT ds, release_id, model, source FROM serve.current ORDER BY 3")


def checkpoints(place: Place) -> list[Path]:
    return list((place.lake / "models" / "bpr").glob(".training-*"))


def test_a_model_over_its_budget_is_dropped_and_another_run_makes_the_whole_release(
    place: Place, two_nights: Place
) -> None:
    undisturbed = {row[0] for row in two_nights.ask("SELECT release_id FROM serve.publications")}
    before = add(place, HASTE)
    outcome = place.run()
    assert (outcome.ending, outcome.ds) == ("published", day(6))
    assert "bpr was not trained: its time was over in epoch 1 of at most 4" in outcome.reason
    assert outcome.release_id not in undisturbed
    (current,) = served(place)
    assert current == (day(6), outcome.release_id, "popularity", "fallback")
    assert checkpoints(place)
    (cause,) = [c for c in _serving(place).causes if c.kind == "model dropped"]
    assert "bpr" in cause.what
    kept = place.ask(f"SELECT model FROM ops.models WHERE release_id = '{outcome.release_id}'")
    assert kept == [("popularity",)]

    # the same budget again: nothing new is decided, and no release is made twice
    again = place.run()
    assert (again.release_id, again.is_old) == (outcome.release_id, True)

    place.settings.write_text(before)
    whole = place.run()
    assert (whole.ending, whole.is_old) == ("published", False)
    assert whole.release_id in undisturbed
    assert [row[1:] for row in served(place)] == [(whole.release_id, "bpr", "model")]
    for name in ("serve.recommendations", "serve.trials"):
        made, wanted = (
            [row for row in rows(each.lake, name) if whole.release_id in row]
            for each in (place, two_nights)
        )
        assert made == wanted
        assert made
    assert not checkpoints(place)
    assert place.run().is_old
    assert _serving(place).state == "fresh"


def _serving(place: Place) -> Any:
    serving = status(opened(place)).serving
    assert serving is not None
    return serving


def test_budgets_are_no_part_of_the_recipe(one_night: Place, tmp_path: Path) -> None:
    place = one_night.copy(tmp_path / "shop")
    before = opened(place).recipe
    add(place, "[train]\nmax_minutes = 60\n[night]\ndeadline_minutes = 60\n")
    assert opened(place).recipe == before
    assert place.run().is_old  # what was decided without them stands


def test_after_the_deadline_only_the_cold_model_is_trained(place: Place) -> None:
    add(place, AT_ONCE)
    outcome = place.run()
    assert outcome.ending == "published"
    assert "bpr was not trained: its time was over before it began" in outcome.reason
    assert [row[2:] for row in served(place)] == [("popularity", "fallback")]


def test_where_the_gate_does_not_let_the_cold_model_pass_yesterday_stays(place: Place) -> None:
    place.refresh()
    yesterday = served(place)
    # the stand-in has learnt nothing: its lists are those of its first, random weights
    unlearnt = "epochs = 1\nlearning_rate = 1e-12\n"
    gate = 'margin = 0.01\nestimator = "time_split"\nconfidence = 0.51\n'
    text = place.settings.read_text().replace("epochs = 4\n", unlearnt)
    place.settings.write_text(text.replace("margin = 0.99\n", gate) + STAND_IN + AT_ONCE)
    outcome = place.run()
    assert outcome.ending == "held", outcome.reason
    assert "lightgcn was not trained" in outcome.reason
    assert f"{day(5)} stays served" in outcome.reason
    place.refresh()
    assert served(place) == yesterday
    found = status(opened(place))
    assert "held" in {problem.kind for problem in found.problems}


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept of bpr holds no numbers."""
    whole = registry.load

    def load(path: Any) -> Any:
        found = whole(path)
        if found.name == "bpr":
            for each in found.model.parameters():
                each.data.fill_(float("nan"))
        return found

    monkeypatch.setattr(registry, "load", load)


@pytest.mark.usefixtures("spoilt")
def test_a_model_whose_lists_cannot_be_made_is_stood_in_for(place: Place) -> None:
    outcome = place.run()
    assert outcome.ending == "published", outcome.reason
    assert "bpr was trained, and has no lists: vectors hold NaN" in outcome.reason
    assert [row[2:] for row in served(place)] == [("popularity", "fallback")]
    stages = place.ask("SELECT stage, state FROM ops.stages WHERE ds = '2026-01-11'")
    assert ("score bpr", "failed") in stages


@pytest.mark.usefixtures("spoilt")
def test_a_first_night_whose_only_model_has_no_lists_lists_what_is_popular(first: Place) -> None:
    add(first, ALONE.removeprefix(HASTE).replace("models", "[train]\nmodels"))
    outcome = first.run()
    assert outcome.ending == "published"
    assert "bpr was trained, and has no lists" in outcome.reason
    assert [row[2:] for row in served(first)] == [("popularity", "fallback")]


def test_where_no_model_is_left_yesterday_stays(place: Place) -> None:
    place.refresh()
    yesterday = served(place)
    add(place, ALONE)
    with pytest.raises(TrainingError, match="no model that may be published"):
        place.run()
    place.refresh()
    assert served(place) == yesterday
    (reason,) = place.ask("SELECT reason FROM ops.nights WHERE ds = '2026-01-11'")[0]
    assert "bpr was not trained: its time was over in epoch 1" in reason


def test_a_first_night_without_any_model_lists_what_is_popular(first: Place) -> None:
    add(first, ALONE)
    outcome = first.run()
    assert outcome.ending == "published"
    assert "bpr was not trained" in outcome.reason
    assert [row[2:] for row in served(first)] == [("popularity", "fallback")]


def test_what_is_over_its_time_is_an_error_of_training() -> None:
    assert issubclass(OverrunError, TrainingError)
