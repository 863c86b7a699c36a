import numpy as np
import pytest
import torch

from models.bpr import BPR, BPRConfig
from models.contract import Batch


def batch(weights: list[float], propensity: list[float] | None = None) -> Batch:
    return Batch(
        users=torch.tensor([0, 1, 1]),
        positives=torch.tensor([0, 2, 3]),
        negatives=torch.tensor([1, 0, 0]),
        weights=torch.tensor(weights),
        propensity=None if propensity is None else torch.tensor(propensity),
    )


def model(**fields: object) -> BPR:
    torch.manual_seed(3)
    return BPR(BPRConfig.from_dict({"n_factors": 4, **fields}), n_users=2, n_items=4)


def by_hand(m: BPR, given: Batch, w: list[float]) -> float:
    scores = m.user_vectors().astype(np.float64) @ m.item_vectors().T.astype(np.float64)
    u, i, j = (t.numpy() for t in given[:3])
    losses = -np.log(1 / (1 + np.exp(-(scores[u, i] - scores[u, j]))))
    return float(np.average(losses, weights=w))


def test_the_loss_is_the_papers() -> None:
    m, given = model(strength_power=0.0), batch([1.0, 5.0, 2.0])
    assert m.loss(given).parts["bpr"].item() == pytest.approx(by_hand(m, given, [1, 1, 1]))


def test_inverse_propensities_are_clipped_and_normalised_over_the_batch() -> None:
    m = model(weighting="ips", propensity_clip=0.1, strength_power=1.0)
    given = batch([1.0, 2.0, 1.0], [0.5, 1.0, 0.001])
    assert m.loss(given).parts["bpr"].item() == pytest.approx(by_hand(m, given, [2, 2, 10]))


def test_the_loss_carries_what_each_triple_weighs() -> None:
    m = model(weighting="ips", propensity_clip=0.1, strength_power=2.0)
    weights = m.loss(batch([1.0, 2.0, 1.0], [0.5, 1.0, 0.001])).weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([2, 4, 10])


def test_parts_add_up_and_lambda_counts_every_vector_of_the_triple() -> None:
    m, given = model(regularisation=0.5), batch([1.0, 1.0, 1.0])
    loss = m.loss(given)
    assert loss.total.item() == pytest.approx(sum(part.item() for part in loss.parts.values()))
    p, q = m.user_vectors()[:, :4], m.item_vectors()
    squares = sum((p[u] ** 2).sum() for u in (0, 1, 1))
    squares += sum((q[i] ** 2).sum() for i in (0, 2, 3, 1, 0, 0))
    assert loss.parts["l2"].item() == pytest.approx(0.25 * squares / 3, rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_gradients_are_sparse_though_all_vectors_are_drawn_on(decay: float) -> None:
    m = model(decay=decay)
    m.loss(batch([1.0, 1.0, 1.0])).total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in m.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.is_sparse, name


def test_ips_without_a_propensity_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the propensity"):
        model(weighting="ips").loss(batch([1.0, 1.0, 1.0]))


def test_the_item_bias_is_part_of_the_vectors() -> None:
    m = model()
    with torch.no_grad():
        m.b[2] = 7.0
    assert m.user_vectors().shape == (2, 5)
    assert m.item_vectors()[2, 4] == 7.0
    assert (m.user_vectors()[:, 4] == 1.0).all()
