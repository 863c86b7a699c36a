"""The lists of `tasks/train/topk.py`, made on a GPU: the same order, the same ties.

A tile of scores is that of a block of users and a range of items; the whole matrix never exists.
Each user has a running threshold, the k-th best score so far. As tiles go by item position, an
item of a later tile enters a list only with a better score than that: one comparison leaves a few
places of a tile, which are sorted together with the k best so far. A tile in which many places are
left, as where all scores rise with the position, is sorted whole, some rows at a time.

Everything also runs on CPU tensors, which is how it is tested where there is no GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from tasks.train.csr import BoolArray, Csr, OffsetArray
from tasks.train.topk import NOTHING, FloatArray, TopK, decoded, refuse

ROWS = 8192  # users of a tile
COLUMNS = 32_768  # items of a tile: 1 GiB of scores, 256 MiB of comparisons
GROUP = 8  # scores of the first tile of which one speaks for all
_SIGN = 0x7FFFFFFF


def iter_lists_on(
    device: torch.device,
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    k: int,
    *,
    seen: Csr | None = None,
    allowed: BoolArray | None = None,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> Iterator[TopK]:
    """The k best items of every user, a block of `rows` users at a time, in their order.

    Arguments and errors as in `topk.top_k`; a tile has `rows` users and `columns` items. Scores
    are float32 products without TF32; they may differ from a CPU's in the last places.
    """
    refuse(user_vectors, item_vectors, k, seen, allowed)
    kept = np.arange(len(item_vectors)) if allowed is None else np.flatnonzero(allowed)
    with torch.inference_mode(), _float32_products():
        items = torch.from_numpy(np.ascontiguousarray(item_vectors[kept])).to(device)
        for start in range(0, len(user_vectors), rows):
            stop = min(start + rows, len(user_vectors))
            # as many rows in every block: a product of another shape may round otherwise
            users = np.zeros((rows, user_vectors.shape[1]), dtype=np.float32)
            users[: stop - start] = user_vectors[start:stop]
            hidden = _hidden(seen, start, stop, kept, device)
            best = _best(torch.from_numpy(users).to(device), items, k, hidden, columns)
            yield _lists(best[: stop - start].cpu().numpy(), kept)


@contextmanager
def _float32_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _hidden(
    seen: Csr | None, start: int, stop: int, kept: OffsetArray, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows of the block and columns of `kept` that are not to be listed, by ascending column."""
    if seen is None:
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        return nothing, nothing
    block = seen.slice(start, stop)
    column = np.full(seen.n_columns, -1, dtype=np.int64)
    column[kept] = np.arange(len(kept))
    columns, rows = torch.from_numpy(column[block.indices]), torch.from_numpy(block.rows())
    columns, order = columns.to(device).sort(stable=True)
    first = int((columns < 0).sum())
    return rows.to(device)[order][first:], columns[first:]


def _best(
    users: Tensor, items: Tensor, k: int, hidden: tuple[Tensor, Tensor], columns: int
) -> Tensor:
    """Ascending keys of the k best of each user, NOTHING after the last, [B, k] int64."""
    best = torch.full((len(users), k), NOTHING, dtype=torch.int64, device=users.device)
    starts = torch.arange(0, len(items) + columns, columns, device=users.device)
    ends = torch.searchsorted(hidden[1], starts).tolist()
    for nth, first in enumerate(range(0, len(items), columns)):
        scores = users @ items[first : first + columns].T  # [B, T]
        rows, places = (each[ends[nth] : ends[nth + 1]] for each in hidden)
        scores[rows, places - first] = -torch.inf
        bound = _first_bound(scores, k) if first == 0 else _scores(best[:, -1])
        best = _merged(best, scores, bound, first)
    return best


def _first_bound(scores: Tensor, k: int) -> Tensor:
    """Just below a score that k of the row reach, [B]; -inf where that is not known."""
    n_rows, n_columns = scores.shape
    n_groups = n_columns // GROUP
    if n_groups < k:
        return scores.new_full((n_rows,), -torch.inf)
    speakers = scores[:, : n_groups * GROUP].view(n_rows, GROUP, n_groups).amax(dim=1)
    kth = speakers.topk(k, dim=1).values[:, -1]
    return torch.nextafter(kth, kth.new_tensor(-torch.inf))


def _merged(best: Tensor, scores: Tensor, bound: Tensor, first: int) -> Tensor:
    """The best keys after these scores [B, T], of the items from position `first` on."""
    k = best.shape[1]
    is_in = scores > bound[:, None]
    counts = is_in.sum(dim=1)
    n_most = int(counts.max()) if len(counts) else 0
    if n_most == 0:
        return best
    if n_most > 4 * k + 64:
        return _merged_whole(best, scores, first)
    rows, columns = is_in.nonzero(as_tuple=True)
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    table = best.new_full((len(best), k + n_most), NOTHING)
    table[:, :k] = best
    table[rows, k + places] = _keys(scores[rows, columns], columns + first)
    return table.sort(dim=1).values[:, :k].contiguous()


def _merged_whole(best: Tensor, scores: Tensor, first: int) -> Tensor:
    """The same, by sorting rows whole: a sixteenth of them at a time, as keys are twice as long."""
    k, n_rows = best.shape[1], -(-len(scores) // 16)
    columns = torch.arange(first, first + scores.shape[1], device=scores.device)
    merged = []
    for mine, theirs in zip(torch.split(best, n_rows), torch.split(scores, n_rows), strict=True):
        keys = _keys(theirs, columns).masked_fill_(theirs == -torch.inf, NOTHING)
        top = keys.topk(min(k, keys.shape[1]), dim=1, largest=False).values
        merged.append(torch.cat([mine, top], dim=1).sort(dim=1).values[:, :k])
    return torch.cat(merged)


def _keys(scores: Tensor, columns: Tensor) -> Tensor:
    """One int64 each, that orders as (-score, column); see topk.py."""
    bits = (scores + 0.0).view(torch.int32)
    ascending = bits ^ ((bits >> 31) & _SIGN)
    return ((~ascending).to(torch.int64) << 32) | columns


def _scores(keys: Tensor) -> Tensor:
    """The score of each key; below all for NOTHING."""
    ascending = ~(keys >> 32).to(torch.int32)
    scores = (ascending ^ ((ascending >> 31) & _SIGN)).view(torch.float32)
    return torch.where(keys == NOTHING, scores.new_tensor(-torch.inf), scores)


def _lists(keys: OffsetArray, kept: OffsetArray) -> TopK:
    lists = decoded(keys)
    listed = lists.items >= 0
    lists.items[listed] = kept[lists.items[listed]]
    return lists
