"""Each planted misconfiguration is found, its fix names what mends it, and then nothing is left."""

import re
from pathlib import Path

import pytest

from tasks.train.loop import resolved
from tests.scenarios.nights import Place, with_seventh_day
from tests.tasks.doctor.plants import PLANTS, Plant, examined, room_of, sick

OWN_LANDING = ("path_without_a_date", "no_landing_folder", "file_of_the_future")


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_misconfiguration_is_found_and_its_fix_mends_it(
    plant: Plant, one_night: Place, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plant.name == "no_gpu" and resolved("auto").type == "cuda":
        pytest.skip("there is a GPU")
    root = tmp_path / "shop"
    place = (
        with_seventh_day(one_night, sample, root)
        if plant.name in OWN_LANDING
        else one_night.copy(root)
    )
    mend = plant.plant(place, monkeypatch)
    findings = sick(examined(place, [room_of(plant.check)]))
    found = [each for each in findings if each.check == plant.check]
    assert found, findings
    assert any(re.search(plant.fix, each.fix) for each in found), found
    assert all("\n" not in each.fix and each.fix for each in found)
    assert "hidden" not in str(found)  # a password
    mend(next(each.fix for each in found if re.search(plant.fix, each.fix)))
    assert sick(examined(place, [room_of(plant.check)])) == []
