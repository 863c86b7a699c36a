"""Train one model: seeds, optimiser, early stopping, and the refusal of what diverged."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, NoReturn, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.contract import (
    ClosedFormModel,
    Config,
    GradientConfig,
    GradientModel,
    ModelError,
    Recommender,
    SequenceConfig,
    SequenceModel,
)
from models.registry import load
from tasks.errors import TrainingError, on_one_line
from tasks.estimate.ranking import ndcg
from tasks.train.arrays import Interactions
from tasks.train.csr import BoolArray, Csr, OffsetArray
from tasks.train.feeds import Feed, StepFeed, TripleFeed
from tasks.train.row_adam import RowAdam
from tasks.train.scoring import best_items

Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[int, int, float], None]
"""Called after each epoch with (epoch from 1, most epochs, mean loss)."""

NDCG_K = 20
MOST_EVALUATED = 10_000  # users; an epoch's evaluation must not cost more than the epoch


class DivergedError(TrainingError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True, eq=False)
class Holdout:
    """What early stopping measures NDCG@20 on. Rows and columns are the training positions.

    Set `seen` where the lists served later leave out what the user already has, `allowed`
    where only part of the catalogue may be listed.
    """

    relevant: Csr
    seen: Csr | None = None
    allowed: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A model that is ready to score, and how it got there."""

    name: str
    config: Config
    model: Recommender  # on the CPU, in eval mode
    users: pa.Array  # [n_users] string ids
    items: pa.Array  # [n_items] string ids
    seed: int
    n_epochs: int  # passes made; 0 for closed form
    best_epoch: int  # the pass whose weights these are; refit on all data with epochs=this
    losses: tuple[float, ...] = ()  # mean loss of each pass
    ndcgs: tuple[float, ...] = ()  # holdout NDCG@20 after each pass, if there was a holdout
    ess_shares: tuple[float, ...] = ()  # of each pass, ESS / n of its weights: 1 if all are equal
    n_users_dropped: int = 0  # users who have every item: they were not sampled


def train(
    model_name: str,
    config: Config | Mapping[str, object],
    data: Interactions,
    *,
    seed: int,
    device: Device = "auto",
    holdout: Holdout | None = None,
    progress: Progress | None = None,
    epochs: int | None = None,
) -> Trained:
    """Fit the model to the data; the same arguments on the same machine give the same bits.

    With a holdout, training stops after `config.patience` epochs without a better NDCG@20 and
    returns the best epoch's weights. The NDCG is that of up to 10,000 users, evenly spaced
    among those with a relevant item. With `epochs`, exactly so many passes are made and the
    last one's weights are returned.

    Raises:
        TrainingError: no such model, a bad config, no data, a missing propensity, nothing to
            compare (each user has every item), or a holdout in which nothing is relevant.
        DivergedError: the loss became NaN or infinite.
    """
    if device == "cuda" and not torch.cuda.is_available():
        _refuse(
            "device is 'cuda', and there is none", model_name, "set train.device to auto or cpu"
        )
    kind, config = _resolve(model_name, config)
    _refuse_data(kind, config, data, model_name)
    rows = None if holdout is None else _evaluated(holdout, data, model_name)
    with _reproducible(seed), _as_training_errors(model_name):
        model = kind(config, data.n_users, data.n_items)
        if isinstance(model, GradientModel):
            model.prepare(data)
        if isinstance(model, GradientModel | SequenceModel):
            run = _GradientRun(model_name, model, cast(GradientConfig, config), data, seed, device)
            return run.train(holdout, rows, progress, epochs)
        cast(ClosedFormModel, model.to(resolved(device))).fit(data)
    return Trained(model_name, config, model.to("cpu").eval(), data.users, data.items, seed, 0, 0)


def resolved(device: Device) -> torch.device:
    """The device that a setting means on this machine."""
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def _resolve(name: str, config: Config | Mapping[str, object]) -> tuple[type[Recommender], Config]:
    try:
        kind = load(name)
        if not isinstance(config, Config):
            config = kind.config_type.from_dict(config)
    except ValueError as error:
        _refuse(str(error), name, "correct the model's name or settings")
    if not isinstance(config, kind.config_type):
        _refuse(f"the config is a {type(config).__name__}", name, "pass the model's own config")
    return kind, config


def _refuse_data(kind: type[Recommender], config: Config, data: Interactions, name: str) -> None:
    if not len(data.indices):
        _refuse("there are no positives to train on", name, "look at the table of positives")
    if (kind.needs_propensity or config.uses_propensity) and data.propensity is None:
        _refuse("the config needs propensities and there are none", name, "estimate them first")
    if issubclass(kind, SequenceModel) and data.sequences is None:
        _refuse("the model needs sequences and there are none", name, "build them with the data")


def _refuse(what: str, name: str, fix: str) -> NoReturn:
    raise TrainingError(
        what, where=f"model {name!r}", unchanged="no model was saved", fix=fix
    ) from None


def _evaluated(holdout: Holdout, data: Interactions, name: str) -> OffsetArray:
    if (holdout.relevant.n_rows, holdout.relevant.n_columns) != (data.n_users, data.n_items):
        _refuse("the holdout is not over the training users and items", name, "rebuild it")
    rows = np.flatnonzero(holdout.relevant.sizes())
    if not len(rows):
        _refuse("the holdout has no relevant item", name, "pass no holdout, or a longer one")
    return rows[:: -(-len(rows) // MOST_EVALUATED)]


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch and allow only deterministic kernels, for this block only."""
    was_strict, n_threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        # one thread: sums do not depend on the number of cores, and steps this small lose more
        # to waiting for each other than they win (4 to 10 times the CPU time on a busy machine)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)
            torch.use_deterministic_algorithms(was_strict)


@contextmanager
def _as_training_errors(name: str) -> Iterator[None]:
    """What torch and numpy cannot do, such as find the memory, is an error of this model alone."""
    try:
        yield
    except ModelError as error:
        _refuse(str(error), name, "change the model's settings, or leave it out of train.models")
    except (RuntimeError, MemoryError) as error:
        raise TrainingError(
            f"{type(error).__name__}: {on_one_line(error, 300)}",
            where=f"model {name!r}",
            unchanged="no model was saved",
            fix="if memory ran out, make the model or its batches smaller, or set another device",
        ) from error


class _GradientRun:
    """One training by gradient: the model, its optimiser, and the curve so far."""

    def __init__(
        self,
        name: str,
        model: GradientModel | SequenceModel,
        config: GradientConfig,
        data: Interactions,
        seed: int,
        device: Device,
    ) -> None:
        self.name, self.config, self.data, self.seed = name, config, data, seed
        self.device = resolved(device)
        self.model = model.to(self.device)
        sparse = isinstance(model, GradientModel) and model.sparse_gradients
        adam = RowAdam if sparse else partial(torch.optim.Adam, fused=True)
        self.optimiser = adam(model.parameters(), lr=config.learning_rate)
        self.feed = self._feed()
        self.losses: list[float] = []
        self.ess_shares: list[float] = []
        self.ndcgs: list[float] = []

    def _feed(self) -> Feed:
        if isinstance(self.model, GradientModel):
            return TripleFeed(self.model, self.config, self.data, self.device)
        assert self.data.sequences is not None
        config = cast(SequenceConfig, self.config)
        return StepFeed(self.model, config, self.data.sequences, self.device)

    def train(
        self,
        holdout: Holdout | None,
        rows: OffsetArray | None,
        progress: Progress | None,
        epochs: int | None,
    ) -> Trained:
        if not self.feed.n_samples:
            _refuse(self._nothing(), self.name, "add items, or more days")
        n_epochs = epochs or self.config.epochs
        best_epoch, best = 0, self._weights()
        for epoch in range(1, n_epochs + 1):
            loss, ess_share = self._epoch(epoch)
            self.losses.append(loss)
            self.ess_shares.append(ess_share)
            if progress is not None:
                progress(epoch, n_epochs, self.losses[-1])
            if holdout is None or rows is None:
                continue
            self.ndcgs.append(self._ndcg(holdout, rows))
            if self.ndcgs[-1] > max(self.ndcgs[:-1], default=-1.0):
                best_epoch, best = epoch, self._weights()
            elif epochs is None and epoch - best_epoch >= self.config.patience:
                break
        if epochs is None and self.ndcgs:
            self.model.load_state_dict(best)
        else:
            best_epoch = len(self.losses)
        return self._trained(best_epoch)

    def _nothing(self) -> str:
        if isinstance(self.model, SequenceModel) and not self.feed.n_users_dropped:
            return "no user has two steps, one after another: nothing to predict"
        return "each user has every item: nothing to compare"

    def _epoch(self, epoch: int) -> tuple[float, float]:
        """One pass: its mean loss, and the effective sample size of its weights over its samples.

        ESS = sum(w)^2 / sum(w^2) (L. Kish, "Survey Sampling", 1965).
        """
        self.model.train()
        total, w, ww = 0.0, 0.0, 0.0
        for found, n in self.feed.losses(seed=self.seed, epoch=epoch):
            loss, value = found.total, found.total.item()
            if not math.isfinite(value):
                self._diverged(epoch, value)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total += value * n
            of_batch = _sums(found.weights, n)
            w, ww = w + of_batch[0], ww + of_batch[1]
        n_samples = self.feed.n_samples
        return total / n_samples, w * w / ww / n_samples

    def _diverged(self, epoch: int, value: float) -> NoReturn:
        raise DivergedError(
            f"the loss became {value} in epoch {epoch}",
            where=f"model {self.name!r}, config {self.config.to_dict()}",
            unchanged="no model was saved",
            fix="lower learning_rate, or raise regularisation or propensity_clip",
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _ndcg(self, holdout: Holdout, rows: OffsetArray) -> float:
        self.model.eval()
        seen = None if holdout.seen is None else holdout.seen.take(rows)
        self.feed.settle(rows)
        lists = best_items(self.model, rows, NDCG_K, seen=seen, allowed=holdout.allowed)
        return float(ndcg(lists.items, holdout.relevant.take(rows), NDCG_K).mean())

    def _trained(self, best_epoch: int) -> Trained:
        self.feed.settle()
        return Trained(
            name=self.name,
            config=self.config,
            model=self.model.to("cpu").eval(),
            users=self.data.users,
            items=self.data.items,
            seed=self.seed,
            n_epochs=len(self.losses),
            best_epoch=best_epoch,
            losses=tuple(self.losses),
            ndcgs=tuple(self.ndcgs),
            ess_shares=tuple(self.ess_shares),
            n_users_dropped=self.feed.n_users_dropped,
        )


def _sums(weights: Tensor | None, n: int) -> tuple[float, float]:
    """sum(w) and sum(w^2) of a batch, in float64."""
    if weights is None:
        return float(n), float(n)
    w = weights.detach().double()
    return w.sum().item(), w.square().sum().item()
