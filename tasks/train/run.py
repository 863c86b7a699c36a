"""One training by gradient: epochs, early stopping, and all that a checkpoint must hold."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from models.contract import GradientConfig, GradientModel, SequenceConfig, SequenceModel
from tasks.errors import OverrunError, TrainingError
from tasks.train.arrays import Interactions
from tasks.train.averages import MovingMean
from tasks.train.checkpoints import Checkpoint, Saved
from tasks.train.descent import NOTHING, Descent, Passed
from tasks.train.feeds import Feed, Samples, StepFeed, TripleFeed

LEAST_PATIENCE = 50  # steps of the optimiser: an epoch of a small shop is few, and tells little
Measure = Callable[[Feed], float]
"""NDCG on the holdout; the feed lets the model settle what it needs for it."""


class DivergedError(TrainingError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class Step:
    """Where a training stands after a step of the optimiser."""

    epoch: int  # the first is 1
    n_epochs: int  # at most
    n_done: int  # samples of this epoch
    n_samples: int  # of an epoch
    loss: float  # mean of this epoch so far
    note: str  # what is out of the ordinary, if anything is

    @property
    def ends_epoch(self) -> bool:
        """Whether the epoch has no more samples."""
        return self.n_done == self.n_samples


Progress = Callable[[Step], None]
"""Called after each step of the optimiser."""


@dataclass
class Course:
    """How far a training has come, but for its tensors: fit for JSON."""

    epoch: int = 1  # the one under way
    n_batches: int = 0  # of it that are done
    passed: Passed = NOTHING  # samples of it
    losses: list[float] = field(default_factory=list)
    ess_shares: list[float] = field(default_factory=list)
    ndcgs: list[float] = field(default_factory=list)
    n_parts: list[int] = field(default_factory=list)
    best_epoch: int = 0  # so far, as measured; 0: none found anything

    def end_epoch(self, n_samples: int, n_parts: int) -> None:
        """Note the mean loss of the epoch and the effective sample size of its weights.

        ESS = sum(w)^2 / sum(w^2) (L. Kish, "Survey Sampling", 1965).
        """
        self.losses.append(self.passed.loss / n_samples)
        self.ess_shares.append(self.passed.w * self.passed.w / self.passed.ww / n_samples)
        self.n_parts.append(n_parts)
        self.epoch, self.n_batches, self.passed = self.epoch + 1, 0, NOTHING

    @classmethod
    def read(cls, about: Mapping[str, Any]) -> "Course":
        """The inverse of `asdict`, after JSON."""
        return replace(cls(**about), passed=Passed(*about["passed"]))


class GradientRun:
    """One training by gradient: the model, its optimiser, and the curve so far."""

    def __init__(
        self,
        name: str,
        model: GradientModel | SequenceModel,
        config: GradientConfig,
        data: Interactions,
        seed: int,
        device: torch.device,
    ) -> None:
        self.name, self.config, self.data, self.seed = name, config, data, seed
        self.device = device
        self.model = model.to(self.device)
        self.descent = Descent(name, self.model, config, self.device)
        self.feed = self._feed()
        decay = config.ema if isinstance(config, SequenceConfig) else 0.0
        self.mean = MovingMean(self.model, decay) if decay else None
        self.so_far = Course()
        self.best: dict[str, Tensor] = {}  # weights of the best epoch, on the device
        self.began_at_another = False  # at the weights of an earlier training
        self.chooses = True  # whether what is measured may end it, and choose the epoch
        self.checkpoint: Checkpoint | None = None
        self.until: float | None = None  # of time.monotonic(): no step is begun after it
        self.note = ""

    def _feed(self) -> Feed:
        if isinstance(self.model, GradientModel):
            return TripleFeed(self.model, self.config, self.data, self.device)
        assert self.data.sequences is not None
        config = cast(SequenceConfig, self.config)
        return StepFeed(self.model, config, self.data.sequences, self.device)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write checkpoints from now on, and go on from the last one if there is one."""
        self.checkpoint = checkpoint
        saved = self.checkpoint.load()
        if saved is not None:
            self._restore(saved)
            self.note = f"gone on from epoch {self.so_far.epoch}"

    def train(
        self, measure: Measure | None, progress: Progress | None, epochs: int | None
    ) -> Course:
        """All epochs, or up to the best; the model then holds what is to be kept."""
        chooses = self.chooses and epochs is None
        if not self.feed.n_samples:
            refuse(self._nothing(), self.name, "add items, or more days")
        so_far, n_epochs = self.so_far, epochs or self.config.epochs
        while so_far.epoch <= n_epochs:
            self._stop_if_over(n_epochs)
            n_steps = self._epoch(n_epochs, progress)
            if measure is None:
                continue
            with nullcontext() if self.mean is None else self.mean.in_place():
                self._measure(measure)
            # a model that finds nothing yet is at its beginning, however often it was measured
            n_worse = len(so_far.ndcgs) - so_far.best_epoch if so_far.best_epoch else 0
            if chooses and n_worse >= max(self.config.patience, LEAST_PATIENCE / n_steps):
                break
        if chooses and so_far.best_epoch:
            self.model.load_state_dict(self.best)
        else:
            so_far.best_epoch = len(so_far.losses)
            if self.mean is not None:
                self.mean.settle()
        self._finish()
        return so_far

    def _measure(self, measure: Measure) -> None:
        """Measure the weights that the model has, and keep them if they are the best that find."""
        self._refuse_strange_weights()
        self.model.eval()
        so_far = self.so_far
        so_far.ndcgs.append(measure(self.feed))
        if so_far.ndcgs[-1] > max(so_far.ndcgs[:-1], default=0.0):
            so_far.best_epoch, self.best = len(so_far.ndcgs), self._weights()

    def _finish(self) -> None:
        self._refuse_strange_weights()
        self.feed.settle()
        if self.checkpoint is not None:
            self.checkpoint.remove()

    def _nothing(self) -> str:
        if isinstance(self.model, SequenceModel) and not self.feed.n_users_dropped:
            return "no user has two steps, one after another: nothing to predict"
        return "each user has every item: nothing to compare"

    def _epoch(self, n_epochs: int, progress: Progress | None) -> int:
        """One pass, or what is left of it; steps of the whole."""
        self.model.train()
        so_far = self.so_far
        left = self.feed.batches(seed=self.seed, epoch=so_far.epoch, skip=so_far.n_batches)
        for batches in _grouped(left, self.config.accumulate):
            passed = self.descent.step(batches)
            if self.mean is not None:
                self.mean.follow()
            if not math.isfinite(passed.loss):
                self._diverged(so_far.epoch, f"the loss became {passed.loss / passed.n}")
            so_far.passed = so_far.passed.plus(passed)
            so_far.n_batches += len(batches)
            if self.checkpoint is not None and self.checkpoint.is_due():
                self.checkpoint.save(*self._saved())
            if progress is not None:
                progress(self._step(n_epochs))
            if so_far.passed.n < self.feed.n_samples:
                self._stop_if_over(n_epochs)
        n_steps = -(-so_far.n_batches // self.config.accumulate)
        so_far.end_epoch(self.feed.n_samples, self.descent.n_parts)
        return n_steps

    def _stop_if_over(self, n_epochs: int) -> None:
        """Between two steps: end here where the time is over, and keep what was done."""
        if self.until is None or time.monotonic() < self.until:
            return
        if self.checkpoint is not None:
            self.checkpoint.save(*self._saved())
        overran(f"in epoch {self.so_far.epoch} of at most {n_epochs}", self.name)

    def _step(self, n_epochs: int) -> Step:
        n, loss = self.so_far.passed.n, self.so_far.passed.loss
        return Step(
            self.so_far.epoch, n_epochs, n, self.feed.n_samples, loss / n, "; ".join(self._notes())
        )

    def _notes(self) -> Iterator[str]:
        if self.note:
            yield self.note
        if self.checkpoint is not None and self.checkpoint.note:
            yield self.checkpoint.note
        if self.descent.n_parts > 1:
            yield f"memory ran out: batches are cut in {self.descent.n_parts} parts"

    def _saved(self) -> Saved:
        """All that the rest of the training depends on."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"optimiser.{name}": each for name, each in self.descent.tensors().items()}
        mean = {} if self.mean is None else self.mean.mean
        tensors |= {f"mean.{name}": each for name, each in mean.items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        about = {
            "so_far": asdict(self.so_far),
            "n_parts": self.descent.n_parts,
            "optimiser": self.descent.numbers(),
            "n_averaged": 0 if self.mean is None else self.mean.n_steps,
        }
        return Saved(tensors, about)

    def _restore(self, saved: Saved) -> None:
        tensors, about = saved
        self.model.load_state_dict(_under("model.", tensors))
        best = _under("best.", tensors)
        self.best = {name: tensor.to(self.device) for name, tensor in best.items()}
        self.descent.restore({**_under("optimiser.", tensors), **about["optimiser"]})
        self.descent.n_parts = about["n_parts"]
        if self.mean is not None:
            self.mean.restore(_under("mean.", tensors), about["n_averaged"])
        self.so_far = Course.read(about["so_far"])
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)

    def _refuse_strange_weights(self) -> None:
        """The last step of an epoch has no loss after it that could tell."""
        if not all(bool(each.isfinite().all()) for each in self.model.parameters()):
            self._diverged(len(self.so_far.losses), "weights became NaN or infinite")

    def _diverged(self, epoch: int, what: str) -> NoReturn:
        if self.checkpoint is not None:
            self.checkpoint.remove()  # going on from it would end the same
        raise DivergedError(
            f"{what} in epoch {epoch}",
            where=f"model {self.name!r}, config {self.config.to_dict()}",
            unchanged="no model was saved",
            fix="lower learning_rate, set max_grad_norm, or raise regularisation or "
            "propensity_clip",
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def refuse(what: str, name: str, fix: str) -> NoReturn:
    """Say why a model cannot be trained."""
    raise TrainingError(
        what, where=f"model {name!r}", unchanged="no model was saved", fix=fix
    ) from None


def overran(when: str, name: str) -> NoReturn:
    """Say that a model's time was over."""
    raise OverrunError(
        f"its time was over {when}",
        where=f"model {name!r}",
        unchanged="no model was saved; a training by gradient keeps its checkpoint",
        fix="nightrank run goes on from there; or raise train.max_minutes, night.deadline_minutes",
    )


def _grouped(batches: Iterable[Samples], n: int) -> Iterator[list[Samples]]:
    """So many at a time; the last of them may be fewer."""
    left = iter(batches)
    while group := list(islice(left, n)):
        yield group


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
