"""Trained models on disk: weights in safetensors, ids in Parquet, the rest in JSON.

    <root>/<name>/<model_version>/weights.safetensors
                                  config.json   name, config, how it was trained
                                  users.parquet, items.parquet   column id, by position

`model_version` is a hash of name, config, weights and ids: the same model has the same version,
and saving it again changes nothing. Nothing is pickled.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.registry import load as load_class
from tasks.errors import TrainingError
from tasks.lake.warehouse import MODEL_MARK
from tasks.places import Place, StorePath
from tasks.scratch import making, scratch
from tasks.train.loop import Trained

WEIGHTS, ABOUT = "weights.safetensors", MODEL_MARK
USERS, ITEMS = "users.parquet", "items.parquet"


@dataclass(frozen=True)
class SavedModel:
    """Where a model was saved and the name of what it is."""

    path: Place
    model: str
    model_version: str


def save(trained: Trained, root: Place) -> SavedModel:
    """Write the model under `root`; killed half way it leaves no version."""
    version = model_version(trained)
    folder = root / trained.name / version
    if not is_whole(folder):
        with making(folder, last=ABOUT) as beside:
            _write(trained, version, beside)
    return SavedModel(folder, trained.name, version)


def is_whole(folder: Place) -> bool:
    """Whether a version lies there, all of it: what tells of it comes last."""
    return (folder / ABOUT).exists()


def load(folder: Place) -> Trained:
    """Read a model that `save` wrote.

    Raises:
        TrainingError: a file is missing, unreadable or not the one that was saved.
    """
    if not isinstance(folder, StorePath):
        return _load(folder)
    with scratch("model") as copy:
        try:
            for path in folder.iterdir():
                path.fetch(copy / path.name)
        except FileNotFoundError as error:
            raise _damaged(folder, f"{type(error).__name__}: {error}") from error
        return _load(copy)


def _load(folder: Path) -> Trained:
    try:
        about = cast("dict[str, Any]", json.loads((folder / ABOUT).read_text()))
        trained = _read(about, folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from error
    # of the config as it was saved: the class may have got more fields since
    if _version(trained, about["config"]) != about["model_version"]:
        raise _damaged(folder, "its content does not have the version it was saved under")
    return trained


def model_version(trained: Trained) -> str:
    """16 hex digits that name the content: name, config, weights and ids."""
    return _version(trained, trained.config.to_dict())


def _version(trained: Trained, config: dict[str, object]) -> str:
    digest = hashlib.sha256()
    about = {"name": trained.name, "config": config}
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(_state(trained).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    for ids in (trained.users, trained.items):
        lengths, text = _flat(ids)
        digest.update(lengths)
        digest.update(text)
    return digest.hexdigest()[:16]


def _flat(ids: pa.Array) -> tuple[bytes, bytes]:
    """Byte lengths and bytes of all ids, whatever Arrow string type holds them."""
    plain = pa.concat_arrays([ids.cast(pa.large_binary())])
    if not len(plain):
        return b"", b""
    offsets = np.frombuffer(plain.buffers()[1], dtype=np.int64)
    offsets = offsets[plain.offset : plain.offset + len(plain) + 1]
    text = memoryview(plain.buffers()[2] or b"")[offsets[0] : offsets[-1]]
    return np.diff(offsets).tobytes(), bytes(text)


def _state(trained: Trained) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in trained.model.state_dict().items()}


def _write(trained: Trained, version: str, folder: Path) -> None:
    save_file(_state(trained), folder / WEIGHTS)
    for name, ids in ((USERS, trained.users), (ITEMS, trained.items)):
        pq.write_table(pa.table({"id": ids}), folder / name, compression="zstd")
    about = {
        "model": trained.name,
        "model_version": version,
        "config": trained.config.to_dict(),
        "seed": trained.seed,
        "n_epochs": trained.n_epochs,
        "best_epoch": trained.best_epoch,
        "losses": trained.losses,
        "ndcgs": trained.ndcgs,
        "ess_shares": trained.ess_shares,
        "n_parts": trained.n_parts,
        "is_warm_start": trained.is_warm_start,
        "n_users_dropped": trained.n_users_dropped,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")


def _read(about: dict[str, Any], folder: Path) -> Trained:
    kind = load_class(about["model"])
    config = kind.config_type.from_dict(about["config"])
    users, items = (pq.read_table(folder / name)["id"].combine_chunks() for name in (USERS, ITEMS))
    model = kind(config, len(users), len(items))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return Trained(
        name=about["model"],
        config=config,
        model=model.eval(),
        users=users,
        items=items,
        seed=about["seed"],
        n_epochs=about["n_epochs"],
        best_epoch=about["best_epoch"],
        losses=tuple(about["losses"]),
        ndcgs=tuple(about["ndcgs"]),
        ess_shares=tuple(about.get("ess_shares", ())),  # models saved before they were kept
        n_parts=tuple(about.get("n_parts", ())),
        is_warm_start=about.get("is_warm_start", False),
        n_users_dropped=about["n_users_dropped"],
    )


def _damaged(folder: Place, why: str) -> TrainingError:
    return TrainingError(
        f"the saved model cannot be used: {why}",
        where=str(folder),
        unchanged="nothing was changed on disk",
        fix="delete this folder and train again",
    )
