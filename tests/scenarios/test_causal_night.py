"""A whole night that publishes CausalRec: its lists, its reasons, its graph and its picture."""

import pytest

from tests.scenarios.nights import Place

CONFIG = """
[publish]
model = "causalrec"
[train]
models = ["popularity", "bpr", "causalrec"]
[train.configs.causalrec]
epochs = 2
width = 16
length = 10
n_negatives = 32
shrinkage = 0.1
"""


@pytest.fixture(scope="module")
def night(one_night: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = one_night.copy(tmp_path_factory.mktemp("causal") / "shop")
    with place.settings.open("a") as handle:
        handle.write(CONFIG)
    outcome = place.run()
    assert outcome.ending == "published", outcome.reason
    place.refresh()
    return place


def test_it_publishes_and_says_why(night: Place) -> None:
    by_source = dict(
        night.ask(
            "SELECT model, count(reasons.because) > 0.9 * count(*) FROM serve.current GROUP BY 1"
        )
    )
    assert by_source["causalrec"]
    assert not by_source.get("popularity", False)
    strangers = night.ask(
        "SELECT count(*) FROM serve.current AS c WHERE model = 'causalrec' "
        "AND reasons.because NOT IN (SELECT b.item_id FROM features.behaviours AS b "
        "WHERE b.user_id = c.user_id)"
    )
    assert strangers == [(0,)]


def test_its_graph_is_a_table_and_a_picture(night: Place) -> None:
    edges = night.ask(
        "SELECT count(*), bool_and(strength > control_strength), count(DISTINCT model_version) "
        "FROM serve.causal_edges"
    )
    assert edges[0][0] > 0
    assert edges[0][1:] == (True, 1)
    page = next((night.lake / "reports").glob("*.html")).read_text()
    assert "What causes what" in page
    assert 'aria-label="Which item seems to cause which"' in page
