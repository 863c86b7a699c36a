"""LightGCN: BPR on vectors that were smoothed over the graph of users and items.

    E^(k+1) = D^-1/2 A D^-1/2 E^(k),   A = [[0, R], [R^T, 0]]               (equation 8)
    F = 1 / (K + 1) sum_{k=0..K} E^(k)                                      (equations 4 and 8)
    score(u, i) = F_u . F_i                                                 (equation 6)
    L = sum_B w softplus(score(u, j) - score(u, i)) / sum_B w
      + lambda/2 mean_B (|E_u|^2 + |E_i|^2 + |E_j|^2)                       (equation 15)

X. He, K. Deng, X. Wang, Y. Li, Y. Zhang, M. Wang, "LightGCN: Simplifying and Powering Graph
Convolution Network for Recommendation", SIGIR 2020. E = E^(0) is all that is learned. R is binary;
the weight of a triple is w = c^alpha, c the summed weight of what u did with i: alpha = 0 is the
paper. The penalty is a mean over the batch, as in the authors' code.

A step propagates once forward and once backward (the operator is symmetric, so the gradient is
the same product), whatever the batch: large batches share its cost. The product is an embedding
bag, which adds each row's neighbours in their order: deterministic on every device, and several
times faster than the sparse product of torch on a CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, softplus

from models.contract import (
    Batch,
    Config,
    FloatArray,
    GradientConfig,
    GradientModel,
    Loss,
    Positives,
    require,
    to_array,
)
from models.kept import KeptPositives


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig(GradientConfig):
    """LightGCN's knobs, with the paper's symbols; defaults as tuned on Amazon Baby."""

    learning_rate: float = 0.01  # Adam's alpha, a step
    patience: int = 5
    n_factors: int = 64  # length of e_u and e_i
    n_layers: int = 4  # K
    regularisation: float = 0.01  # lambda, a triple
    init_scale: float = 0.01  # standard deviation of the first E
    strength_power: float = 1.0  # alpha, exponent of a positive's weight; 0 is the paper

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_factors >= 1, "n_factors must be at least 1")
        require(self.n_layers >= 0, "n_layers must not be negative")
        require(self.regularisation >= 0, "regularisation must not be negative")
        require(self.init_scale > 0, "init_scale must be positive")
        require(self.strength_power >= 0, "strength_power must not be negative")


class LightGCN(GradientModel):
    """Ego vectors of users, then items, and the graph that smooths them."""

    config_type: ClassVar[type[Config]] = LightGCNConfig
    reads: ClassVar[tuple[str, ...]] = ("train.examples",)
    needs_propensity: ClassVar[bool] = False
    behaviours: ClassVar[str] = "one graph of all positives; summed weight per pair, to alpha"
    serves_cold_users: ClassVar[bool] = False
    serves_cold_items: ClassVar[bool] = False
    row_kinds: ClassVar[Mapping[str, Literal["users", "items", "nodes"]]] = {"e": "nodes"}
    paper: ClassVar[str] = "He et al., SIGIR 2020"
    assumes: ClassVar[str] = (
        "None that would make it causal: neighbours in the graph are partly those shown together."
    )

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        super().__init__(config, n_users, n_items)
        if not isinstance(config, LightGCNConfig):
            raise TypeError(f"LightGCN needs a LightGCNConfig, not {type(config).__name__}")
        self.config = config
        first = torch.randn(n_users + n_items, config.n_factors) * config.init_scale
        self.e = nn.Parameter(first)  # [U + I, d]
        self.graph = KeptPositives(n_users)
        self._edges: tuple[Tensor, _Edges] | None = None  # and the graph.indices they are from

    def prepare(self, data: Positives) -> None:
        """Take the graph."""
        self.graph.keep(data)

    def loss(self, batch: Batch) -> Loss:
        """Loss of B triples."""
        offset = self.n_users
        nodes = torch.cat([batch.users, batch.positives + offset, batch.negatives + offset])  # [3B]
        f_u, f_i, f_j = self._smoothed().index_select(0, nodes).chunk(3)  # [B, d] each
        margin = (f_u * (f_i - f_j)).sum(1)  # [B]
        w = batch.weights.pow(self.config.strength_power)  # [B]
        bpr = (w * softplus(-margin)).sum() / w.sum()  # []
        # each node's square times how often it occurs: cheaper than gathering E once more
        n_times = torch.bincount(nodes, minlength=len(self.e))  # [U + I]
        squares = (self.e.square().sum(1) * n_times).sum() / len(margin)  # []
        l2 = self.config.regularisation / 2 * squares  # []
        return Loss(bpr + l2, {"bpr": bpr, "l2": l2}, weights=w)

    def _smoothed(self) -> Tensor:
        """F, the mean over the layers."""
        edges = self._graph()
        layer, total = self.e, self.e  # [U + I, d] each
        for _ in range(self.config.n_layers):
            layer = _Product.apply(layer, edges)  # type: ignore[no-untyped-call]
            total = total + layer
        return total / (self.config.n_layers + 1)  # [U + I, d]

    def _graph(self) -> "_Edges":
        # derived from the state, so not saved; made again where the graph was loaded or moved
        if self._edges is None or self._edges[0] is not self.graph.indices:
            self._edges = self.graph.indices, _edges(self.graph, self.n_items)
        return self._edges[1]

    @torch.no_grad()
    def user_vectors(self) -> FloatArray:
        """[n_users, d]: F_u."""
        return to_array(self._smoothed()[: self.n_users])

    @torch.no_grad()
    def item_vectors(self) -> FloatArray:
        """[n_items, d]: F_i."""
        return to_array(self._smoothed()[self.n_users :])


@dataclass(frozen=True, eq=False)
class _Edges:
    """D^-1/2 A D^-1/2 in compressed rows; a row without an edge is 0."""

    starts: Tensor  # [U + I + 1] int64
    index: Tensor  # [2 nnz] int64, the neighbour
    weights: Tensor  # [2 nnz] float32, 1 / sqrt(degree degree)


def _edges(graph: KeptPositives, n_items: int) -> _Edges:
    users, items = graph.users(), graph.indices.long()  # [nnz] each
    item_starts, entries = graph.by_item(n_items)
    of_user, of_item = graph.sizes(), item_starts.diff()  # [U], [I]
    weights = (of_user[users] * of_item[items]).to(torch.float32).rsqrt()  # [nnz]
    return _Edges(
        starts=torch.cat([graph.indptr, item_starts[1:] + len(items)]),
        index=torch.cat([items + len(of_user), users[entries]]),
        weights=torch.cat([weights, weights[entries]]),
    )


class _Product(torch.autograd.Function):
    """The symmetric operator of the graph, times vectors of all nodes [U + I, d]."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, edges: _Edges) -> Tensor:
        ctx.edges = edges
        return _times(edges, vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _times(ctx.edges, gradients[0].contiguous()), None


def _times(edges: _Edges, vectors: Tensor) -> Tensor:
    return embedding_bag(
        edges.index,
        vectors,
        edges.starts,
        mode="sum",
        per_sample_weights=edges.weights,
        include_last_offset=True,
    )
