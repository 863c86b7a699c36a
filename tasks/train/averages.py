"""The moving average of a model's weights, which is measured and kept in place of the last weights.

    mean <- d mean + (1 - d) weights,  d = min(decay, (1 + n) / (10 + n)) after step n

Steps at a constant rate go on circling what they have found; their mean lies nearer to it (B.
Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim.
1992). Training itself goes on from the last weights, as if there were no mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingMean:
    """Beside one model, of all its parameters."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.n_steps = 0
        self.mean: dict[str, Tensor] = {
            name: each.detach().clone() for name, each in model.named_parameters()
        }

    @torch.no_grad()
    def follow(self) -> None:
        """Take in the weights after a step."""
        self.n_steps += 1
        new = 1 - min(self.decay, (1 + self.n_steps) / (10 + self.n_steps))
        for name, each in self.model.named_parameters():
            self.mean[name].lerp_(each, new)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the mean in the model, and then the weights again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, each in self.model.named_parameters():
            last = each.clone()
            each.copy_(self.mean[name])
            self.mean[name] = last

    @torch.no_grad()
    def settle(self) -> None:
        """Let the model have the mean for good."""
        for name, each in self.model.named_parameters():
            each.copy_(self.mean[name])

    def restore(self, mean: dict[str, Tensor], n_steps: int) -> None:
        """Take up what a checkpoint kept."""
        self.n_steps = n_steps
        self.mean = {name: each.to(self.mean[name].device) for name, each in mean.items()}
