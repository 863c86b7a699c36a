"""CausalRec's graph against the true causes of the sample shop."""

from typing import cast

import numpy as np
import pytest

from models.causalrec import CausalRec
from models.sasrec import SASRec
from tasks.sample import ShopSettings
from tests.scenarios.causes import (
    Causes,
    Ranked,
    attentions_of,
    auprc,
    causes,
    edge_kinds,
    paired_interval,
    ranked,
    recency,
    trained,
)

SMALL = ShopSettings(n_users=1000, n_items=300, seed=3)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Causes:
    return causes(SMALL, tmp_path_factory.mktemp("causes"))


@pytest.fixture(scope="module")
def model(case: Causes) -> CausalRec:
    return cast(CausalRec, trained(case, "causalrec", epochs=4).model)


def test_the_relation_finds_causes_better_than_attention_and_recency(
    case: Causes, model: CausalRec
) -> None:
    plain = cast(SASRec, trained(case, "sasrec", epochs=4).model)
    others = {"recency": recency, **attentions_of(plain)}
    found = ranked(case, {"R": model.relation, **others})
    assert found.is_cause.sum() > 500
    for name in others:
        assert auprc(found, "R") > 1.2 * auprc(found, name), name
    _, low, _ = paired_interval(found, "R", "recency", n_draws=40)
    assert low > 0


def test_edges_follow_the_types_and_not_the_themes(case: Causes, model: CausalRec) -> None:
    kinds = edge_kinds(case, model)
    assert kinds["edges"] == 100
    assert kinds["succ"] >= 80
    assert kinds["theme"] <= 5


def test_auprc_of_a_case_by_hand() -> None:
    found = Ranked(
        user=np.array([0, 0, 1, 1]),
        is_cause=np.array([True, False, True, False]),
        scores={"a": np.array([4.0, 3.0, 2.0, 1.0]), "ties": np.ones(4)},
    )
    assert auprc(found, "a") == pytest.approx((1 + 2 / 3) / 2)
    assert auprc(found, "ties") == pytest.approx(0.5)
    assert auprc(found, "a", np.array([1.0, 0.0])) == pytest.approx(1.0)
    assert auprc(found, "a", np.array([2.0, 1.0])) == pytest.approx((2 + 3 / 5) / 3)
