import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import embedding

from tasks.train.row_adam import RowAdam


def loss(tables: list[Parameter], rows: Tensor) -> Tensor:
    found = [embedding(rows % len(table), table, sparse=True) for table in tables]
    return (found[0] * found[1]).sum(1).sub(found[2].squeeze(1)).square().mean()


def moved(optimiser: type, tables: list[Parameter], batches: list[Tensor]) -> list[Tensor]:
    adam = optimiser(tables, lr=0.05)
    for rows in batches:
        adam.zero_grad()
        loss(tables, rows).backward()  # type: ignore[no-untyped-call]
        adam.step()
    return [table.detach() for table in tables]


def test_tables_move_as_those_of_torch_do() -> None:
    draw = torch.Generator().manual_seed(1)
    start = [torch.randn(n, d, generator=draw) for n, d in ((40, 5), (17, 5), (17, 1))]
    batches = [torch.randint(0, 30, (12,), generator=draw) for _ in range(25)]  # with repeats
    expected, found = (
        moved(kind, [Parameter(table.clone()) for table in start], batches)
        for kind in (torch.optim.SparseAdam, RowAdam)
    )
    for one, other, before in zip(expected, found, start, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
        assert not torch.equal(other, before)


def test_rows_without_a_gradient_stay() -> None:
    table = Parameter(torch.ones(5, 2))
    adam = RowAdam([table, Parameter(torch.ones(3, 2))], lr=0.1)  # the other has no gradient
    embedding(torch.tensor([1, 3, 3]), table, sparse=True).sum().backward()  # type: ignore[no-untyped-call]
    adam.step()
    assert torch.equal(table[[0, 2, 4]], torch.ones(3, 2))
    assert (table[[1, 3]] < 1).all()
