"""A whole night, and the same night again."""

from pathlib import Path

import pytest

from tasks.lake.connection import connect
from tests.scenarios.nights import Place, contents, day, leave_out_what_only_reads, rows


def test_a_night_publishes_whole_lists_for_every_active_user(one_night: Place) -> None:
    n_active, n_listed, n_short = one_night.ask(
        "SELECT (SELECT count(*) FROM serve.active_users), "
        "(SELECT count(DISTINCT user_id) FROM serve.current), "
        "(SELECT count(*) FROM serve.shortfalls)"
    )[0]
    assert n_active > 50
    assert n_listed == n_active
    lengths = one_night.ask("SELECT DISTINCT count(*) FROM serve.current GROUP BY user_id")
    assert n_short > 0 or lengths == [(20,)]


def test_every_active_user_has_k_rows_or_a_shortfall(one_night: Place) -> None:
    assert not one_night.ask(
        "SELECT user_id FROM serve.active_users "
        "LEFT JOIN (SELECT user_id, count(*) AS n FROM serve.current GROUP BY ALL) USING (user_id) "
        "WHERE coalesce(n, 0) <> 20 AND user_id NOT IN (SELECT user_id FROM serve.shortfalls)"
    )


@pytest.mark.parametrize(
    "broken",
    [
        # seen
        "SELECT * FROM serve.current INNER JOIN clean.events USING (user_id, item_id) "
        "WHERE behaviour = 'purchase'",
        # outside the catalogue, or out of stock
        "SELECT * FROM serve.current ANTI JOIN "
        "(SELECT item_id FROM clean.items WHERE ds = '2026-01-10' AND is_in_stock) USING (item_id)",
        # ranks with a gap, or one item twice
        "SELECT user_id FROM serve.current GROUP BY user_id "
        "HAVING max(rank) <> count(*) OR count(DISTINCT item_id) <> count(*)",
    ],
)
def test_no_row_breaks_a_rule(one_night: Place, broken: str) -> None:
    assert one_night.ask(broken) == []


def test_events_were_cleaned_and_everything_is_accounted_for(one_night: Place) -> None:
    assert not one_night.ask(
        "SELECT * FROM ops.files WHERE n_read <> n_clean + n_duplicate + n_quarantined"
    )
    accounted = one_night.ask(
        "SELECT sum(n_clean) FROM ops.files WHERE dataset = 'events' "
        "UNION ALL SELECT count(*) FROM clean.events"
    )
    assert accounted[0] == accounted[1]
    assert one_night.ask("SELECT count(*) > 0 FROM ops.quarantine") == [(True,)]


def test_the_night_is_measured_checked_and_reported(one_night: Place) -> None:
    stages = dict(one_night.ask("SELECT stage, state FROM ops.stages"))
    assert set(stages.values()) == {"done"}
    assert {"ingest", "check clean", "train bpr", "publish"} <= set(stages)
    assert one_night.ask(
        "SELECT count(*) > 100, bool_and(is_passed OR severity <> 'critical') FROM ops.checks"
    ) == [(True, True)]
    page = (one_night.lake / "reports" / f"{day(5)}.html").read_text()
    assert "serve.recommendations" in page
    assert "u000" not in page


def test_every_epoch_of_the_night_is_kept(one_night: Place) -> None:
    assert one_night.ask(
        "SELECT model, count(*), count(*) FILTER (is_best), bool_and(isfinite(loss)), "
        "bool_and(coalesce(ndcg, 0) BETWEEN 0 AND 1), bool_and(ess_share > 0 AND ess_share <= 1) "
        "FROM train.epochs GROUP BY model"
    ) == [("bpr", 4, 1, True, True, True)]


def test_the_same_night_again_is_nothing_to_do(one_night: Place, tmp_path: Path) -> None:
    place = one_night.copy(tmp_path / "again")
    before = contents(place.lake)
    outcome = place.run()
    assert outcome.is_old
    assert outcome.ending == "published"
    assert contents(place.lake) == before
    assert len(rows(place.lake, "ops.nights")) == 1
    assert len(rows(place.lake, "serve.publications")) == 1


def test_two_lakes_made_apart_hold_the_same_rows(
    one_night: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_what_only_reads(monkeypatch)
    other = one_night.copy(tmp_path / "other")
    for path in sorted(other.lake.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    other.run()
    assert contents(other.lake) == contents(one_night.lake)


def test_the_views_open_in_a_plain_client_and_keep_their_place(one_night: Place) -> None:
    with connect(one_night.lake / "warehouse.duckdb", read_only=True) as con:
        assert len(con.sql("SELECT * FROM features.behaviours LIMIT 5").fetchall()) == 5
        assert len(con.sql("SELECT * FROM features.popularity LIMIT 5").fetchall()) == 5
        assert len(con.sql("SELECT steps FROM features.user_history LIMIT 5").fetchall()) == 5
