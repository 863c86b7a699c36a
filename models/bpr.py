"""BPR-MF: matrix factorisation that ranks each positive above a sampled non-positive.

    score(u, i) = p_u . q_i + b_i
    L = sum_B w softplus(score(u, j) - score(u, i)) / sum_B w          (BPR-OPT, section 4.1)
      + lambda/2 mean_B (|p_u|^2 + |q_i|^2 + |q_j|^2 + b_i^2 + b_j^2)
      + mu/2 (|P|^2 + |Q|^2 + |b|^2)              (by the optimiser, not in the loss that is told)

S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme, "BPR: Bayesian Personalized
Ranking from Implicit Feedback", UAI 2009. One lambda for all factors, and Adam in place of
plain SGD, are our choices. So is mu: under Adam it draws most on what is seldom in a batch, and
finds more, sooner, than lambda does (Amazon Baby). It makes gradients dense, so that a step costs
by all users and items; without it a step costs by those in the batch.

The weight of a triple is w = c^alpha / e. c is the strength of the positive: the summed weight
of what u did with i; alpha = 0 is the paper, alpha > 0 is our addition for repeated and mixed
behaviour. e is 1 with weighting = "none" and max(e_i, clip) with "ips", e_i the propensity of
the positive item: the loss of Y. Saito, "Unbiased Pairwise Learning from Biased Implicit
Feedback", ICTIR 2020, over the pairs whose second item is no positive (its factor for the second
item is then 1), self-normalised over the batch as in A. Swaminathan, T. Joachims, "The
Self-Normalized Estimator for Counterfactual Learning", NIPS 2015. Honest limit: it removes
exposure bias only if e_i is the probability of exposure and exposure depends on nothing else
that drives the behaviour. With the popularity power law e_i = (n_i / max n)^eta it is popularity
reweighting, not an unbiased estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, softplus

from models.contract import (
    Batch,
    Config,
    FloatArray,
    GradientConfig,
    GradientModel,
    Loss,
    inverse_propensity,
    require,
    to_array,
)


@dataclass(frozen=True, kw_only=True)
class BPRConfig(GradientConfig):
    """BPR's knobs, with the paper's symbols."""

    n_factors: int = 64  # k, length of p_u and q_i
    regularisation: float = 0.01  # lambda_Theta, a triple
    decay: float = 0.0  # mu, a step
    init_scale: float = 0.1  # standard deviation of the first p_u and q_i
    strength_power: float = 1.0  # alpha, exponent of a positive's weight; 0 is the paper
    weighting: Literal["none", "ips"] = "none"
    propensity_clip: float = 0.01  # smallest propensity used, so the largest weight is 1 / clip

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_factors >= 1, "n_factors must be at least 1")
        require(self.regularisation >= 0, "regularisation must not be negative")
        require(self.decay >= 0, "decay must not be negative")
        require(self.init_scale > 0, "init_scale must be positive")
        require(self.strength_power >= 0, "strength_power must not be negative")
        require(self.weighting in ("none", "ips"), 'weighting must be "none" or "ips"')
        require(0 < self.propensity_clip <= 1, "propensity_clip must be in (0, 1]")

    @property
    def uses_propensity(self) -> bool:
        """Only "ips" does."""
        return self.weighting == "ips"


class BPR(GradientModel):
    """Factors of users and items; the item bias is the last coordinate of both vectors."""

    config_type: ClassVar[type[Config]] = BPRConfig
    reads: ClassVar[tuple[str, ...]] = ("train.examples",)
    needs_propensity: ClassVar[bool] = False
    behaviours: ClassVar[str] = "summed weight per user and item, to the power alpha"
    serves_cold_users: ClassVar[bool] = False
    serves_cold_items: ClassVar[bool] = False
    row_kinds: ClassVar[Mapping[str, Literal["users", "items", "nodes"]]] = {
        "p": "users",
        "q": "items",
        "b": "items",
    }
    paper: ClassVar[str] = "Rendle et al., UAI 2009 (weighting: Saito, ICTIR 2020)"
    assumes: ClassVar[str] = (
        'With weighting "none", none that would make it causal; with "ips", that the propensity '
        "is the probability of exposure and that exposure depends on the item alone."
    )

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        super().__init__(config, n_users, n_items)
        if not isinstance(config, BPRConfig):
            raise TypeError(f"BPR needs a BPRConfig, not {type(config).__name__}")
        self.config = config
        self.decay, self.sparse_gradients = config.decay, True
        k, scale = config.n_factors, config.init_scale
        self.p = nn.Parameter(torch.randn(n_users, k) * scale)  # [n_users, k]
        self.q = nn.Parameter(torch.randn(n_items, k) * scale)  # [n_items, k]
        self.b = nn.Parameter(torch.zeros(n_items, 1))  # [n_items, 1]

    def loss(self, batch: Batch) -> Loss:
        """Loss of B triples; needs batch.propensity when weighting is "ips"."""
        p_u = embedding(batch.users, self.p, sparse=True)  # [B, k]
        pairs = torch.cat([batch.positives, batch.negatives])  # [2B]
        q = embedding(pairs, self.q, sparse=True)  # [2B, k]
        b = embedding(pairs, self.b, sparse=True).squeeze(1)  # [2B]
        q_i, q_j = q.chunk(2)  # [B, k] each
        b_i, b_j = b.chunk(2)  # [B] each
        margin = (p_u * (q_i - q_j)).sum(1) + b_i - b_j  # [B]
        w = self._weight(batch)  # [B]
        bpr = (w * softplus(-margin)).sum() / w.sum()  # []
        squares = (p_u.square().sum() + q.square().sum() + b.square().sum()) / len(margin)  # []
        l2 = self.config.regularisation / 2 * squares  # []
        return Loss(bpr + l2, {"bpr": bpr, "l2": l2}, weights=w)

    def _weight(self, batch: Batch) -> Tensor:
        strength = batch.weights.pow(self.config.strength_power)  # [B]
        if self.config.weighting == "none":
            return strength
        return strength * inverse_propensity(batch, self.config.propensity_clip)  # [B]

    def user_vectors(self) -> FloatArray:
        """[n_users, k + 1]: p_u and 1."""
        ones = torch.ones_like(self.p[:, :1])  # [n_users, 1]
        return to_array(torch.cat([self.p, ones], dim=1))  # [n_users, k + 1]

    def item_vectors(self) -> FloatArray:
        """[n_items, k + 1]: q_i and b_i."""
        return to_array(torch.cat([self.q, self.b], dim=1))  # [n_items, k + 1]
