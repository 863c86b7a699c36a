"""iALS: factors of users and items by alternating weighted least squares over all pairs.

    min sum_{u,i} c_ui (p_ui - x_u . y_i)^2 + lambda (sum_u |x_u|^2 + sum_i |y_i|^2)  (equation 3)
    p_ui = 1 for positives, else 0;   c_ui = 1 + alpha r_ui^beta

Y. Hu, Y. Koren, C. Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
r_ui is the summed weight of what u did with i; beta = 1 is the paper. That tuning makes or breaks
it: S. Rendle, W. Krichene, L. Zhang, Y. Koren, "Revisiting the Performance of iALS on Item
Recommendation Benchmarks", RecSys 2022. Their penalty that grows with how often a row occurs is
not in the library.

Solved on the CPU by the library `implicit`, each row by three steps of conjugate gradients from
where it was (G. Takacs, I. Pilaszy, D. Tikk, "Applications of the Conjugate Gradient Method for
Implicit Feedback Collaborative Filtering", RecSys 2011), or exactly. Rows are solved on all cores,
each by itself, and the one product that they share on one thread: the bits do not depend on the
number of cores.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
from torch import Tensor

from models.contract import (
    ClosedFormModel,
    Config,
    FloatArray,
    ModelError,
    Positives,
    require,
    to_array,
)


@dataclass(frozen=True, kw_only=True)
class IALSConfig(Config):
    """iALS's knobs, with the paper's symbols."""

    n_factors: int = 128  # f, length of x_u and y_i
    regularisation: float = 100.0  # lambda, a row
    confidence: float = 20.0  # alpha, of a positive of strength 1 over a pair without one
    strength_power: float = 1.0  # beta, exponent of a positive's weight; 1 is the paper
    sweeps: int = 15  # of all users, then all items
    exact: bool = False  # Cholesky in place of conjugate gradients: five times the time

    def __post_init__(self) -> None:
        require(self.n_factors >= 1, "n_factors must be at least 1")
        require(self.regularisation > 0, "regularisation must be positive")
        require(self.confidence > 0, "confidence must be positive")
        require(self.strength_power >= 0, "strength_power must not be negative")
        require(self.sweeps >= 1, "sweeps must be at least 1")


class IALS(ClosedFormModel):
    """Factors of users and items, after a fixed number of sweeps."""

    config_type: ClassVar[type[Config]] = IALSConfig
    reads: ClassVar[tuple[str, ...]] = ("train.examples",)
    needs_propensity: ClassVar[bool] = False
    behaviours: ClassVar[str] = "summed weight per user and item, to the power beta, as confidence"
    serves_cold_users: ClassVar[bool] = False
    serves_cold_items: ClassVar[bool] = False
    paper: ClassVar[str] = "Hu, Koren, Volinsky, ICDM 2008 (tuning: Rendle et al., RecSys 2022)"
    assumes: ClassVar[str] = (
        "None that would make it causal: what was never shown counts as a weak dislike."
    )

    x: Tensor
    y: Tensor

    def __init__(self, config: Config, n_users: int, n_items: int) -> None:
        super().__init__(config, n_users, n_items)
        if not isinstance(config, IALSConfig):
            raise TypeError(f"IALS needs an IALSConfig, not {type(config).__name__}")
        self.config = config
        self.register_buffer("x", torch.zeros(n_users, config.n_factors))  # [n_users, f]
        self.register_buffer("y", torch.zeros(n_items, config.n_factors))  # [n_items, f]

    def fit(self, data: Positives) -> None:
        """Sweep from a random start, drawn from torch's global generator.

        Raises:
            ModelError: factors became NaN, or cannot be solved for.
        """
        config = self.config
        c = 1 + config.confidence * np.power(data.weights, config.strength_power)  # [nnz]
        # copied: the solver takes no read-only arrays, and ours are maps of files
        given = c.astype(np.float32), np.array(data.indices), np.array(data.indptr)
        rows = csr_matrix(given, shape=(data.n_users, data.n_items))
        # BLAS threads beside the library's own would share the cores and change the bits
        with threadpool_limits(1, user_api="blas"):
            als = AlternatingLeastSquares(
                factors=config.n_factors,
                regularization=config.regularisation,
                iterations=config.sweeps,
                use_cg=not config.exact,
                random_state=int(torch.randint(2**31, ()).item()),
            )
            try:
                als.fit(rows, show_progress=False)
            except (ModelFitError, ValueError) as error:
                why = str(error).rstrip(".")
                raise ModelError(
                    f"iALS: {why}; raise regularisation or lower confidence"
                ) from error
        self.x.copy_(torch.from_numpy(als.user_factors))
        self.y.copy_(torch.from_numpy(als.item_factors))

    def user_vectors(self) -> FloatArray:
        """[n_users, f]."""
        return to_array(self.x)

    def item_vectors(self) -> FloatArray:
        """[n_items, f]."""
        return to_array(self.y)
