"""CausalRec alone: the identities of its boost, and what a graph may depend on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import causalrec
from models.causal_graph import DualState, acyclicity, before
from models.causalrec import (
    BOOSTS,
    EFFECTS,
    RELATIONS,
    CausalRec,
    CausalRecConfig,
    _Discovery,
    booster,
)
from models.contract import ModelError
from models.sasrec import SASRec, SASRecConfig, attend
from tasks.train.loop import train
from tests.models.test_direction import histories
from tests.models.test_sasrec import N_ITEMS, padded, steps
from tests.tasks.train.planted import data_and_holdout

SHAPE: dict[str, Any] = {"width": 8, "heads": 2, "length": 6, "init_scale": 0.5}
FORMS: list[dict[str, Any]] = [{"effects": effects} for effects in EFFECTS]
FORMS += [{"boost": boost} for boost in BOOSTS[1:]]
FORMS += [{"relation": relation} for relation in RELATIONS[1:]]
FORMS += [{"effects": "free", "norm": "post", "threshold": 0.3}]


def model(**fields: Any) -> CausalRec:
    torch.manual_seed(3)
    config = CausalRecConfig.from_dict({**SHAPE, **fields})
    return CausalRec(config, n_users=2, n_items=N_ITEMS)


def heads(n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 2, 2, n, 4, generator=made)
    return q, k, v


def related(n: int = 5) -> Tensor:
    drawn = torch.rand(2, n, n, generator=torch.Generator().manual_seed(2))
    return drawn.tril(-1) + torch.eye(n)


def shares(how: str, alpha: float, r: Tensor) -> Tensor:
    """The attention itself: what is mixed when the values are unit vectors."""
    q, k, _ = heads()
    return booster(r, alpha, how)(q, k, torch.eye(5).expand(2, 2, 5, 5))


def plain() -> Tensor:
    q, k, _ = heads()
    return attend(q, k, torch.eye(5).expand(2, 2, 5, 5))


def test_the_boost_is_attention_times_one_plus_alpha_r_renormalised() -> None:
    wanted = plain() * (1 + 3 * related().unsqueeze(1))
    found = shares("renormalised", 3.0, related())
    torch.testing.assert_close(found, wanted / wanted.sum(-1, keepdim=True))
    torch.testing.assert_close(shares("post", 3.0, related()), wanted)


def test_an_endless_boost_is_the_filter() -> None:
    r = related().round()
    torch.testing.assert_close(shares("renormalised", 1e8, r), shares("filter", 1.0, r))


@pytest.mark.parametrize("how", BOOSTS)
@pytest.mark.parametrize("alpha", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_any_alpha_is_finite_and_never_looks_ahead(how: str, alpha: float) -> None:
    found = shares(how, alpha, related())
    assert torch.isfinite(found).all()
    assert (found[..., ~(before(5) | torch.eye(5).bool())] == 0).all()
    if how != "post":
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 5))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [1e-8, 1.0, 1e8])
def test_any_alpha_can_be_learnt_from(alpha: float, form: dict[str, Any]) -> None:
    m = model(**form, alpha=alpha, loss="full")
    m.loss(steps()).total.backward()  # type: ignore[no-untyped-call]
    gradients = [each.grad for each in m.parameters() if each.grad is not None]
    assert len(gradients) > len(list(SASRec(SASRecConfig(**SHAPE), 2, N_ITEMS).parameters()))
    assert all(torch.isfinite(each).all() for each in gradients)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("effects", EFFECTS)
def test_half_precision_holds_any_alpha(effects: str, precision: torch.dtype) -> None:
    m = model(effects=effects, alpha=1e8, loss="full")
    with torch.autocast("cpu", precision):
        assert m.relation(steps().past).dtype == torch.float32
        loss = m.loss(steps()).total
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)


@pytest.mark.parametrize("effects", EFFECTS)
def test_without_a_boost_it_is_sasrec_bit_by_bit(effects: str) -> None:
    torch.manual_seed(3)
    base = SASRec(SASRecConfig.from_dict({**SHAPE, "loss": "full"}), n_users=2, n_items=N_ITEMS)
    m = model(alpha=0.0, effects=effects, loss="full")
    past = padded([1, 2, 3, 4, 5, 6], [4, 2])
    torch.manual_seed(5)
    of_base = base.loss(steps()).total
    torch.manual_seed(5)
    assert torch.equal(m.loss(steps()).total, of_base)
    assert torch.equal(m.eval()(past), base.eval()(past))
    assert not m.effects(past).any()  # a graph that was taught nothing says nothing


def test_without_a_boost_its_training_is_that_of_sasrec(tmp_path: Path) -> None:
    data, _ = data_and_holdout(tmp_path)
    shape = {"width": 8, "length": 10, "batch_size": 32}
    base = train("sasrec", shape, data, seed=1, epochs=2)
    trained = train("causalrec", {**shape, "alpha": 0.0}, data, seed=1, epochs=2)
    assert trained.losses == base.losses
    users = trained.model.user_vectors(), base.model.user_vectors()
    assert users[0].tobytes() == users[1].tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("t", range(5))
def test_nothing_later_than_a_step_changes_its_state(form: dict[str, Any], t: int) -> None:
    m = model(**form, positions="from_start").eval()
    m.prepare(histories([[(1, 1), (2, 1), (4, 1), (8, 1), (7, 1)]] * 9))
    first = padded([1, 2, 3, 4, 5, 6])
    changed = padded([1, 2, 3, 4, 5, 6][: t + 1] + [8, 7, 0, 8, 7][: 5 - t])
    changed.strengths[0, t + 1 :] = 3.0
    assert m.discovery._direction(changed.items).any()
    one, other = m(first), m(changed)
    torch.testing.assert_close(one[0, : t + 1], other[0, : t + 1], rtol=0, atol=0)
    r, s = m.relation(first), m.relation(changed)
    torch.testing.assert_close(r[0, : t + 1], s[0, : t + 1], rtol=0, atol=0)
    assert not torch.allclose(one[0, t + 1], other[0, t + 1])


@pytest.mark.parametrize("form", FORMS)
def test_pads_relate_to_nothing_and_do_not_matter(form: dict[str, Any]) -> None:
    m = model(**form).eval()
    sequences = padded([1, 2, 3, 4, 5, 6], [4, 2, 7, 3])
    others = padded([1, 2, 3, 4, 5, 6], [4, 2, 7, 3], pad=7)
    alone = padded([4, 2, 7, 3])
    torch.testing.assert_close(m.last_states(sequences)[1], m.last_states(alone)[0])
    torch.testing.assert_close(m.last_states(others), m.last_states(sequences))
    for found in (m.relation(sequences), m.graph(sequences).effects):
        assert found[1, 4:].abs().sum() == found[1, :, 4:].abs().sum() == 0
    assert torch.isfinite(m(sequences)).all()


@pytest.mark.parametrize("effects", EFFECTS)
def test_only_free_forms_can_have_cycles(effects: str) -> None:
    m = model(effects=effects, alpha=1.0)
    graph = m.graph(padded([1, 2, 3, 4, 5, 6]))
    assert m.boosting.can_have_cycles == (effects in ("free", "cluster"))
    if not m.boosting.can_have_cycles:
        assert torch.equal(graph.effects, graph.effects.tril(-1))
        assert graph.h < 1e-6
    else:
        assert graph.h > 1e-4


@pytest.mark.parametrize("effects", ["free", "cluster"])
def test_the_penalty_takes_cycles_away_and_nothing_else_does(
    effects: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learnt() -> tuple[CausalRec, float]:
        m = model(effects=effects, every=5, dropout=0.0, sparsity=0.0, unexplained=1.0)
        optimiser = torch.optim.Adam(m.discovery.parameters(), lr=0.02)
        began = m.graph(steps().past).h.item()
        for _ in range(100):
            optimiser.zero_grad()
            m.loss(steps()).total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return m, m.graph(steps().past).h.item() / began

    m, left = learnt()
    assert m.dual.penalty > 1
    assert left < 0.01
    assert m.graph(steps().past).effects.sum() > 0.5  # cycles alone, not the graph
    monkeypatch.setattr(DualState, "cost", lambda _, h: 0 * h)
    assert learnt()[1] > 0.1


def test_a_wrong_mask_is_told() -> None:
    m = model()
    with pytest.raises(ModelError, match="a mask is wrong"):
        m._watch(torch.tensor(1e-3))


@pytest.mark.parametrize("effects", [each for each in EFFECTS if each not in ("free", "cluster")])
def test_effects_that_point_ahead_end_a_training(
    effects: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _Discovery._effects
    monkeypatch.setattr(_Discovery, "_effects", lambda *given: (found := made(*given)) + found.mT)
    with pytest.raises(ModelError, match="a mask is wrong"):
        model(effects=effects).loss(steps())


def test_sparsity_takes_effects_away() -> None:
    def mass(sparsity: float) -> float:
        m = model(sparsity=sparsity, dropout=0.0)
        optimiser = torch.optim.Adam(m.parameters(), lr=0.02)
        for _ in range(60):
            optimiser.zero_grad()
            m.loss(steps()).total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return float(m.graph(steps().past).effects.detach().abs().sum())

    assert mass(3.0) < 0.3 * mass(0.0)


def test_effects_are_those_of_the_attention_that_made_z() -> None:
    """z = (I + A) v and W = I - (I + A)^-1: so z - W z is v."""
    m = model().eval()
    past = padded([1, 2, 3, 4, 5, 6])
    graph = m.graph(past)
    v = m.discovery.value(m.discovery.norm(m.embedded(past)))
    torch.testing.assert_close(graph.z - graph.effects @ graph.z, v)
    assert acyclicity(graph.effects).abs().max() < 1e-5


def test_no_step_keeps_its_own_relation_when_they_are_shuffled() -> None:
    step = torch.arange(50.0)
    found = causalrec._shuffled(step.expand(2, 50, 50), 50)
    is_before = before(50)
    assert (found == step)[:, ~is_before].all()
    assert (found != step)[:, is_before].sum(-1).tolist() == [50 * 49 / 2 - 1] * 2
    torch.testing.assert_close(found.sort(-1).values, step.expand(2, 50, 50))
    torch.testing.assert_close(causalrec._shuffled(step[:9].expand(1, 9, 9), 50), found[:1, :9, :9])


def test_shuffled_relations_hold_the_same_in_another_order() -> None:
    learnt, shuffled = (model(relation=how).eval() for how in ("learnt", "shuffled"))
    r, s = (m.relation(padded([1, 2, 3, 4, 5, 6])) for m in (learnt, shuffled))
    torch.testing.assert_close(r.sort(-1).values, s.sort(-1).values)
    assert not torch.allclose(r, s)
    assert torch.equal(s.diagonal(dim1=1, dim2=2), torch.ones(1, 6))
    recency = model(relation="recency").relation(padded([1, 2, 3, 4]))
    torch.testing.assert_close(recency[0, 3], torch.tensor([1 / 3, 1 / 2, 1.0, 1.0]))


def test_a_direction_that_the_data_has_is_known_between_near_steps() -> None:
    m = model(window=2, shrinkage=0.0).eval()
    causing = [[(1, 1), (2, 1)]] * 9 + [[(4, 1), (5, 1)], [(5, 1), (4, 1)]] * 9
    m.prepare(histories(causing))
    assert m.discovery.keys.tolist() == [1 * N_ITEMS + 2]
    near, far = padded([1, 2, 4, 5], [4, 1, 5, 2]), padded([1, 4, 5, 2])
    added = m.discovery._direction(near.items)
    assert added.nonzero().tolist() == [[0, 1, 0], [1, 3, 1]]
    assert added.max().item() == pytest.approx(3.0)
    assert not m.discovery._direction(far.items).any()
    raised = m.graph(near).effects[0, 1, 0]
    m.discovery.directed.data.zero_()
    assert raised > m.graph(near).effects[0, 1, 0]


def test_only_the_last_steps_have_a_graph_and_a_boost() -> None:
    m = model(span=3, heads=2).eval()
    past = padded([1, 2, 3, 4, 5, 6], [4, 2, 7, 3], [8, 1])
    graph, wide = m.graph(past), m.effects(past)
    assert graph.past.items.tolist() == [[4, 5, 6], [2, 7, 3], [8, 1, 0]]
    assert graph.past.sizes.tolist() == [3, 3, 2]
    torch.testing.assert_close(wide[0, 3:, 3:], graph.effects[0])
    torch.testing.assert_close(wide[1, 1:4, 1:4], graph.effects[1])
    assert wide.abs().sum().item() == pytest.approx(graph.effects.abs().sum().item())
    # before the span it is SASRec
    plain_model = model(span=3, alpha=0.0).eval()
    torch.testing.assert_close(m(past)[0, :3], plain_model(past)[0, :3])
    assert not torch.allclose(m(past)[0, 3:], plain_model(past)[0, 3:])


def test_the_graph_of_a_span_is_that_of_its_steps_alone() -> None:
    past, late = padded([1, 2, 3, 4, 5, 6]), padded([2, 3, 4, 5, 6])
    torch.testing.assert_close(
        model(span=5).eval().relation(past), model(span=6).eval().relation(late)
    )


@pytest.mark.parametrize("how", BOOSTS)
@pytest.mark.parametrize("t", range(5))
def test_nothing_later_changes_a_state_beyond_the_span(how: str, t: int) -> None:
    m = model(span=3, boost=how, positions="from_start").eval()
    first = padded([1, 2, 3, 4, 5, 6])
    changed = padded([1, 2, 3, 4, 5, 6][: t + 1] + [8, 7, 0, 8, 7][: 5 - t])
    one, other = m(first), m(changed)
    torch.testing.assert_close(one[0, : t + 1], other[0, : t + 1], rtol=0, atol=0)
    assert not torch.allclose(one[0, t + 1], other[0, t + 1])


def test_a_late_boost_is_the_boost_of_the_last_rows() -> None:
    """Against the whole attention with the same R written out."""
    q, k, v = heads(6)
    r = related(3)
    past = padded([1, 2, 3, 4, 5, 6], [4, 2, 7, 3])
    at = torch.tensor([[3, 4, 5], [1, 2, 3]])
    wide = torch.eye(6).repeat(2, 1, 1)
    wide[0, 3:, 3:], wide[1, 1:4, 1:4] = r[0], r[1]
    wanted = booster(wide, 5.0, "renormalised")(q, k, v)
    found = causalrec._late(causalrec._late_bias(r, 5.0, at, past), at, q, k, v)
    torch.testing.assert_close(
        found[0], torch.cat([attend(q, k, v)[0, :, :3], wanted[0, :, 3:]], 1)
    )
    torch.testing.assert_close(found[1, :, 1:4], wanted[1, :, 1:4])


def test_a_graph_is_the_same_after_saving() -> None:
    m = model()
    m.prepare(histories([[(1, 1), (2, 1)]] * 9))
    other = model(init_scale=0.1)
    other.load_state_dict(m.state_dict())
    past = padded([1, 2, 3, 1, 2])
    assert m.discovery._direction(past.items).any()
    assert torch.equal(m.eval().effects(past), other.eval().effects(past))


def test_edges_are_what_stands_out_by_its_order_more_than_shuffled() -> None:
    rows = (
        [[(1, 3), (2, 1)]] * 30 + [[(4, 3), (5, 3)], [(5, 3), (4, 3)]] * 30 + [[(3, 3), (7, 3)]] * 8
    )
    found = model(shrinkage=1.0).edges(histories(rows), most=9)
    assert list(zip(found.causes, found.effects, strict=True)) == [(1, 2), (3, 7)]
    assert found.supports.tolist() == [30, 8]
    assert (found.strengths > found.controls).all()
    chance = 30 * 30 / (2 * 166)  # of 30 + 2 * 60 + 2 * 8 terms, for 3 and 7 both are strong
    assert found.strengths[0] == pytest.approx((30 - chance) / (chance + 1) ** 0.5)
    assert len(model(shrinkage=1.0).edges(histories(rows), most=1).causes) == 1


def test_stronger_steps_cause_more() -> None:
    m = model().eval()
    weak = padded([1, 2, 3, 4])
    strong = weak._replace(strengths=torch.tensor([[1.0, 5.0, 1.0, 1.0]]))
    assert (m.graph(strong).effects[0, 2:, 1] > m.graph(weak).effects[0, 2:, 1]).all()


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"alpha": -1.0}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"effects": "none"}, "effects"),
        ({"boost": "none"}, "boost"),
        ({"relation": "none"}, "relation"),
        ({"threshold": 1.0}, "threshold"),
        ({"floor": 2.0}, "floor"),
        ({"sparsity": -1.0}, "sparsity"),
        ({"unexplained": -1.0}, "unexplained"),
        ({"clusters": 1}, "clusters"),
        ({"every": 0}, "every"),
        ({"span": 0}, "span"),
        ({"strong": 1.5}, "strong"),
        ({"window": -1}, "window"),
        ({"shrinkage": -1.0}, "shrinkage"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        CausalRecConfig.from_dict(fields)
