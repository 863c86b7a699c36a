"""The hours between nights: what has landed is ingested, and the night is the same."""

import shutil

import pytest

from flows.cli import main
from tasks import steps
from tasks.hours import look
from tasks.shop import open_shop
from tests.scenarios.nights import Place, contents, day, leave_out_what_only_reads


def test_an_hour_ingests_what_landed_and_the_night_is_the_same(
    place: Place, two_nights: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_only_reads(monkeypatch)
    shop = open_shop(place.settings, None, place.landing, place.lake)
    found = look(shop)
    assert found.night is not None
    assert steps.gather(found.night).ds == day(6)
    assert look(shop).night is None
    assert look(shop).waits_for == "nothing to ingest"
    assert place.ask("SELECT DISTINCT ds FROM serve.current") == [(day(5),)]
    assert place.run().ending == "published"
    served = "SELECT * FROM serve.current ORDER BY user_id, rank"
    assert place.ask(served) == two_nights.ask(served)
    for name in ("clean.events", "features.behaviours_daily", "serve.recommendations"):
        assert contents(place.lake)[name] == contents(two_nights.lake)[name]


def test_a_date_that_is_not_whole_is_waited_for(place: Place) -> None:
    shutil.rmtree(place.landing / "items" / f"dt={day(6)}")
    found = look(open_shop(place.settings, None, place.landing, place.lake))
    assert found.night is None
    assert found.waits_for == f"nothing to ingest: {day(6)} waits for items (0 of 1 files)"


def test_deploy_without_a_server_says_how_to_get_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    shop = ["--settings", str(place.settings), "--landing", str(place.landing)]
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["deploy", *shop]) == 1
    assert "nightrank up" in capsys.readouterr().err
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main(["deploy", *shop]) == 2
    assert "no Prefect server is named" in capsys.readouterr().err
