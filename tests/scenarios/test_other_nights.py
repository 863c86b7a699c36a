"""Nights that go on although something is amiss, and nights out of order."""

from typing import Any

import pytest

from tasks.errors import TrainingError
from tasks.train import loop
from tests.scenarios.nights import Place, day, leave_out_what_only_reads


@pytest.fixture
def place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    leave_out_what_only_reads(monkeypatch)
    return place


def test_a_model_that_cannot_be_trained_is_stood_in_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.train

    def train(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "bpr":
            raise TrainingError("the loss is NaN", where="bpr", unchanged="nothing", fix="mend it")
        return real(name, *args, **kwargs)

    monkeypatch.setattr("tasks.train.night.train", train)
    outcome = place.run()
    assert outcome.ending == "published", outcome.reason
    assert "bpr was not trained: the loss is NaN" in outcome.reason
    assert place.ask("SELECT DISTINCT model, source FROM serve.current") == [
        ("popularity", "fallback")
    ]


def test_an_older_night_adds_a_release_and_moves_nothing_back(place: Place) -> None:
    assert place.run(day(6)).ending == "published"
    served = place.ask("SELECT * FROM serve.current ORDER BY user_id, rank")
    outcome = place.run(day(4))
    assert (outcome.ending, outcome.ds) == ("kept", day(4))
    assert place.ask("SELECT * FROM serve.current ORDER BY user_id, rank") == served
    releases = place.ask("SELECT ds, action FROM serve.publications ORDER BY ds")
    assert releases == [(day(4), "backfill"), (day(5), "publish"), (day(6), "publish")]


def test_a_night_run_late_equals_the_same_night_run_in_time(
    one_night: Place, two_nights: Place
) -> None:
    """Nothing that is dated after a night changes it, unless it arrived late for it."""
    columns = "user_id, item_id, behaviour, n_events"
    in_time = one_night.ask(
        f"SELECT {columns} FROM features.behaviours_daily WHERE ds = '2026-01-08' ORDER BY ALL"
    )
    late = two_nights.ask(
        f"SELECT {columns} FROM features.behaviours_daily WHERE ds = '2026-01-08' ORDER BY ALL"
    )
    arrived_late = two_nights.ask(
        "SELECT count(*) FROM clean.events "
        "WHERE ds = '2026-01-08' AND arrived_at > '2026-01-11 00:00:00+00'"
    )[0][0]
    assert abs(len(late) - len(in_time)) <= arrived_late


def test_a_cold_user_gets_the_popular_items(place: Place) -> None:
    path = sorted((place.landing / "events" / f"dt={day(6)}").iterdir())[0]
    import gzip

    with gzip.open(path, "at") as handle:
        handle.write(
            '{"event_id":"new-1","user_id":"u999999","item_id":"i00003","event":"view",'
            '"ts":1768100000000,"session_id":"s","device":"mobile"}\n'
        )
    place.run()
    rows = place.ask("SELECT DISTINCT model, source FROM serve.current WHERE user_id = 'u999999'")
    assert rows == [("popularity", "cold fill")]


def test_a_catalogue_smaller_than_k_gives_shortfalls_with_a_reason(place: Place) -> None:
    for path in (place.landing / "items" / f"dt={day(6)}").iterdir():
        path.write_text("\n".join(path.read_text().splitlines()[:13]) + "\n")
    text = place.settings.read_text()
    place.settings.write_text(text + "[publish]\nmax_shrink = 1.0\n")
    assert place.run().ending == "published"
    n_active, n_short = place.ask(
        "SELECT (SELECT count(*) FROM serve.active_users WHERE ds = '2026-01-11'), "
        "(SELECT count(*) FROM serve.shortfalls WHERE ds = '2026-01-11')"
    )[0]
    assert n_short == n_active
    assert place.ask(
        "SELECT count(*) FROM serve.shortfalls WHERE ds = '2026-01-11' AND reason LIKE "
        "'the catalogue has only % items to recommend'"
    ) == [(n_active,)]
