"""Popularity: every user gets the items with the largest summed weight.

The floor that any personal model must beat, and what users without a history are served.
Scores are log(1 + w_i), w_i the summed behaviour weight of item i over all users: the same
order as w_i, on a scale that other scores can be compared with.

Reference: the "most popular" baseline of P. Cremonesi, Y. Koren, R. Turrin, "Performance of
recommender algorithms on top-N recommendation tasks", RecSys 2010, section 3.1.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from models.contract import ClosedFormModel, Config, FloatArray, Positives, to_array


@dataclass(frozen=True, kw_only=True)
class PopularityConfig(Config):
    """Popularity has no knobs: the weight of a behaviour is set where the data is made."""


class Popularity(ClosedFormModel):
    """Rank one: item vector [log(1 + w_i)], user vector [1]."""

    config_type: ClassVar[type[Config]] = PopularityConfig
    reads: ClassVar[tuple[str, ...]] = ("train.examples",)
    needs_propensity: ClassVar[bool] = False
    behaviours: ClassVar[str] = "summed weight per user and item"
    serves_cold_users: ClassVar[bool] = True
    serves_cold_items: ClassVar[bool] = True
    paper: ClassVar[str] = "Cremonesi, Koren, Turrin, RecSys 2010 (most popular)"
    assumes: ClassVar[str] = (
        "None that would make it causal: an item is popular partly because it was shown."
    )

    item_strength: Tensor

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        super().__init__(config, n_users, n_items)
        self.register_buffer("item_strength", torch.zeros(n_items))  # [n_items]

    def fit(self, data: Positives) -> None:
        """Sum the weights of each item."""
        # bincount adds in float64 and in CSR order: exact enough, and the same every time
        summed = np.bincount(data.indices, weights=data.weights, minlength=self.n_items)
        strength = np.log1p(summed).astype(np.float32)
        self.item_strength.copy_(torch.from_numpy(strength))  # [n_items]

    def user_vectors(self) -> FloatArray:
        """[n_users, 1], all 1."""
        return np.ones((self.n_users, 1), dtype=np.float32)

    def item_vectors(self) -> FloatArray:
        """[n_items, 1]."""
        return to_array(self.item_strength).reshape(-1, 1)

    def cold_user_vector(self) -> FloatArray:
        """[1]: strangers get the same list as everyone."""
        return np.ones(1, dtype=np.float32)

    def cold_item_vector(self) -> FloatArray:
        """[1]: what nobody has taken comes last."""
        return np.zeros(1, dtype=np.float32)  # log(1 + 0)
