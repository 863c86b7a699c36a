"""ops.models: which versions of models were kept, from what, and where the next may begin."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pyarrow as pa
import torch

from tasks.estimate.quality import Quality
from tasks.lake.tables import Lake, Pinned
from tasks.lake.warehouse import models_path
from tasks.records import TableVersion
from tasks.train import registry
from tasks.train.loop import Trained
from tasks.train.registry import SavedModel


@dataclass(frozen=True)
class Kept:
    """A model version, and what is to be said of it."""

    saved: SavedModel
    trained: Trained
    pins: Sequence[str]  # tables it was made from, as name@version
    qualities: Sequence[Quality]  # of the same model on the time split
    device: torch.device
    seconds: float  # that both trainings took
    began_at: str | None  # the model version it began at; None: at random weights


def note(lake: Lake, ds: date, release: str, kept: Kept) -> TableVersion:
    """Note that a release was made with this version; a rerun of the same takes its place."""
    row = _row(kept) | {"release_id": release, "ds": ds}

    def with_row(pinned: Pinned) -> pa.Table:
        old = lake.rows(pinned, {"ds": ds}).to_pylist()
        others = [r for r in old if (r["release_id"], r["model"]) != (release, row["model"])]
        rows = sorted([*others, row], key=lambda r: (r["release_id"], r["model"]))
        return pa.Table.from_pylist(rows, schema=lake.schema("ops.models"))

    return lake.rewrite("ops.models", {"ds": ds}, with_row)


def _row(kept: Kept) -> dict[str, object]:
    trained = kept.trained
    return {
        "model": kept.saved.model,
        "model_version": kept.saved.model_version,
        "config": json.dumps(trained.config.to_dict(), sort_keys=True),
        "seed": trained.seed,
        "recall": _on_time_split(kept.qualities, "recall"),
        "ndcg": _on_time_split(kept.qualities, "ndcg"),
        "n_users": len(trained.users),
        "n_items": len(trained.items),
        "n_epochs": trained.n_epochs,
        "n_parts": max(trained.n_parts, default=1),
        "is_warm_start": kept.began_at is not None,
        "began_at": kept.began_at,
        "pins": sorted(kept.pins),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": _name(kept.device),
        "seconds": round(kept.seconds, 3),
        "kept_at": datetime.now(UTC),
    }


def _on_time_split(qualities: Sequence[Quality], metric: str) -> float | None:
    wanted = ("time split", "users", metric, 20, "all")
    found = (
        each.value
        for each in qualities
        if (each.evaluation, each.average, each.metric, each.k, each.segment_kind) == wanted
    )
    return next(found, None)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def last_kept(lake: Lake, model: str, upto: date) -> SavedModel | None:
    """The last version that a night up to `upto` kept and that still lies in the lake."""
    pinned = lake.pin("ops.models")
    for day in sorted((day for day in pinned.days() if day <= upto), reverse=True):
        rows = lake.rows(pinned, {"ds": day}).to_pylist()
        for row in sorted(rows, key=lambda row: row["kept_at"], reverse=True):
            path = models_path(lake) / model / row["model_version"]
            if row["model"] == model and registry.is_whole(path):
                return SavedModel(path, model, row["model_version"])
    return None


def load_last(lake: Lake, model: str, upto: date) -> tuple[Trained, str] | None:
    """That model and its version. Raises TrainingError where it is damaged."""
    saved = last_kept(lake, model, upto)
    return None if saved is None else (registry.load(saved.path), saved.model_version)
