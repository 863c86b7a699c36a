from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks.errors import SourceError
from tasks.sample import Truth
from tests.tasks.sample.conftest import Sample


def test_liking_is_the_formula(small: Sample) -> None:
    truth = small.truth
    p = truth.table("users")["taste"][7].to_numpy()
    q = truth.table("items")["taste"][31].to_numpy()
    r = 1 / (1 + np.exp(-(2 * (p @ q) / np.sqrt(8) - 1)))
    assert truth.liking(["u000007"], ["i00031"])[0] == pytest.approx(r)


def test_pairs_and_matrix_agree(small: Sample) -> None:
    users, items = ["u000200", "u000003"], ["i00009", "i00100", "i00000"]
    matrix = small.truth.liking_matrix(users, items)
    pairs = small.truth.liking(np.repeat(users, 3).tolist(), items * 2)
    np.testing.assert_allclose(matrix.ravel(), pairs)
    whole = small.truth.liking_matrix(small.truth.user_ids)
    np.testing.assert_allclose(whole[[200, 3]][:, [9, 100, 0]], matrix)


def test_relevant_is_the_best_twentieth(small: Sample) -> None:
    truth = small.truth
    relevant = truth.relevant(truth.user_ids)
    liking = truth.liking_matrix(truth.user_ids)
    assert (relevant.sum(axis=1) == 6).all()
    worst_in = np.where(relevant, liking, 2).min(axis=1)
    best_out = np.where(relevant, -1, liking).max(axis=1)
    assert (worst_in >= best_out).all()


@pytest.mark.parametrize("ids", [["u999999"], ["x"], [""]])
def test_strangers_are_refused(small: Sample, ids: list[str]) -> None:
    with pytest.raises(KeyError, match="the sample shop has no"):
        small.truth.liking(ids, ["i00000"])


def test_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not the truth folder"):
        Truth.read(tmp_path)


def test_daily_counts_add_up_to_what_was_returned(small: Sample) -> None:
    daily = small.truth.table("daily")
    assert daily["dt"].to_list() == small.settings.days
    for name in ("n_requests", "n_impressions", "n_not_shown", "n_click", "n_purchase"):
        assert daily[name].sum() == getattr(small.counts, name)


def test_world_tells_settings_and_seed(small: Sample) -> None:
    facts = small.truth.world()
    assert facts["settings"] == small.settings.as_json()
    assert facts["counts"] == asdict(small.counts)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("types", ["product_type", "category", "succ", "taste", "log_price"]),
        ("brands", ["brand", "style"]),
        ("promotions", ["dt", "brand", "promo"]),
        ("stock", ["dt", "item_id", "in_stock", "eligible"]),
        ("examination", ["position", "device", "p_examined"]),
        ("dirt", ["kind", "dataset", "dt", "n"]),
    ],
)
def test_tables_have_their_columns(small: Sample, name: str, columns: list[str]) -> None:
    table = small.truth.table(name)
    assert table.columns == columns
    assert not table.is_empty()
    assert table.null_count().select(pl.sum_horizontal(pl.all())).item() == 0
