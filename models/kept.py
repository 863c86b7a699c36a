"""The training positives as part of a model's state, for models that score from a user's row."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.contract import Positives


class KeptPositives(nn.Module):
    """Compressed rows of users x items; empty until `keep`, saved and loaded with the model."""

    indptr: Tensor  # [n_users + 1] int64
    indices: Tensor  # [nnz] int32, ascending within a user
    weights: Tensor  # [nnz] float32, > 0

    def __init__(self, n_users: int) -> None:
        super().__init__()
        self.register_buffer("indptr", torch.zeros(n_users + 1, dtype=torch.int64))
        self.register_buffer("indices", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(0))
        self.register_load_state_dict_pre_hook(_make_room)  # type: ignore[no-untyped-call]

    def keep(self, data: Positives) -> None:
        """Copy the rows, to the device this module is on."""
        device = self.indptr.device
        # torch.tensor copies: the arrays are maps of files that may go
        self.indptr = torch.tensor(data.indptr, dtype=torch.int64, device=device)
        self.indices = torch.tensor(data.indices, dtype=torch.int32, device=device)
        self.weights = torch.tensor(data.weights, dtype=torch.float32, device=device)

    def sizes(self) -> Tensor:
        """Positives of each user, [n_users] int64."""
        return self.indptr.diff()

    def users(self) -> Tensor:
        """The user of each positive, [nnz] int64."""
        n_users = len(self.indptr) - 1
        return torch.repeat_interleave(
            torch.arange(n_users, device=self.indptr.device), self.sizes()
        )

    def by_item(self, n_items: int) -> tuple[Tensor, Tensor]:
        """The transposed order: where each item starts [n_items + 1], and the entries [nnz]."""
        _, entries = torch.sort(self.indices, stable=True)  # users ascending within an item
        ends = torch.bincount(self.indices, minlength=n_items).cumsum(0)  # [n_items]
        return torch.cat([ends.new_zeros(1), ends]), entries


def _make_room(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    # the number of positives is known from the saved arrays alone
    for name in ("indices", "weights"):
        if (saved := state.get(prefix + name)) is not None:
            setattr(module, name, torch.empty_like(saved, device=getattr(module, name).device))
