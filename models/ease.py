"""EASE: a linear model from a user's row to scores of all items, solved in closed form.

    min_B |X - X B|_F^2 + lambda |B|_F^2   subject to diag(B) = 0           (equations 2 and 3)
    P = (X^T X + lambda I)^-1,   B = I - P diag(1 / diag(P))                (equations 7 and 8)
    scores of u = X_u B

H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019. X_ui = c_ui^alpha, c_ui
the summed weight of what u did with i: alpha = 0 is the paper's binary X, alpha > 0 is our
addition. Computed in float32 by a Cholesky factor: lambda bounds the condition number.

Memory is that of dense n_items x n_items matrices: 4 n_items^2 bytes for B, three times that
while it is solved. The saved model holds B and X.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from models.contract import (
    ClosedFormModel,
    Config,
    FloatArray,
    ModelError,
    OffsetArray,
    Positives,
    require,
    to_array,
)
from models.kept import KeptPositives

_BLOCK_BYTES = 64 << 20  # of a dense block of X


@dataclass(frozen=True, kw_only=True)
class EASEConfig(Config):
    """EASE's knobs, with the paper's symbols."""

    regularisation: float = 300.0  # lambda, in the units of X^T X
    strength_power: float = 0.0  # alpha, exponent of a positive's weight; 0 is the paper
    max_items: int = 15_000  # more are refused: B takes 0.9 GB then, solving it 2.7

    def __post_init__(self) -> None:
        require(self.regularisation > 0, "regularisation must be positive")
        require(self.strength_power >= 0, "strength_power must not be negative")
        require(self.max_items >= 1, "max_items must be at least 1")


class EASE(ClosedFormModel):
    """Item-to-item weights B; a user is the row of what was known in training."""

    config_type: ClassVar[type[Config]] = EASEConfig
    reads: ClassVar[tuple[str, ...]] = ("train.examples",)
    needs_propensity: ClassVar[bool] = False
    behaviours: ClassVar[str] = "summed weight per user and item, to the power alpha"
    serves_cold_users: ClassVar[bool] = False
    serves_cold_items: ClassVar[bool] = False
    has_vectors: ClassVar[bool] = False
    paper: ClassVar[str] = "Steck, WWW 2019"
    assumes: ClassVar[str] = (
        "None that would make it causal: what was shown together is taken together."
    )

    b: Tensor

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        super().__init__(config, n_users, n_items)
        if not isinstance(config, EASEConfig):
            raise TypeError(f"EASE needs an EASEConfig, not {type(config).__name__}")
        if n_items > config.max_items:
            raise ModelError(
                f"EASE has a limit of {config.max_items:,} items, and {n_items:,} would take "
                f"{12 * n_items**2 / 1e9:.1f} GB to solve: raise max_items or train another model"
            )
        self.config = config
        self.register_buffer("b", torch.zeros(n_items, n_items))  # [I, I]
        self.x = KeptPositives(n_users)

    def fit(self, data: Positives) -> None:
        """Solve for B.

        Raises:
            ModelError: lambda is too small for float32.
        """
        self.x.keep(data)
        g = self._gram()  # [I, I]
        g.diagonal().add_(self.config.regularisation)
        factor, failed = torch.linalg.cholesky_ex(g)  # [I, I]
        del g
        if failed.item():
            raise ModelError("EASE cannot be solved in float32: raise regularisation")
        p = torch.cholesky_inverse(factor)  # [I, I]
        del factor
        p /= -p.diagonal().clone()  # column j by -P_jj
        self.b = p.fill_diagonal_(0.0)

    def _gram(self) -> Tensor:
        """X^T X, in blocks of columns: nnz x I additions, in the same order every time."""
        starts, entries = self.x.by_item(self.n_items)
        users, values = self.x.users(), self._values()
        gram = self.b.new_empty(self.n_items, self.n_items)  # [I, I]
        width = max(_BLOCK_BYTES // (4 * self.n_users), 1)
        for first in range(0, self.n_items, width):
            last = min(first + width, self.n_items)
            inside = (self.x.indices >= first) & (self.x.indices < last)  # [nnz]
            block = self.b.new_zeros(self.n_users, last - first)  # [U, w]
            block[users[inside], self.x.indices[inside].long() - first] = values[inside]
            gram[:, first:last] = _sums(block, users[entries], starts, values[entries])
        return gram

    def _values(self) -> Tensor:
        return self.x.weights.pow(self.config.strength_power)  # [nnz]

    def scores(self, users: OffsetArray) -> FloatArray:
        """X_u B for each of B users, [B, n_items]."""
        rows = torch.as_tensor(users, device=self.b.device)  # [B]
        sizes = self.x.sizes()[rows]  # [B]
        starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])  # [B + 1]
        shift = torch.repeat_interleave(self.x.indptr[rows] - starts[:-1], sizes)  # [n]
        entries = shift + torch.arange(len(shift), device=shift.device)  # [n]
        items = self.x.indices[entries].long()  # [n]
        return to_array(_sums(self.b, items, starts, self._values()[entries]))  # [B, I]


def _sums(rows: Tensor, index: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """sum_m weights_m rows[index_m] of each bag starts_n <= m < starts_n+1, in that order."""
    return embedding_bag(
        index, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
