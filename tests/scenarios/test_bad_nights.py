"""Nights that must not be published: the reason is said, and yesterday stays served."""

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import (
    NightrankError,
    QualityError,
    SourceError,
    StorageError,
    TrainingError,
)
from tests.scenarios.nights import Place, day, leave_out_what_only_reads


@pytest.fixture
def place(place: Place) -> Iterator[Place]:
    place.refresh()
    before = served(place)
    yield place
    assert served(place) == before, "what was served must stay served"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_only_reads(monkeypatch)


def served(place: Place) -> list[Any]:
    return place.ask("SELECT * FROM serve.current ORDER BY user_id, rank")


def files(place: Place, dataset: str, number: int) -> list[Path]:
    return sorted((place.landing / dataset / f"dt={day(number)}").iterdir())


def empty(path: Path) -> None:
    with gzip.open(path, "wb") as handle:
        handle.write(b"")


def test_an_empty_day_stops_with_the_reason(place: Place) -> None:
    for path in files(place, "events", 6):
        empty(path)
    for number in range(7):  # late and repeated rows of the seventh day lie nowhere else
        assert files(place, "events", number)
    with pytest.raises(QualityError, match=r"clean\.events"):
        place.run()
    outcome, reason = place.ask("SELECT outcome, reason FROM ops.nights WHERE ds = '2026-01-11'")[0]
    assert outcome == "failed"
    assert "clean.events" in reason
    assert (place.lake / "reports" / f"{day(6)}.html").exists()


def test_a_day_that_is_not_whole_is_waited_for(place: Place) -> None:
    files(place, "events", 6)[0].unlink()
    outcome = place.run()
    assert (outcome.is_old, outcome.ds) == (True, day(5))
    assert "events (3 of 4 files)" in outcome.waiting[0]
    with pytest.raises(SourceError, match=r"events \(3 of 4 files\)"):
        place.run(day(6))


@pytest.mark.parametrize("dataset", ["events", "impressions", "items", "users"])
def test_a_source_that_vanished_is_named(place: Place, dataset: str) -> None:
    shutil.rmtree(place.landing / dataset)
    with pytest.raises(SourceError, match=f"no file of {dataset}"):
        place.run()


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("clean/events/_delta_log", r"cannot read clean\.events"),
        ("serve/publications/_delta_log", r"cannot read serve\.publications"),
        ("features/behaviours_daily/_delta_log", r"cannot read features\.behaviours_daily"),
        ("clean/users", r"clean\.users lost all rows"),
    ],
)
def test_a_table_that_was_lost_stops_the_night(place: Place, lost: str, told: str) -> None:
    shutil.rmtree(place.lake / lost)
    with pytest.raises(StorageError, match=told):
        place.run()


def test_a_catalogue_that_collapsed_is_not_published(place: Place) -> None:
    for path in files(place, "items", 6):
        path.write_text("\n".join(path.read_text().splitlines()[:20]) + "\n")
    with pytest.raises(QualityError, match="the catalogue has its usual size"):
        place.run()


@pytest.mark.usefixtures("unchecked")
def test_a_model_too_large_for_the_machine_is_noted(place: Place) -> None:
    place.settings.write_text(
        '[train]\nmodels = ["bpr"]\n[train.configs.bpr]\nn_factors = 2000000000\n'
        '[publish]\ncold_model = "bpr"\n'
    )
    with pytest.raises(TrainingError, match="memory"):
        place.run()
    assert place.ask("SELECT outcome FROM ops.nights WHERE ds = '2026-01-11'") == [("failed",)]


@pytest.mark.usefixtures("unchecked")
def test_a_defect_is_noted_as_the_end_of_the_night(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("tasks.steps.releases.build_release", broken)
    with pytest.raises(ZeroDivisionError):
        place.run()
    (reason,) = place.ask("SELECT reason FROM ops.nights WHERE ds = '2026-01-11'")[0]
    assert "a defect" in reason


def test_a_date_that_never_landed_is_named(place: Place) -> None:
    with pytest.raises(SourceError, match="2026-03-01"):
        place.run(day(55))


def test_a_file_that_cannot_be_decoded_stops_the_night(place: Place) -> None:
    path = files(place, "events", 6)[1]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(QualityError, match=r"ops\.files"):
        place.run()
    state, n_read, reason = place.ask(
        "SELECT state, n_read, reason FROM ops.files WHERE state = 'refused'"
    )[0]
    assert (state, n_read) == ("refused", 0)
    assert reason


@pytest.mark.usefixtures("unchecked")
def test_a_list_that_shrank_is_held(place: Place) -> None:
    keep_active = "[publish]\nmax_shrink = 0.0\n"
    place.settings.write_text(place.settings.read_text() + keep_active)
    mapping = place.root / "mapping.toml"
    shipped = Path("deployments/sources/sample_shop.toml").read_text()
    mapping.write_text(shipped.replace("active_days = 14", "active_days = 1"))
    from flows.nightly import nightly

    outcome = nightly.fn(
        settings=place.settings, mapping=str(mapping), landing=place.landing, lake=place.lake
    )
    assert outcome.ending == "held"
    assert "went missing" in outcome.reason
    again = nightly.fn(
        settings=place.settings, mapping=str(mapping), landing=place.landing, lake=place.lake
    )
    assert (again.ending, again.is_old) == ("held", True)


def test_an_empty_catalogue_publishes_nothing(place: Place) -> None:
    for path in files(place, "items", 6):
        header = path.read_text().splitlines()[0]
        path.write_text(header + "\n")
    with pytest.raises(NightrankError):
        place.run()


def test_everything_out_of_stock_publishes_nothing(place: Place) -> None:
    for path in files(place, "items", 6):
        path.write_text(path.read_text().replace(",true,", ",false,"))
    with pytest.raises(QualityError, match="in stock"):
        place.run()


@pytest.mark.usefixtures("unchecked")
def test_a_night_without_any_model_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingError("the loss is NaN", where="bpr", unchanged="nothing", fix="mend it")

    monkeypatch.setattr("tasks.train.night.train", diverge)
    with pytest.raises(TrainingError, match="no model that may be published"):
        place.run()
