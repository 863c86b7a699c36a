"""Checkpoints of a training: what a killed one needs to go on and end as if it had not been.

    <folder>/.training-<identity>.safetensors   tensors; the rest as JSON in the file's own header

One file, so that tensors and JSON change in one rename. `identity` is a hash of all that decides
the weights (model, config, data, seed, device, versions), so that nobody else's checkpoint is ever
taken; a damaged one is ignored. Writing takes at most a fiftieth of the time: after one that took
two seconds the next waits for a hundred.
"""

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_PREFIX = ".training-"
_FORMAT = 1  # of the file; a change of what it holds is another identity
_ABANDONED = 7 * 86_400  # seconds after which nobody will come back for a checkpoint
_SHARE = 50  # of the time that passes, one part at most goes into checkpoints
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often; `recipe` names the code and settings, if they may change."""

    folder: Path
    seconds: float = 60.0  # between two, at least; 0: none is written by the clock
    steps: int = 0  # of the optimiser between two; 0: they do not count
    recipe: str = ""


class Saved(NamedTuple):
    """What a checkpoint holds."""

    tensors: dict[str, Tensor]  # on the CPU
    about: dict[str, Any]


def identity(facts: Mapping[str, object], arrays: Iterable[Array | None]) -> str:
    """16 hex digits that name all that decides the weights; facts are fit for JSON."""
    told = json.dumps({"format": _FORMAT, **facts}, sort_keys=True)
    digest = hashlib.sha256(told.encode())
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype} {array.shape}".encode())
        if array is not None and array.size:
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()[:16]


class Checkpoint:
    """The one checkpoint of one training."""

    def __init__(self, plan: Checkpoints, name: str) -> None:
        self.plan = plan
        self.path = plan.folder / f"{_PREFIX}{name}.safetensors"
        self.note = ""  # what became of the last one, if that is worth a word
        self._n_steps = 0
        self._due_at = time.monotonic() + plan.seconds

    def load(self) -> Saved | None:
        """The checkpoint, if there is a whole one."""
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.pop("crc") != _crc(tensors):
                raise ValueError("its content is not what was written")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            self.note = f"a damaged checkpoint was ignored: {error}"
            return None
        return Saved(tensors, about)

    def is_due(self) -> bool:
        """Asked after each step of the optimiser: whether to save now."""
        self._n_steps += 1
        if self.plan.steps and self._n_steps >= self.plan.steps:
            return True
        return bool(self.plan.seconds) and time.monotonic() >= self._due_at

    def save(self, tensors: dict[str, Tensor], about: Mapping[str, object]) -> None:
        """Take the place of the last one; one that cannot be written stays as it is."""
        began = time.monotonic()
        told = {"about": json.dumps({**about, "crc": _crc(tensors)})}
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            # a folder of its own: safetensors puts a file of no known name beside what it writes,
            # which stays there if this process is killed
            beside.mkdir(parents=True, exist_ok=True)
            save_file(tensors, beside / "whole", metadata=told)
            with (beside / "whole").open("rb") as handle:
                os.fsync(handle.fileno())
            (beside / "whole").replace(self.path)
        except (OSError, SafetensorError) as error:
            # the training is whole without; a full disk must not end it
            self.note = f"no checkpoint could be written: {error}"
        shutil.rmtree(beside, ignore_errors=True)
        now = time.monotonic()
        self._n_steps = 0
        self._due_at = now + max(self.plan.seconds, _SHARE * (now - began))

    def remove(self) -> None:
        """It is not needed any more, nor are those that nobody came back for."""
        for path in self.plan.folder.glob(f"{_PREFIX}*"):
            with suppress(OSError):  # another training may remove the same
                is_old = time.time() - path.stat().st_mtime > _ABANDONED
                if not is_old and not path.name.startswith(self.path.name):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _crc(tensors: Mapping[str, Tensor]) -> int:
    found = 0
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(name.encode(), found)
        if tensor.numel():
            values = tensor.detach().cpu().contiguous().numpy()
            found = zlib.crc32(values.reshape(-1).data.cast("B"), found)
    return found
