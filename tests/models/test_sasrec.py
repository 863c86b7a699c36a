"""SASRec alone: what its states may depend on, and its losses by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from models import sasrec
from models.contract import Past, Steps
from models.sasrec import SASRec, SASRecConfig

N_ITEMS = 9
FORMS = [
    {"norm": norm, "positions": way}
    for norm in ("pre", "post")
    for way in ("from_end", "from_start")
]


def model(*, n_items: int = N_ITEMS, **fields: Any) -> SASRec:
    torch.manual_seed(3)
    config = {"width": 8, "heads": 2, "length": 6, "init_scale": 0.5, **fields}
    return SASRec(SASRecConfig.from_dict(config), n_users=2, n_items=n_items)


def padded(*rows: list[int], pad: int = 0) -> Past:
    sizes = [len(row) for row in rows]
    inputs = [row + [pad] * (max(sizes) - len(row)) for row in rows]
    strengths = [[1.0] * size + [0.0] * (max(sizes) - size) for size in sizes]
    return Past(torch.tensor(inputs), torch.tensor(sizes), torch.tensor(strengths))


def steps(negatives: list[int] | None = None) -> Steps:
    """Two sequences, 1 2 3 4 and 5 6, each but its first to be predicted."""
    return Steps(
        past=padded([1, 2, 3], [5]),
        places=torch.tensor([0, 1, 2, 3]),
        targets=torch.tensor([2, 3, 4, 6]),
        negatives=None if negatives is None else torch.tensor(negatives),
    )


def scores(m: SASRec) -> np.ndarray:
    """Of each step of `steps` and each item, [4, n_items]."""
    with torch.no_grad():
        states = m(steps().past).flatten(0, 1)[steps().places]
    return np.asarray(states.double().numpy() @ m.item_vectors().T.astype(np.float64))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("t", range(5))
def test_nothing_later_than_a_step_changes_its_state(form: dict[str, Any], t: int) -> None:
    m = model(**form).eval()
    before = padded([1, 2, 3, 4, 5, 6])
    after = padded([1, 2, 3, 4, 5, 6][: t + 1] + [8, 7, 0, 8, 7][: 5 - t])
    assert torch.equal(m(before)[0, : t + 1], m(after)[0, : t + 1])
    assert not torch.allclose(m(before)[0, t + 1], m(after)[0, t + 1])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_counted_from_the_start_not_even_more_steps_change_a_state(norm: str) -> None:
    m = model(norm=norm, positions="from_start").eval()
    short, long = m(padded([1, 2, 3])), m(padded([1, 2, 3, 4, 5]))
    torch.testing.assert_close(short[0], long[0, :3])


@pytest.mark.parametrize("form", FORMS)
def test_pads_do_not_matter(form: dict[str, Any]) -> None:
    m = model(**form).eval()
    alone = m.last_states(padded([4, 2]))
    beside = m.last_states(padded([1, 2, 3, 4, 5, 6], [4, 2]))
    others = m.last_states(padded([1, 2, 3, 4, 5, 6], [4, 2], pad=7))
    torch.testing.assert_close(beside[1], alone[0])
    torch.testing.assert_close(others[1], alone[0])


def test_the_order_of_steps_matters() -> None:
    m = model().eval()
    assert not torch.allclose(m.last_states(padded([1, 2, 3])), m.last_states(padded([2, 1, 3])))


def test_bce_is_the_papers() -> None:
    m, negatives = model(loss="bce", dropout=0.0), [7, 8, 0, 1]
    loss, s = m.loss(steps(negatives)), scores(m)
    positive = np.log1p(np.exp(-s[range(4), [2, 3, 4, 6]])).mean()
    negative = np.log1p(np.exp(s[range(4), negatives])).mean()
    assert loss.parts["positive"].item() == pytest.approx(positive, rel=1e-5)
    assert loss.total.item() == pytest.approx(positive + negative, rel=1e-5)


def cross_entropy(m: SASRec) -> float:
    s = scores(m)
    return float((np.log(np.exp(s).sum(1)) - s[range(4), [2, 3, 4, 6]]).mean())


@pytest.mark.parametrize("most", [1, 2 * N_ITEMS, 1 << 24])
def test_the_full_softmax_does_not_depend_on_how_much_is_held_at_a_time(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = model(loss="full", dropout=0.0), model(loss="full", dropout=0.0)
    whole.loss(steps()).total.backward()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(sasrec, "MOST_LOGITS", most)
    loss = parts.loss(steps())
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx(cross_entropy(parts), rel=1e-5)
    torch.testing.assert_close(parts.m.grad, whole.m.grad)


def test_many_sampled_items_are_the_full_softmax() -> None:
    m = model(loss="sampled", n_negatives=200_000, dropout=0.0)
    assert m.loss(steps()).total.item() == pytest.approx(cross_entropy(m), rel=0.01)


def test_a_catalogue_of_one_item_leaves_nothing_to_learn_and_no_nan() -> None:
    m = model(n_items=1, loss="sampled")
    given = Steps(padded([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 0]), None)
    loss = m.loss(given).total
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in m.parameters() if p.grad is not None)


def test_bce_without_negatives_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a negative for each step"):
        model(loss="bce").loss(steps())


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    dropped = sasrec._Dropout(rate)(torch.ones(1001, 999))
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.003)
    assert sasrec._Dropout(0.0)(torch.ones(3)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "width must be a multiple of heads"),
        ({"dropout": 1.0}, "dropout must be from 0 to 0.99"),
        ({"loss": "bpr"}, 'loss must be "bce", "sampled" or "full"'),
        ({"norm": "none"}, 'norm must be "pre" or "post"'),
        ({"positions": "rotary"}, 'positions must be "from_end" or "from_start"'),
        ({"length": 0}, "length must be at least 1"),
        ({"n_negatives": 0}, "n_negatives must be at least 1"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**fields)
