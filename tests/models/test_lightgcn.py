import numpy as np
import pytest
import torch

from models.contract import Batch
from models.lightgcn import LightGCN, LightGCNConfig
from tests.models.positives import SmallPositives, random_positives


def model(data: SmallPositives, **fields: object) -> LightGCN:
    torch.manual_seed(3)
    config = LightGCNConfig.from_dict({"n_factors": 4, "init_scale": 1.0, **fields})
    made = LightGCN(config, data.n_users, data.n_items)
    made.prepare(data)
    return made


def batch() -> Batch:
    return Batch(
        users=torch.tensor([0, 1, 1]),
        positives=torch.tensor([0, 2, 3]),
        negatives=torch.tensor([1, 0, 0]),
        weights=torch.tensor([1.0, 2.0, 4.0]),
        propensity=None,
    )


def operator(data: SmallPositives, n_layers: int) -> np.ndarray:
    """mean over k of (D^-1/2 A D^-1/2)^k, dense."""
    r = (data.dense > 0).astype(np.float64)
    a = np.block([[np.zeros((len(r), len(r))), r], [r.T, np.zeros((r.shape[1], r.shape[1]))]])
    d = a.sum(axis=1)
    scale = np.divide(1, np.sqrt(d), out=np.zeros_like(d), where=d > 0)
    normal = scale[:, None] * a * scale
    powers = [np.linalg.matrix_power(normal, k) for k in range(n_layers + 1)]
    return np.asarray(np.mean(powers, axis=0))


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_vectors_are_the_mean_of_the_layers(n_layers: int) -> None:
    dense = random_positives(5, 4).dense
    dense[:, 1] = 0  # an item without an edge keeps a share of its own vector
    data = SmallPositives(dense)
    m = model(data, n_layers=n_layers)
    smoothed = operator(data, n_layers) @ m.e.detach().numpy()
    np.testing.assert_allclose(m.user_vectors(), smoothed[:5], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(m.item_vectors(), smoothed[5:], rtol=1e-5, atol=1e-6)


def test_loss_and_gradient_are_those_of_the_dense_operator() -> None:
    data = random_positives(5, 4)
    m, given = model(data, n_layers=2, regularisation=0.3, strength_power=0.5), batch()
    loss = m.loss(given)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx(sum(part.item() for part in loss.parts.values()))
    e = m.e.detach().double().requires_grad_()
    f = torch.from_numpy(operator(data, 2)) @ e
    u, i, j = given.users, given.positives + 5, given.negatives + 5
    margin = (f[u] * (f[i] - f[j])).sum(1)
    w = given.weights.double().sqrt()
    bpr = -(w * torch.nn.functional.logsigmoid(margin)).sum() / w.sum()
    l2 = 0.15 * sum(e[n].square().sum() for n in (u, i, j)) / 3
    (bpr + l2).backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx((bpr + l2).item(), rel=1e-5)
    assert m.e.grad is not None
    assert e.grad is not None
    torch.testing.assert_close(m.e.grad.double(), e.grad, rtol=1e-4, atol=1e-6)


def test_a_graph_that_is_loaded_replaces_the_one_before() -> None:
    one, two = random_positives(5, 4, seed=1), random_positives(5, 4, seed=2)
    m, other = model(one), model(two)
    before = m.user_vectors()
    other.load_state_dict({**other.state_dict(), **m.state_dict()})
    np.testing.assert_array_equal(other.user_vectors(), before)
    other.prepare(two)
    assert (other.user_vectors() != before).any()


@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_everything_taken_is_no_special_case(n_users: int, n_items: int) -> None:
    data = SmallPositives(np.ones((n_users, n_items), dtype=np.float32))
    scores = model(data).scores(np.arange(n_users))
    assert np.isfinite(scores).all()
