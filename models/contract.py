"""What a model must offer so that sampling, the loop, saving and top-K can drive it.

    Config              the knobs: frozen, with defaults, a dict and back
    └── GradientConfig  what every model trained by gradient needs
        └── SequenceConfig  what every model of sequences needs
    Recommender         an nn.Module that scores users against all items: by the product of two
    │                   vectors, or where it has none (has_vectors = False) by scores(users)
    ├── ClosedFormModel solved in one step by fit(data)
    ├── GradientModel   trained batch by batch on loss(batch)
    └── SequenceModel   the same on sequences, which are also what it knows its users by

A model is one file with one config and one module, plus one line in `models.registry`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
OffsetArray = npt.NDArray[np.int64]


class ModelError(ValueError):
    """This model cannot be had from these settings and this data; the message says what can."""


class Loss(NamedTuple):
    """A scalar to differentiate, the named parts it is the sum of, and what each triple weighs.

    weights are as the loss has them before it normalises; None where each triple weighs the same.
    """

    total: Tensor
    parts: dict[str, Tensor]
    weights: Tensor | None = None  # [B], > 0


class Batch(NamedTuple):
    """B training triples: user u prefers positive i to negative j.

    propensity is that of the positive item, in (0, 1], or None when none was estimated.
    """

    users: Tensor  # [B] int64
    positives: Tensor  # [B] int64
    negatives: Tensor  # [B] int64
    weights: Tensor  # [B] float32, strength of the positive, > 0
    propensity: Tensor | None  # [B] float32


def inverse_propensity(batch: Batch, clip: float) -> Tensor:
    """1 / max(e, clip) of each positive, [B]: the one door by which propensities enter a loss.

    Raises:
        ValueError: the batch has no propensity.
    """
    if batch.propensity is None:
        raise ValueError("a weighted loss needs the propensity of each positive")
    return batch.propensity.clamp(min=clip).reciprocal()  # [B]


class Past(NamedTuple):
    """B sequences of what users did, oldest first, each padded at its end to T steps.

    Pads hold item 0. The strength of a step is the weight of the strongest behaviour that it was.
    """

    items: Tensor  # [B, T] int64
    sizes: Tensor  # [B] int64, real steps, 1 to T
    strengths: Tensor  # [B, T] float32, > 0; 0 at pads

    @property
    def is_real(self) -> Tensor:
        """Which are steps and not pads, [B, T] bool."""
        step = torch.arange(self.items.shape[1], device=self.sizes.device)
        return step < self.sizes.unsqueeze(-1)


class Steps(NamedTuple):
    """Sequences, and what came after each of their steps.

    After past.items[b, : t + 1] came the target of step t. Pads have no target; the N real steps
    are counted sequence by sequence.
    """

    past: Past
    places: Tensor  # [N] int64, b * T + t of each real step
    targets: Tensor  # [N] int64
    negatives: Tensor | None  # [N] int64, an item its user never had; None if not asked for


class Positives(Protocol):
    """The training data as arrays: one CSR row per user, item positions ascending."""

    @property
    def n_users(self) -> int:
        """Rows."""

    @property
    def n_items(self) -> int:
        """Columns."""

    @property
    def indptr(self) -> OffsetArray:
        """Where each row starts, [n_users + 1]."""

    @property
    def indices(self) -> IntArray:
        """Item of each positive, [nnz]."""

    @property
    def weights(self) -> FloatArray:
        """Strength of each positive, > 0, [nnz]."""

    @property
    def propensity(self) -> FloatArray | None:
        """In (0, 1], [n_items]."""


class Histories(Protocol):
    """What users did, oldest first: row u is items[indptr[u] : indptr[u + 1]]."""

    @property
    def n_items(self) -> int:
        """Items."""

    @property
    def indptr(self) -> OffsetArray:
        """Where each row starts, [n_users + 1]."""

    @property
    def items(self) -> IntArray:
        """Item of each step, [n_steps]."""

    @property
    def strengths(self) -> FloatArray:
        """Weight of the strongest behaviour of each step, > 0, [n_steps]."""


class Edges(NamedTuple):
    """m pairs of items of which the first seems to cause the second, strongest first."""

    causes: OffsetArray  # [m] by position
    effects: OffsetArray  # [m]
    strengths: FloatArray  # [m]
    supports: OffsetArray  # [m], times that the cause came first
    controls: FloatArray  # [m], the strength where each user's steps are shuffled


@runtime_checkable
class HasGraph(Protocol):
    """A model of sequences that says what causes what."""

    def edges(self, histories: Histories, most: int) -> Edges:
        """The strongest pairs of these histories, at most so many."""

    def effects(self, past: Past) -> Tensor:
        """What each step did to each later one, [B, T, T]."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all model configs: every field has a default and is a str, bool, int or float."""

    def __post_init__(self) -> None:
        """Subclasses raise ValueError for values that make no sense."""

    @property
    def uses_propensity(self) -> bool:
        """Whether these settings need an item propensity although the model can do without."""
        return False

    def to_dict(self) -> dict[str, object]:
        """Field names and values, fit for JSON and TOML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The inverse of `to_dict`; missing fields keep their default.

        Raises:
            ValueError: a field is unknown, of the wrong type or out of range.
        """
        types = {field.name: type(field.default) for field in fields(cls)}
        if unknown := sorted(values.keys() - types.keys()):
            raise ValueError(f"unknown fields {unknown}; {cls.__name__} has {sorted(types)}")
        return cls(**{name: _typed(name, value, types[name]) for name, value in values.items()})


def _typed(name: str, value: object, wanted: type) -> object:
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name} must be {wanted.__name__}, not {value!r}")
    return value


def require(ok: bool, rule: str) -> None:
    """Raise ValueError naming the rule a config breaks."""
    if not ok:
        raise ValueError(rule)


@dataclass(frozen=True, kw_only=True)
class GradientConfig(Config):
    """What every model trained by gradient needs; models add their own fields."""

    epochs: int = 100  # most passes over the positives
    batch_size: int = 8192  # triples a batch
    accumulate: int = 1  # batches a step: one step on the mean loss of all their samples
    learning_rate: float = 5e-3  # Adam's alpha, a step
    max_grad_norm: float = 0.0  # a longer gradient is scaled down to this length; 0: none is
    patience: int = 3  # epochs without a better holdout NDCG before stopping; 50 steps at least
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of matrix products

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs must be at least 1")
        require(self.batch_size >= 1, "batch_size must be at least 1")
        require(self.accumulate >= 1, "accumulate must be at least 1")
        require(self.learning_rate > 0, "learning_rate must be positive")
        require(0 <= self.max_grad_norm < math.inf, "max_grad_norm must be 0 or positive, finite")
        require(self.patience >= 1, "patience must be at least 1")
        require(
            self.precision in ("float32", "bfloat16", "float16"),
            'precision must be "float32", "bfloat16" or "float16"',
        )


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(GradientConfig):
    """What every model of sequences needs; models add their own fields."""

    batch_size: int = 128  # sequences a batch, on average: each predicts about as many items
    learning_rate: float = 1e-3  # Adam's alpha, a step
    length: int = 50  # n, last steps of a user that are looked at
    width: int = 64  # d, length of all vectors
    ema: float = 0.0  # decay of the moving average of the weights that is kept; 0: the last weights

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ema < 1, "ema must be from 0 to below 1")
        require(self.length >= 1, "length must be at least 1")
        require(self.width >= 1, "width must be at least 1")

    @property
    def wants_negatives(self) -> bool:
        """Whether the loss needs a sampled negative for each step."""
        return False


class Recommender(nn.Module, ABC):
    """A model that scores user u and item i as user_vectors()[u] @ item_vectors()[i].

    One whose users have no vector of moderate length says has_vectors = False and overrides
    `scores` in place of the vectors. Subclasses are built as `Model(config, n_users, n_items)`,
    draw their start from torch's global generator, and keep everything they learn in their state
    dict.
    """

    config_type: ClassVar[type[Config]]
    reads: ClassVar[tuple[str, ...]]  # tables
    needs_propensity: ClassVar[bool]  # cannot do without an item propensity
    behaviours: ClassVar[str]  # how kinds of behaviour enter
    serves_cold_users: ClassVar[bool]  # has a vector for users never seen in training
    serves_cold_items: ClassVar[bool]
    multiplies: ClassVar[bool] = False  # its loss has matrix products, which may be less precise
    # parameters with a row for each of: users; items; nodes, which are users and then items
    row_kinds: ClassVar[Mapping[str, Literal["users", "items", "nodes"]]] = {}
    has_vectors: ClassVar[bool] = True  # else only `scores`, and it serves nobody and nothing cold
    paper: ClassVar[str]
    assumes: ClassVar[str]  # the causal assumption, one sentence for the report

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        super().__init__()
        self.n_users = n_users
        self.n_items = n_items

    def user_vectors(self) -> FloatArray:
        """[n_users, d] float32, d the same as in `item_vectors`."""
        raise NotImplementedError(f"{type(self).__name__} has no vectors, only scores")

    def item_vectors(self) -> FloatArray:
        """[n_items, d] float32."""
        raise NotImplementedError(f"{type(self).__name__} has no vectors, only scores")

    def scores(self, users: OffsetArray) -> FloatArray:
        """Scores of a block of users, by position, for all items: [B, n_items] float32.

        What a user gets does not depend on who else is in the block, up to rounding.
        """
        scores: FloatArray = self.user_vectors()[users] @ self.item_vectors().T
        return scores

    def cold_user_vector(self) -> FloatArray | None:
        """[d] float32 for a user never seen in training; None unless serves_cold_users."""
        return None

    def cold_item_vector(self) -> FloatArray | None:
        """[d] float32 for an item never seen in training; None unless serves_cold_items."""
        return None


class ClosedFormModel(Recommender):
    """A model solved in one step."""

    @abstractmethod
    def fit(self, data: Positives) -> None:
        """Fill the state dict from the data."""


class GradientModel(Recommender):
    """A model trained batch by batch."""

    sparse_gradients: bool = False  # of few rows of each parameter, as sparse tensors
    # mu: a step adds mu w to the gradient of each parameter w, after `max_grad_norm`, as mu/2 |w|^2
    # in the loss would; the optimiser does it while it has w at hand. It then moves all rows.
    decay: float = 0.0

    def prepare(self, data: Positives) -> None:
        """Take from the training data what the loss needs beside batches; called once, first."""

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The loss of one batch, averaged over its triples."""


class SequenceModel(Recommender):
    """A model whose user vector is made from what the user did last, in order.

    The vectors are made once, when training is over, and are kept in the state dict: what a saved
    model knows of its users ends where the data it was trained on ends.
    """

    states: Tensor  # [n_users, d] float32, 0 for a user of whom nothing is known

    def __init__(self, config: SequenceConfig, n_users: int, n_items: int) -> None:
        super().__init__(config, n_users, n_items)
        self.register_buffer("states", torch.zeros(n_users, config.width))  # [n_users, d]

    def prepare(self, histories: Histories) -> None:
        """Take from the training data what the loss needs beside batches; called once, first."""

    @abstractmethod
    def loss(self, batch: Steps) -> Loss:
        """The loss of one batch, averaged over its steps."""

    @abstractmethod
    def last_states(self, past: Past) -> Tensor:
        """The user vectors of these sequences, [B, d]."""

    def user_vectors(self) -> FloatArray:
        """[n_users, d]: the state after the last step of each user."""
        return to_array(self.states)


def to_array(tensor: Tensor) -> FloatArray:
    """A float32 NumPy copy of a tensor on any device."""
    array: FloatArray = tensor.detach().to("cpu", torch.float32).numpy().copy()
    return array
