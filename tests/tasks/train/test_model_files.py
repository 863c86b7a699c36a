import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from models.bpr import BPRConfig
from tasks.errors import TrainingError
from tasks.train import registry
from tasks.train.arrays import Interactions
from tasks.train.loop import Trained, train
from tests.disk import on_disk
from tests.tasks.train.planted import data_and_holdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Interactions:
    return data_and_holdout(tmp_path_factory.mktemp("planted"))[0]


@pytest.fixture
def trained(data: Interactions) -> Trained:
    return train("bpr", {"n_factors": 4}, data, seed=0, epochs=2)


def test_a_model_comes_back_whole(trained: Trained, tmp_path: Path) -> None:
    saved = registry.save(trained, tmp_path)
    loaded = registry.load(saved.path)
    assert registry.model_version(loaded) == saved.model_version
    for field in (
        "name",
        "config",
        "seed",
        "n_epochs",
        "best_epoch",
        "losses",
        "ndcgs",
        "ess_shares",
    ):
        assert getattr(loaded, field) == getattr(trained, field)
    assert loaded.items.equals(trained.items)


def test_saving_twice_is_saving_once(trained: Trained, tmp_path: Path) -> None:
    first = registry.save(trained, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in on_disk(first.path).iterdir()}
    assert registry.save(trained, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in on_disk(first.path).iterdir()} == files
    assert [path.name for path in first.path.parent.iterdir()] == [first.model_version]


def test_the_version_names_weights_config_and_ids(trained: Trained) -> None:
    version = registry.model_version(trained)
    ids = pa.array(["zzz", *trained.items.to_pylist()[1:]])
    shifted = BPRConfig(n_factors=4, epochs=7)
    assert registry.model_version(replace(trained, items=ids)) != version
    assert registry.model_version(replace(trained, config=shifted)) != version
    same_ids = trained.items.cast(pa.string())
    assert registry.model_version(replace(trained, items=same_ids)) == version
    with torch.no_grad():
        next(trained.model.parameters())[0] += 1
    assert registry.model_version(trained) != version


def test_a_save_that_is_killed_leaves_no_version(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)  # the last file
        with pytest.raises(KeyboardInterrupt):
            registry.save(trained, tmp_path)
    assert list(tmp_path.glob("*/*")) == []
    registry.load(registry.save(trained, tmp_path).path)


def test_the_loser_of_a_race_keeps_the_winners_files(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, winner = registry._write, list[Path]()

    def overtaken(one: Trained, version: str, folder: Path) -> None:
        write(one, version, folder)
        if not winner:
            winner.append(folder)
            registry.save(one, tmp_path)

    monkeypatch.setattr(registry, "_write", overtaken)
    saved = registry.save(trained, tmp_path)
    assert [path.name for path in saved.path.parent.iterdir()] == [saved.model_version]
    registry.load(saved.path)


@pytest.mark.parametrize("name", [registry.WEIGHTS, registry.ABOUT, registry.USERS])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_model_is_refused(
    trained: Trained, tmp_path: Path, name: str, damage: str
) -> None:
    folder = registry.save(trained, tmp_path).path
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(TrainingError, match="the saved model cannot be used"):
        registry.load(folder)


def test_a_changed_config_is_refused(trained: Trained, tmp_path: Path) -> None:
    folder = registry.save(trained, tmp_path).path
    about = json.loads((folder / registry.ABOUT).read_text())
    about["config"]["regularisation"] = 0.5
    (folder / registry.ABOUT).write_text(json.dumps(about))
    with pytest.raises(TrainingError, match="not have the version it was saved under"):
        registry.load(folder)
