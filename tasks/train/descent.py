"""Steps down a model's loss: the optimiser, long gradients, and batches that are too large.

A step is taken on the mean loss of all samples of one or more batches. Where they are not looked
at in one go, because `accumulate` asks for more than one batch or because memory ran out, the
gradients of the parts add up, each weighted with its share of the samples. For a loss that is a
plain mean that is the gradient of the whole, up to rounding; one that divides by the sum of its
own weights does so within each part.

Matrix products may be less precise than float32 (`precision`), as torch's autocast has them;
weights and what the optimiser keeps stay float32. Under float16 the loss is scaled up, as small
gradients would be 0 otherwise, and a step is left out where it was scaled too far. On one core
bfloat16 takes a fifth off a step of SASRec at width 64, a third at width 256.

torch.compile is not here: on one core it took 4 % off a step of SASRec (width 64), after a minute
and a half of compiling.

Where memory ran out, batches are cut in halves from then on, and the steps stay as large as they
were set: what is learnt stays the same, and only time is lost.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.contract import GradientConfig, GradientModel, SequenceModel
from tasks.errors import TrainingError
from tasks.train.feeds import Samples
from tasks.train.row_adam import RowAdam


class Passed(NamedTuple):
    """What samples that were looked at add up to, in float64."""

    n: int = 0
    loss: float = 0.0  # summed over the samples
    w: float = 0.0  # sum of their weights
    ww: float = 0.0  # sum of the squares

    def plus(self, other: "Passed") -> "Passed":
        """Both together."""
        n, loss, w, ww = other
        return Passed(self.n + n, self.loss + loss, self.w + w, self.ww + ww)


NOTHING = Passed()
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Descent:
    """The optimiser of one model, and in how many parts it can look at a batch."""

    def __init__(
        self,
        name: str,
        model: GradientModel | SequenceModel,
        config: GradientConfig,
        device: torch.device,
    ) -> None:
        self.name, self.model, self.config, self.device = name, model, config, device
        # a step costs by the rows in the batch, and Adam's by all rows
        sparse = isinstance(model, GradientModel) and model.sparse_gradients
        decay = model.decay if isinstance(model, GradientModel) else 0.0
        self.moves_all = bool(decay) or not sparse
        adam = partial(torch.optim.Adam, fused=True, weight_decay=decay)
        self.optimiser = (adam if self.moves_all else RowAdam)(
            model.parameters(), lr=config.learning_rate
        )
        self.whole: dict[nn.Parameter, Tensor] = {}  # room for gradients
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.n_parts = 1  # that each batch is cut in

    def step(self, batches: Sequence[Samples]) -> Passed:
        """One step on the mean loss of these batches.

        Raises:
            TrainingError: memory ran out on a single sample or sequence.
        """
        while (passed := self._look(batches)) is None:
            self._halve(batches)
        if self.config.max_grad_norm:
            self.scaler.unscale_(self.optimiser)
            clip(self.model.parameters(), self.config.max_grad_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return passed

    def _look(self, batches: Sequence[Samples]) -> Passed | None:
        """Gradients of the mean loss; None where memory ran out."""
        self.optimiser.zero_grad()
        passed, n = NOTHING, sum(batch.n for batch in batches)
        try:
            for batch in batches:
                for part in batch.cut(self.n_parts) if self.n_parts > 1 else [batch]:
                    passed = passed.plus(self._look_at(part, part.n / n))
        except (RuntimeError, MemoryError) as error:
            if not _ran_out_of_memory(error):
                raise
            return None
        return passed

    def _look_at(self, part: Samples, share: float) -> Passed:
        precision = self.config.precision
        with torch.autocast(self.device.type, _DTYPES[precision], enabled=precision != "float32"):
            found = part.loss()
        value = found.total.item()
        self.scaler.scale(found.total * share).backward()  # type: ignore[no-untyped-call]
        if self.moves_all:
            self._fill_up()
        return Passed(part.n, value * part.n, *_sums(found.weights, part.n))

    def _fill_up(self) -> None:
        """Sparse gradients as those of all rows, which the optimiser moves; more parts add to them.

        The same sums as torch makes of a lookup with dense gradients, and on one core in a third of
        the time: 1.1 ms in place of 3.0, forward and back, of 2,048 triples, 26,500 rows of 64.
        """
        for parameter in self.model.parameters():
            gradient = parameter.grad
            if gradient is not None and gradient.is_sparse:
                if parameter not in self.whole:
                    self.whole[parameter] = torch.empty_like(parameter)
                whole = self.whole[parameter].zero_()
                parameter.grad = whole.index_add_(0, gradient._indices()[0], gradient._values())

    def _halve(self, batches: Sequence[Samples]) -> None:
        self.optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        halved = 2 * self.n_parts
        before, after = (max(len(b.cut(n)) for b in batches) for n in (self.n_parts, halved))
        if after == before:
            raise TrainingError(
                f"out of memory, even with each batch cut in {before} parts",
                where=f"model {self.name!r} on {self.device}",
                unchanged="no model was saved",
                fix="make the model smaller, or set train.device to another device",
            )
        self.n_parts = halved

    def tensors(self) -> dict[str, Tensor]:
        """What the optimiser keeps, by names of its own."""
        return {name: value for name, value in self._kept() if isinstance(value, Tensor)}

    def numbers(self) -> dict[str, float]:
        """What it keeps that is no tensor."""
        return {name: value for name, value in self._kept() if not isinstance(value, Tensor)}

    def _kept(self) -> Iterable[tuple[str, Any]]:
        for index, kept in self.optimiser.state_dict()["state"].items():
            for key, value in kept.items():
                yield f"{index}.{key}", value
        for key, value in self.scaler.state_dict().items():
            yield f"scaler.{key}", value

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up what `tensors` and `numbers` gave, together."""
        state: dict[int, dict[str, Any]] = {}
        of_scaler = {}
        for name, value in kept.items():
            index, key = name.split(".", 1)
            if index == "scaler":
                of_scaler[key] = value
            else:
                state.setdefault(int(index), {})[key] = value
        self.scaler.load_state_dict(of_scaler)
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})


def clip(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale all gradients by one factor, so that together they are no longer than `most`.

    Returns the length before, over all parameters. Sparse gradients are summed row by row first:
    rows that occur several times must not count as if they were different ones.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad._values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    length = float(torch.stack([each.norm() for each in gradients]).norm()) if gradients else 0.0
    if length > most:
        for each in gradients:
            each.mul_(most / length)
    return length


def _ran_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """On a GPU, in NumPy, or in torch on a CPU, which has no class of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error)


def _sums(weights: Tensor | None, n: int) -> tuple[float, float]:
    """sum(w) and sum(w^2) of a batch, in float64."""
    if weights is None:
        return float(n), float(n)
    w = weights.detach().double()
    return w.sum().item(), w.square().sum().item()
