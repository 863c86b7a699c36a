"""ops.models, and which kept version a night may begin at."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch

from tasks.lake.tables import Lake
from tasks.lake.warehouse import models_path
from tasks.train import registry, versions
from tasks.train.loop import Trained, train
from tasks.train.registry import SavedModel
from tasks.train.versions import Kept
from tests.tasks.train.planted import arrays, rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(
        "bpr", {"n_factors": 4}, arrays(rows()[0], tmp_path_factory.mktemp("a")), seed=0, epochs=1
    )


def kept(saved: SavedModel, trained: Trained) -> Kept:
    return Kept(
        saved=saved,
        trained=trained,
        pins=["train.holdout@2", "train.examples@4"],
        qualities=[],
        device=torch.device("cpu"),
        seconds=1.23456,
        began_at=None,
    )


def test_a_rerun_takes_the_place_and_another_release_stands_beside(
    trained: Trained, tmp_path: Path
) -> None:
    lake, ds = Lake(tmp_path), date(2026, 1, 5)
    saved = registry.save(trained, models_path(lake))
    for release in ("r2", "r1", "r2"):
        versions.note(lake, ds, release, kept(saved, trained))
    versions.note(lake, ds, "r2", kept(replace(saved, model="ease"), trained))
    found = lake.rows(lake.pin("ops.models"), {"ds": ds}).to_pylist()
    assert [(row["release_id"], row["model"]) for row in found] == [
        ("r1", "bpr"),
        ("r2", "bpr"),
        ("r2", "ease"),
    ]
    assert found[0]["model_version"] == saved.model_version
    assert found[0]["pins"] == ["train.examples@4", "train.holdout@2"]
    assert (found[0]["n_users"], found[0]["n_epochs"], found[0]["device"]) == (80, 1, "cpu")
    assert '"n_factors": 4' in found[0]["config"]


def test_the_last_kept_is_of_that_model_not_later_and_still_there(
    trained: Trained, tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    real = registry.save(trained, models_path(lake))
    gone = replace(real, model_version="gone")
    for number, saved in ((3, real), (5, gone), (8, real)):
        versions.note(lake, date(2026, 1, number), f"r{number}", kept(saved, trained))
    versions.note(lake, date(2026, 1, 1), "r1", kept(replace(real, model="ease"), trained))
    assert versions.last_kept(lake, "bpr", date(2026, 1, 7)) == real  # of the third
    assert versions.last_kept(lake, "bpr", date(2026, 1, 2)) is None
    assert versions.last_kept(lake, "ease", date(2026, 1, 9)) is None
    loaded = versions.load_last(lake, "bpr", date(2026, 1, 9))
    assert loaded is not None
    assert loaded[1] == real.model_version
