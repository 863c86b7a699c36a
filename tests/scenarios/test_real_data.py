"""Real logs go through a night with a mapping alone."""

from pathlib import Path

import pytest

from flows.nightly import nightly
from tests.scenarios.nights import Place
from tests.scenarios.real_data import DUNNHUMBY, needs, write_dunnhumby, write_movielens_100k

NO_SHORT_LIST = """
SELECT user_id FROM serve.active_users
LEFT JOIN (SELECT user_id, count(*) AS n FROM serve.current GROUP BY user_id) USING (user_id)
WHERE coalesce(n, 0) <> 20 AND user_id NOT IN (SELECT user_id FROM serve.shortfalls)
"""


def seen_again(behaviours: str) -> str:
    return (
        "SELECT count(*) FROM serve.current INNER JOIN clean.events USING (user_id, item_id) "
        f"WHERE behaviour IN ({behaviours})"
    )


@needs("ml-100k")
def test_movielens_in_its_own_layout(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_movielens_100k(place.landing / "ml-100k")
    outcome = nightly.fn(mapping="movielens_100k", landing=place.landing, lake=place.lake)
    assert (outcome.ending, str(outcome.ds)) == ("published", "1998-04-22")
    assert place.ask("SELECT count(*) FROM clean.events") == [(100_000,)]
    assert place.ask("SELECT count(*), count(title) FROM clean.items") == [(1682, 1682)]
    assert place.ask("SELECT count(DISTINCT user_id) FROM serve.current") == [(943,)]
    assert place.ask(NO_SHORT_LIST) == []
    assert place.ask(seen_again("'favourite', 'view'")) == [(0,)]


@needs("dunnhumby-cj")
@pytest.mark.parametrize("n_days", [60, pytest.param(365, marks=pytest.mark.soak)])
def test_groceries_in_daily_files(tmp_path: Path, n_days: int) -> None:
    place = Place(tmp_path)
    n_bought = write_dunnhumby(place.landing / "transactions", n_days)
    (tmp_path / "dunnhumby.toml").write_text(DUNNHUMBY)
    place.settings.write_text("[train.configs.bpr]\nepochs = 2\n")
    outcome = nightly.fn(
        settings=place.settings,
        mapping=str(tmp_path / "dunnhumby.toml"),
        landing=place.landing,
        lake=place.lake,
    )
    assert outcome.ending == "published"
    n_read, n_clean, n_lost = place.ask(
        "SELECT sum(n_read), sum(n_clean), sum(n_quarantined) FROM ops.files"
    )[0]
    assert (n_read, n_lost) == (n_bought, 0)
    assert place.ask("SELECT count(*) FROM clean.events") == [(n_clean,)]
    assert (
        place.ask("SELECT count(DISTINCT ds) FROM features.behaviours_daily")[0][0] > 0.98 * n_days
    )
    assert place.ask(NO_SHORT_LIST) == []
    assert place.ask(seen_again("'purchase'")) == [(0,)]
