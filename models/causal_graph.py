"""Graphs of what caused what among the steps of a sequence: W, what is made of it, what it costs.

The n steps of a sequence are the variables, the d coordinates of what stands for them the samples:
X = W X + U, W[t, j] the direct effect of step j on step t. With the steps in order of time and
noise of equal variance W is strictly lower triangular and follows from the total effects
M = (I - W)^-1, or from the covariance (J. Peters, P. Buehlmann, "Identifiability of Gaussian
structural equation models with equal error variances", Biometrika 2014). Without the order it
follows from the covariance only while the variances of the variables themselves still tell the
order: where they are made equal, as a LayerNorm on each step does, it does not (A. Reisach,
C. Seiler, S. Weichwald, "Beware of the Simulated DAG!", NeurIPS 2021).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Cyclicity = Literal["expm", "logdet"]


def before(n: int, device: torch.device | None = None) -> Tensor:
    """Which steps come before which, [n, n] bool: row t is true at j < t."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril(-1)


def null_sink_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """exp(s) / (1 + sum of exp(s)) over what is allowed, else 0; [..., n, n] both.

    The 1 is a cause that is none of the steps: a step without cause gives it all. A plain softmax
    would make every row sum to 1, and an L1 penalty on it a constant.
    """
    scores = scores.masked_fill(~allowed, -math.inf)
    top = scores.detach().amax(-1, keepdim=True).clamp(min=0)  # the sink's score is 0
    shares = (scores - top).exp()
    attention: Tensor = shares / ((-top).exp() + shares.sum(-1, keepdim=True))
    return attention


def direct_effects(attention: Tensor) -> Tensor:
    """W = I - (I + A)^-1 of strictly lower triangular A, [..., n, n]: total effects, unmixed."""
    eye = torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)
    total = eye + attention
    inverse = torch.linalg.solve_triangular(
        total, eye.expand_as(total), upper=False, unitriangular=True
    )
    effects: Tensor = eye - inverse
    return effects.tril(-1)


def cholesky_effects(z: Tensor, eps: float = 1e-3) -> Tensor:
    """W = I - diag(L) L^-1, L the Cholesky factor of Cov(z) + eps I; z [..., n, d], d >> n.

    L with unit diagonal, column by column, is M where noise of any variances is independent.
    """
    n = z.shape[-2]
    noise = eps * torch.eye(n, dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky(_covariance(z) + noise)
    return direct_effects((factor / factor.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)).tril(-1))


def gram_effects(z: Tensor, eps: float = 1e-6) -> Tensor:
    """W = the strictly lower part of the correlation of the steps of z [..., n, d].

    As the authors' prototype, but for the half that points back in time. It finds edges, and as
    many again that are paths over others.
    """
    covariance = _covariance(z)
    scale = (covariance.diagonal(dim1=-2, dim2=-1) + eps).rsqrt()
    return (scale.unsqueeze(-1) * covariance * scale.unsqueeze(-2)).tril(-1)


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(-1, keepdim=True)
    return centred @ centred.mT / z.shape[-1]


def relation(effects: Tensor, known: Tensor, threshold: float = 0.0, floor: float = 0.0) -> Tensor:
    """R in [0, 1], [..., n, n]: |W| by the largest of its row, what is left over a threshold of it.

    Only what lies before a step counts, and of `known` steps only ([..., n] bool); R[t, t] = 1,
    for boosting would take from the step itself else. Of a row whose largest is below `floor`
    nothing is made larger than it is by the floor: a step without cause is not given one.
    """
    n = effects.shape[-1]
    both = known.unsqueeze(-1) & known.unsqueeze(-2)
    size = effects.abs() * (both & before(n, effects.device))
    share = size / (size.amax(-1, keepdim=True).clamp(min=floor) + 1e-6)
    kept = (share - threshold).relu() / (1 - threshold)
    return kept + torch.diag_embed(known.to(kept.dtype))


def acyclicity(effects: Tensor, kind: Cyclicity = "expm") -> Tensor:
    """h(W) >= 0, 0 only where no path leads back to where it began; [..., n, n] to [...].

    expm: tr exp(W o W) - n (X. Zheng et al., "DAGs with NO TEARS", NeurIPS 2018); logdet:
    -log det(s I - W o W) + n log s (K. Bello et al., "DAGMA", NeurIPS 2022), s twice the bound on
    the spectral radius that the row sums give, at least 1.
    """
    n = effects.shape[-1]
    squared = effects * effects
    if kind == "expm":
        trace = torch.linalg.matrix_exp(squared).diagonal(dim1=-2, dim2=-1).sum(-1)
        h: Tensor = trace - n
        return h
    s = (2 * squared.detach().sum(-1).amax(-1)).clamp(min=1)  # [...]
    eye = torch.eye(n, dtype=squared.dtype, device=squared.device)
    volume: Tensor = torch.linalg.slogdet(s[..., None, None] * eye - squared).logabsdet
    return n * s.log() - volume


def unexplained(z: Tensor, effects: Tensor) -> Tensor:
    """Mean of (z - W z)^2: what the direct effects leave of z [..., n, d]; []."""
    rest: Tensor = z - effects @ z
    return rest.square().mean()


class DualState(nn.Module):
    """Multiplier and penalty of h = 0, moved by a running mean every so many steps.

    The augmented Lagrangian of NOTEARS for mini-batches: h of one batch is too noisy to move
    them by. What it holds is kept with the weights, so that a resumed training goes on as it was.
    """

    mean: Tensor
    last: Tensor
    multiplier: Tensor
    penalty: Tensor
    n_steps: Tensor

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        for name, start in (("mean", 0.0), ("last", math.inf), ("multiplier", 0.0)):
            self.register_buffer(name, torch.tensor(start))
        self.register_buffer("penalty", torch.tensor(1.0))
        self.register_buffer("n_steps", torch.tensor(0))

    def cost(self, h: Tensor) -> Tensor:
        """multiplier h + penalty / 2 h^2 of this step; []."""
        multiplier, penalty = self.multiplier.clone(), self.penalty.clone()  # both move in place
        return multiplier * h + penalty / 2 * h * h

    @torch.no_grad()
    def step(self, h: Tensor) -> None:
        """Note the h of a step; every so many, move: the penalty where h did not shrink to 1/4."""
        self.mean.mul_(0.9).add_(0.1 * h.detach().to(self.mean.dtype))
        self.n_steps += 1
        if int(self.n_steps) % self.every:
            return
        self.multiplier.add_(self.penalty * self.mean).clamp_(0, 1e3)
        if self.mean > 0.25 * self.last:
            self.penalty.mul_(2).clamp_(max=1e6)
        self.last.copy_(self.mean)
