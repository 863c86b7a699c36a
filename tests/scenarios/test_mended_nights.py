"""What was wrong is mended, and the next run is as if it had never been wrong."""

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flows.nightly import nightly
from tasks.errors import QualityError, SettingsError, SourceError
from tests.scenarios.nights import Place, day, leave_out_what_only_reads, rows

SHIPPED = Path(__file__).parents[2] / "deployments" / "sources" / "sample_shop.toml"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_only_reads(monkeypatch)


@pytest.fixture
def checked_as_read(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_what_only_reads(monkeypatch, "clean.events", "ops.files", "ops.quarantine")


def files(place: Place, dataset: str, number: int) -> list[Path]:
    return sorted((place.landing / dataset / f"dt={day(number)}").iterdir())


def run_with(place: Place, mapping: Path, ds: date | None = None) -> Any:
    return nightly.fn(
        ds, settings=place.settings, mapping=str(mapping), landing=place.landing, lake=place.lake
    )


@pytest.mark.usefixtures("checked_as_read")
def test_a_broken_file_that_is_delivered_again(place: Place, two_nights: Place) -> None:
    path = files(place, "events", 6)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(QualityError, match="part-1"):
        place.run()
    path.write_bytes(whole)
    assert place.run().ending == "published"
    for name in ("clean.events", "features.behaviours_daily", "serve.recommendations"):
        ours, theirs = rows(place.lake, name), rows(two_nights.lake, name)
        assert [row[1:] for row in ours] == [row[1:] for row in theirs], name


@pytest.mark.usefixtures("checked_as_read")
def test_a_mapping_that_is_mended(place: Place, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text(SHIPPED.read_text())
    wrong.write_text(SHIPPED.read_text().replace('item_id = "item_id"', 'item_id = "thing"', 1))
    shutil.rmtree(place.lake)
    with pytest.raises((QualityError, SourceError)):
        run_with(place, wrong)
    assert run_with(place, right).ending == "published"
    assert place.ask("SELECT count(*) > 500 FROM clean.events") == [(True,)]


@pytest.mark.usefixtures("checked_as_read")
def test_a_unit_that_is_mended_leaves_nothing_at_the_wrong_dates(
    place: Place, tmp_path: Path
) -> None:
    """Read as microseconds, every event lies in January 1970."""
    other = place.copy(tmp_path / "other")
    for shop in (place, other):
        shutil.rmtree(shop.lake)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SHIPPED.read_text().replace('unit = "ms"', 'unit = "us"'))
    with pytest.raises(QualityError):
        run_with(place, wrong)
    place.run()
    other.run()
    for name in ("clean.events", "clean.impressions", "serve.recommendations"):
        assert rows(place.lake, name) == rows(other.lake, name), name


@pytest.mark.usefixtures("unchecked")
def test_a_catalogue_that_returns_to_what_it_was(place: Place) -> None:
    """Out of stock, in stock, and out of stock again with the very same file."""
    (first,), (middle,), (last,) = (files(place, "items", n) for n in (4, 5, 6))
    out = first.read_text().replace(",true,", ",false,", 30)
    first.write_text(out)
    last.write_text(out)
    shutil.rmtree(place.lake)
    for number in (4, 5, 6):
        place.run(day(number))
    assert place.ask(
        f"SELECT count(*) FROM serve.current INNER JOIN (SELECT item_id FROM clean.items "
        f"WHERE ds = '{day(6)}' AND NOT is_in_stock) USING (item_id)"
    ) == [(0,)]
    assert middle.exists()


def test_a_catalogue_of_nothing_but_a_header_stops_the_night(place: Place) -> None:
    for path in files(place, "items", 6):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(QualityError, match=r"clean\.items"):
        place.run()


@pytest.mark.usefixtures("unchecked")
def test_an_optional_source_that_vanished(place: Place, tmp_path: Path) -> None:
    mapping = tmp_path / "optional.toml"
    mapping.write_text(SHIPPED.read_text().replace("[items]\n", "[items]\noptional = true\n"))
    run_with(place, mapping, day(5))
    shutil.rmtree(place.landing / "items")
    with pytest.raises(SourceError, match="items has vanished"):
        run_with(place, mapping, day(6))


@pytest.mark.usefixtures("unchecked")
def test_another_k_and_back(place: Place) -> None:
    text = place.settings.read_text()
    for k in (5, 30, 5):
        place.settings.write_text(f"{text}[publish]\nk = {k}\n")
        assert place.run().ending == "published"
        longest = place.ask(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM serve.current GROUP BY user_id)"
        )
        assert longest == [(k,)]


def test_a_wrong_config_is_refused_before_the_night(place: Place) -> None:
    place.settings.write_text("[train.configs.bpr]\nepochs = 0\n")
    with pytest.raises(SettingsError, match="epochs"):
        place.run()
    place.settings.write_text('[train]\nmodels = ["popularity", "bpr", "magic"]\n')
    with pytest.raises(SettingsError, match="magic"):
        place.run()


@pytest.mark.usefixtures("unchecked")
def test_a_lake_in_a_folder_with_a_space(place: Place, tmp_path: Path) -> None:
    outcome = nightly.fn(
        settings=place.settings, landing=place.landing, lake=tmp_path / "my lake" / "a#é"
    )
    assert outcome.ending == "published"
    with pytest.raises(SettingsError, match=r"may not hold"):
        nightly.fn(settings=place.settings, landing=place.landing, lake=tmp_path / "a[b]")
