"""Train one model: seeds, early stopping, checkpoints, and the refusal of what diverged."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal, cast

import numpy as np
import pyarrow as pa
import torch

from models.contract import (
    ClosedFormModel,
    Config,
    GradientConfig,
    GradientModel,
    ModelError,
    Recommender,
    SequenceModel,
)
from models.registry import load
from tasks.errors import TrainingError, on_one_line
from tasks.estimate.ranking import ndcg
from tasks.train.arrays import Interactions
from tasks.train.checkpoints import Array, Checkpoint, Checkpoints, identity
from tasks.train.csr import BoolArray, Csr, OffsetArray
from tasks.train.feeds import Feed
from tasks.train.run import Course, GradientRun, Progress, refuse
from tasks.train.scoring import best_items
from tasks.train.warm import begin_at

Device = Literal["auto", "cpu", "cuda"]
NDCG_K = 20
_NOBODY = np.empty(0, dtype=np.int64)
MOST_EVALUATED = 10_000  # users; an epoch's evaluation must not cost more than the epoch
LEAST_CHOOSING = 200  # users of a holdout; what fewer find tells luck, not which epoch is best


@dataclass(frozen=True, eq=False)
class Holdout:
    """What NDCG@20 is measured on after each epoch. Rows and columns are the training positions.

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
    n_parts: tuple[int, ...] = ()  # that a batch was cut in at the end of each pass
    is_warm_start: bool = False  # began at weights of an earlier training
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
    checkpoints: Checkpoints | None = None,
    start: "Trained | None" = None,
    until: float | None = None,
) -> Trained:
    """Fit the model to the data; the same arguments on the same machine give the same bits.

    With a holdout, training stops after `config.patience` epochs without a better NDCG@20, and at
    least `LEAST_PATIENCE` steps without, and returns the best epoch's weights; epochs before the
    first that finds anything do not count, and where none does the last one's are returned. The
    NDCG is that of up to 10,000 users, evenly spaced among those with a relevant item. Where fewer
    than `LEAST_CHOOSING` have one, it is measured and chooses nothing: `config.epochs` passes are
    made, and the last one's weights are returned. A model that has hardly learnt finds an item for
    one user in a hundred, so among few the first epoch with a lucky one is hard to beat: of BPR's
    100 epochs on 1,500 users and 3,000 items 50 users chose the 12th (median of 60 draws), which
    has a third of the last one's NDCG; 100 users less than half of it, 200 users 65 %, 400 users 83
    %. With `epochs`, exactly so many passes are made and the last one's weights are returned.

    With `checkpoints`, a training that was killed goes on where its last checkpoint was written,
    and ends with the bits of one that was not killed; it is removed when the training has ended.
    With `start`, users and items that it knows begin where it ended, and not at random weights.
    Where memory runs out, batches are looked at in parts: see `descent.py`.
    No step is begun after `until` (of time.monotonic()); a model that is solved in one step has
    none to end between.

    Raises:
        OverrunError: the time was over; the checkpoint stays, for the next run to go on from.
        TrainingError: no such model, a bad config, no data, a missing propensity, nothing to
            compare (each user has every item), or a holdout in which nothing is relevant.
        DivergedError: the loss or the weights became NaN or infinite.
    """
    if device == "cuda" and not torch.cuda.is_available():
        refuse("device is 'cuda', and there is none", model_name, "set train.device to auto or cpu")
    kind, config = _resolve(model_name, config)
    refuse_precision(kind, config, resolved(device), model_name)
    _refuse_data(kind, config, data, model_name)
    rows = _NOBODY if holdout is None else _evaluated(holdout, data, model_name)
    with _reproducible(seed), _as_training_errors(model_name):
        model = kind(config, data.n_users, data.n_items)
        began = start is not None and begin_at(
            model, data.users, data.items, start.model, start.users, start.items
        )
        if isinstance(model, GradientModel):
            model.prepare(data)
        if isinstance(model, SequenceModel) and data.sequences is not None:
            model.prepare(data.sequences)
        if isinstance(model, GradientModel | SequenceModel):
            run = GradientRun(
                model_name, model, cast(GradientConfig, config), data, seed, resolved(device)
            )
            run.began_at_another, run.until = began, until
            run.chooses = len(rows) >= LEAST_CHOOSING
            if checkpoints is not None:
                run.keep(Checkpoint(checkpoints, _identity(run, holdout, epochs, checkpoints)))
            measure = None if holdout is None else partial(_ndcg, model, holdout, rows)
            return _trained(run, run.train(measure, progress, epochs))
        cast(ClosedFormModel, model.to(resolved(device))).fit(data)
    return Trained(model_name, config, model.to("cpu").eval(), data.users, data.items, seed, 0, 0)


def resolved(device: Device) -> torch.device:
    """The device that a setting means on this machine."""
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def reads_propensities(name: str, config: Mapping[str, object]) -> bool:
    """Whether a model so set weights with item propensities. Raises TrainingError as `train`."""
    kind, made = _resolve(name, config)
    return kind.needs_propensity or made.uses_propensity


def _resolve(name: str, config: Config | Mapping[str, object]) -> tuple[type[Recommender], Config]:
    try:
        kind = load(name)
        if not isinstance(config, Config):
            config = kind.config_type.from_dict(config)
    except ValueError as error:
        refuse(str(error), name, "correct the model's name or settings")
    if not isinstance(config, kind.config_type):
        refuse(f"the config is a {type(config).__name__}", name, "pass the model's own config")
    return kind, config


def refuse_precision(
    kind: type[Recommender], config: Config, device: torch.device, name: str
) -> None:
    """Raises TrainingError for a precision that the model or the device does not have."""
    precision = config.precision if isinstance(config, GradientConfig) else "float32"
    if precision == "float32":
        return
    fix = 'set its precision to "float32"'
    if not kind.multiplies:
        refuse(f"its loss has no matrix product: {precision} would change nothing", name, fix)
    if precision == "float16" and device.type == "cpu":
        refuse("precision float16 needs a GPU", name, 'set its precision to "bfloat16"')
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        refuse("this GPU has no bfloat16", name, 'set its precision to "float16"')


def _refuse_data(kind: type[Recommender], config: Config, data: Interactions, name: str) -> None:
    if not len(data.indices):
        refuse("there are no positives to train on", name, "look at the table of positives")
    if (kind.needs_propensity or config.uses_propensity) and data.propensity is None:
        refuse("the config needs propensities and there are none", name, "estimate them first")
    if issubclass(kind, SequenceModel) and data.sequences is None:
        refuse("the model needs sequences and there are none", name, "build them with the data")


def _evaluated(holdout: Holdout, data: Interactions, name: str) -> OffsetArray:
    if (holdout.relevant.n_rows, holdout.relevant.n_columns) != (data.n_users, data.n_items):
        refuse("the holdout is not over the training users and items", name, "rebuild it")
    rows = np.flatnonzero(holdout.relevant.sizes())
    if not len(rows):
        refuse("the holdout has no relevant item", name, "pass no holdout, or a longer one")
    return rows[:: -(-len(rows) // MOST_EVALUATED)]


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch and allow only deterministic kernels, for this block only."""
    was_strict, n_threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # not use_deterministic_algorithms: it does the same and imports a compiler, for two seconds
        torch.set_deterministic_debug_mode("error")
        # one thread: sums do not depend on the number of cores, and steps this small lose more
        # to waiting for each other than they win (4 to 10 times the CPU time on a busy machine)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)
            torch.set_deterministic_debug_mode(was_strict)


@contextmanager
def _as_training_errors(name: str) -> Iterator[None]:
    """What torch and numpy cannot do, such as find the memory, is an error of this model alone."""
    try:
        yield
    except ModelError as error:
        refuse(str(error), name, "change the model's settings, or leave it out of train.models")
    except (RuntimeError, MemoryError) as error:
        raise TrainingError(
            f"{type(error).__name__}: {on_one_line(error, 300)}",
            where=f"model {name!r}",
            unchanged="no model was saved",
            fix="if memory ran out, make the model or its batches smaller, or set another device",
        ) from error


def _ndcg(
    model: GradientModel | SequenceModel, holdout: Holdout, rows: OffsetArray, feed: Feed
) -> float:
    seen = None if holdout.seen is None else holdout.seen.take(rows)
    feed.settle(rows)
    lists = best_items(model, rows, NDCG_K, seen=seen, allowed=holdout.allowed)
    return float(ndcg(lists.items, holdout.relevant.take(rows), NDCG_K).mean())


def _trained(run: GradientRun, course: Course) -> Trained:
    return Trained(
        name=run.name,
        config=run.config,
        model=run.model.to("cpu").eval(),
        users=run.data.users,
        items=run.data.items,
        seed=run.seed,
        n_epochs=len(course.losses),
        best_epoch=course.best_epoch,
        losses=tuple(course.losses),
        ndcgs=tuple(course.ndcgs),
        ess_shares=tuple(course.ess_shares),
        n_parts=tuple(course.n_parts),
        is_warm_start=run.began_at_another,
        n_users_dropped=run.feed.n_users_dropped,
    )


def _identity(
    run: GradientRun, holdout: Holdout | None, epochs: int | None, plan: Checkpoints
) -> str:
    """Names all that decides the weights of this training."""
    facts = {
        "model": run.name,
        "config": run.config.to_dict(),
        "seed": run.seed,
        "device": run.device.type,
        "torch": torch.__version__,
        "epochs": epochs,
        "recipe": plan.recipe,
        "shape": [run.data.n_users, run.data.n_items],
    }
    return identity(facts, chain(_arrays(run.data, holdout), _first_weights(run)))


def _arrays(data: Interactions, holdout: Holdout | None) -> Iterator[Array | None]:
    yield from (data.indptr, data.indices, data.weights, data.propensity)
    sequences = data.sequences
    if sequences is None:
        yield from (None, None, None)
    else:
        yield from (sequences.indptr, sequences.items, sequences.strengths)
    for csr in (None, None) if holdout is None else (holdout.relevant, holdout.seen):
        yield from (None, None) if csr is None else (csr.indptr, csr.indices)
    yield None if holdout is None else holdout.allowed


def _first_weights(run: GradientRun) -> Iterator[Array]:
    """Nothing where seed and config decide them."""
    if run.began_at_another:
        for parameter in run.model.parameters():
            yield parameter.detach().cpu().numpy()
