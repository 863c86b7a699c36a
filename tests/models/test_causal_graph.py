"""Planted graphs are found where theory says so, and are not where it says they cannot be."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.causal_graph import (
    DualState,
    acyclicity,
    before,
    cholesky_effects,
    direct_effects,
    gram_effects,
    null_sink_softmax,
    relation,
    unexplained,
)

N = 12


def planted(seed: int, n: int = N) -> Tensor:
    """Direct effects of steps before, as many as steps, of size 0.5 to 1.5 and either sign."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 1.5, (n, n)) * rng.choice([-1, 1], (n, n))
    is_edge = rng.random((n, n)) < n / (n * (n - 1) / 2)
    return torch.from_numpy(np.tril(size * is_edge, -1))


def samples(effects: Tensor, n_samples: int, seed: int) -> Tensor:
    """[n, n_samples] of X = W X + U, U of variance 1."""
    noise = np.random.default_rng(1000 + seed).normal(size=(len(effects), n_samples))
    x: Tensor = torch.linalg.solve(
        torch.eye(len(effects)).double() - effects, torch.from_numpy(noise)
    )
    return x


def distance(found: Tensor, truth: Tensor, least: float) -> int:
    """Structural Hamming distance: edges that are missing, too many, or the wrong way."""
    one, two = (found.abs() > least), (truth != 0)
    differs = (one != two) | (one != two).mT
    return int(differs.triu(1).sum())


def fitted(z: Tensor, l1: float, is_free: bool = False) -> Tensor:
    """W that explains z with few effects, by gradient; free: of any order, but without cycles."""
    n = len(z)
    z = torch.linalg.cholesky(z @ z.T / z.shape[1]) * math.sqrt(n)  # few samples, the same moments
    allowed = ~torch.eye(n, dtype=torch.bool) if is_free else before(n)
    weights = torch.zeros(n, n, dtype=z.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.02)
    dual = DualState(every=50)
    for _ in range(700):
        w = weights * allowed
        loss = n * unexplained(z, w) / 2 + l1 * w.abs().sum()
        if is_free:
            h = acyclicity(w, "logdet")
            loss = loss + dual.cost(h)
            dual.step(h)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (weights * allowed).detach()


@pytest.mark.parametrize("seed", range(5))
def test_direct_effects_of_planted_total_effects(seed: int) -> None:
    effects = planted(seed)
    total = torch.linalg.inv(torch.eye(N).double() - effects)
    found = direct_effects((total - torch.eye(N)).tril(-1).float())
    assert (found - effects).abs().max() < 1e-5
    assert torch.equal(found, found.tril(-1))


@pytest.mark.parametrize("seed", range(5))
def test_sparse_effects_are_found_where_the_order_is_known(seed: int) -> None:
    effects = planted(seed)
    found = fitted(samples(effects, 256, seed), l1=0.05)
    assert distance(found, effects, 0.3) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_cholesky_finds_them_too_with_many_samples(seed: int) -> None:
    effects = planted(seed)
    found = cholesky_effects(samples(effects, 2000, seed), eps=0.0)
    assert distance(found, effects, 0.3) == 0
    assert (found - effects).abs().max() < 0.2


def test_a_correlation_reports_paths_as_edges() -> None:
    found = [
        distance(gram_effects(samples(planted(seed), 2000, seed)), planted(seed), 0.3)
        for seed in range(5)
    ]
    assert np.mean(found) > 6


def test_without_the_order_equal_variances_hide_it() -> None:
    """What a LayerNorm on each step makes of the data; the penalty for cycles does not help."""
    distances = []
    for seed in range(3):
        z = samples(planted(seed), 2000, seed)
        standardised = z / z.std(1, keepdim=True)
        distances.append(distance(fitted(standardised, 0.02, is_free=True), planted(seed), 0.15))
    assert np.mean(distances) >= 6


def test_without_the_order_raw_variances_tell_it() -> None:
    distances = [
        distance(fitted(samples(planted(seed), 2000, seed), 0.02, is_free=True), planted(seed), 0.3)
        for seed in range(3)
    ]
    assert np.mean(distances) < 6


def test_the_sink_takes_what_no_step_does() -> None:
    scores = torch.tensor([[[9.0, 9.0, 9.0], [0.0, 9.0, 9.0], [1.0, -1.0, 9.0]]])
    found = null_sink_softmax(scores, before(3))[0]
    e = math.e
    whole = 1 + e + 1 / e
    wanted = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [e / whole, 1 / e / whole, 0.0]])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("size", [-200.0, 200.0])
def test_the_sink_holds_for_scores_of_any_size(size: float) -> None:
    scores = torch.full((2, 4, 4), size, requires_grad=True)
    found = null_sink_softmax(scores, before(4))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(found).all()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert found[0, 3].sum().item() == pytest.approx(1.0 if size > 0 else 0.0)


@pytest.mark.parametrize("kind", ["expm", "logdet"])
def test_only_cycles_cost(kind: str) -> None:
    lower = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(1)).tril(-1)
    assert acyclicity(lower, kind).abs().max() < 1e-5  # type: ignore[arg-type]
    cycle = lower.clone()
    cycle[:, 0, 4] = 0.5
    assert (acyclicity(cycle, kind) > 1e-3).all()  # type: ignore[arg-type]


def test_expm_is_its_series() -> None:
    w = torch.tensor([[0.0, 0.5], [0.8, 0.0]], dtype=torch.float64)
    eigenvalue = 0.5 * 0.8
    assert acyclicity(w).item() == pytest.approx(2 * math.cosh(eigenvalue) - 2)


def test_relation_is_a_share_of_the_largest_before() -> None:
    effects = torch.tensor([[5.0, 9.0, 9.0], [-2.0, 9.0, 9.0], [1.0, -4.0, 9.0]])
    found = relation(effects, torch.tensor([True, True, True]))
    wanted = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.25, 1.0, 1.0]])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    kept = relation(effects, torch.tensor([True, True, True]), threshold=0.2)
    assert kept[2, 0].item() == pytest.approx(0.05 / 0.8, abs=1e-5)
    small = relation(effects / 100, torch.tensor([True, True, True]), floor=0.1)
    assert small[2, 1].item() == pytest.approx(0.4, abs=1e-4)


def test_unknown_steps_relate_to_nothing() -> None:
    found = relation(torch.ones(4, 4), torch.tensor([True, True, False, False]))
    assert found[2:].abs().sum() == found[:, 2:].abs().sum() == 0


def test_the_penalty_grows_until_h_shrinks() -> None:
    dual = DualState(every=2)
    for _ in range(8):
        dual.step(torch.tensor(1.0))
    assert dual.penalty.item() == 8
    assert dual.multiplier.item() > 0
    before_, h = dual.penalty.clone(), torch.tensor(0.5)
    assert dual.cost(h).item() == pytest.approx((dual.multiplier * h + before_ / 2 * h * h).item())
    for _ in range(60):
        dual.step(torch.tensor(0.0))
    assert dual.mean < 0.01
