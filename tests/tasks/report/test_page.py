"""The page of a night over a small warehouse: what it says, what it must not say, what it needs."""

import re
from collections.abc import Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from expectations.catalogue import LAYERS, catalogue
from tasks.lake.connection import connect
from tasks.report.page import render_night, write_night

NIGHT = date(2026, 1, 25)
DS = "DATE '2026-01-25'"
AT = "TIMESTAMPTZ '2026-01-26 02:00:00+00'"
HOSTILE = "<script>alert(1)</script>"
USERS = ("user-ann", "user-bob", "user-cid")

ROWS = {
    "ops.nights": f"""
        SELECT 'run-9' AS run_id, 'published' AS outcome, 'The gate passed.' AS reason,
            'rel-1' AS release_id, {AT} AS started_at, {AT} + INTERVAL 90 SECOND AS ended_at,
            {DS} AS ds
        UNION ALL
        SELECT 'run-8', 'failed', 'An earlier run.', NULL, {AT} - INTERVAL 1 HOUR,
            {AT} - INTERVAL 1 HOUR, {DS}""",
    "ops.backfills": f"""
        SELECT 'plan-' || i AS plan_id, DATE '2025-12-02' AS ds,
            ['failed', 'done', 'cancelled'][1 + i] AS state,
            [NULL, 'swapped in', NULL][1 + i] AS outcome, 'then' AS as_of,
            'rel-of-plan' AS release_id, ['It broke.', NULL, NULL][1 + i] AS reason,
            [NULL, 'No rule spoke against it {HOSTILE}', NULL][1 + i] AS verdict,
            {AT} AS planned_at, {AT} + i * INTERVAL 1 HOUR AS ended_at
        FROM range(3) AS t(i)
        UNION ALL
        SELECT 'plan-0', {DS}, 'failed', NULL, 'now', NULL, 'It broke.', NULL, {AT}, {AT}""",
    "ops.stages": f"""
        SELECT 'run-9' AS run_id, unnest(['ingest', 'train bpr']) AS stage,
            unnest(['done', 'failed']) AS state, 4321 AS n_rows, 2048 AS n_bytes,
            unnest([1.5, 150.0]) AS seconds, 2.25 AS cpu_seconds, 300.0 AS peak_mb,
            ['ops.files@3'] AS pins, {AT} AS started_at, {DS} AS ds
        UNION ALL
        SELECT 'run-8', 'an older stage', 'done', 0, 0, 1.0, 1.0, 1.0, [],
            {AT} - INTERVAL 1 HOUR, {DS}""",
    "ops.checks": f"""
        SELECT 'run-9' AS run_id, unnest(['clean.events', 'clean.events', 'serve.candidates',
            'serve.recommendations']) AS table_name, unnest([1, 2, 1, 2]) AS check_id,
            unnest(['events are there', 'items are known', 'ranks have no gap', 'nothing is seen'])
            AS what, 'ExpectX' AS expectation,
            unnest(['critical', 'warning', 'info', 'critical']) AS severity,
            unnest([true, false, false, false]) AS is_passed,
            unnest([NULL, '77 of 888 events', NULL, '{HOSTILE}']) AS observed, 888 AS n_rows,
            unnest([0, 77, 5, 1]) AS n_unexpected, {AT} AS checked_at, {DS} AS ds""",
    "ops.files": f"""
        SELECT i::VARCHAR AS file_id, 'events' AS dataset, 'p' AS path, 'h' AS content_hash,
            1536 AS n_bytes, ['ingested', 'refused'][1 + i] AS state, [1000, 0][1 + i] AS n_read,
            [970, 0][1 + i] AS n_clean, [10, 0][1 + i] AS n_duplicate,
            [20, 0][1 + i] AS n_quarantined, 'run-9' AS run_id, {DS} AS ds
        FROM range(2) AS t(i)""",
    "ops.quarantine": f"""
        SELECT '0' AS file_id, 'events' AS dataset, 'p' AS path, i AS line,
            'occurred_at is no time' AS reason, 'raw text of user-ann' AS raw, {DS} AS ds
        FROM range(20) AS t(i)""",
    "clean.items": f"""
        SELECT unnest(['{HOSTILE}', 'item-b', 'item-c', 'item-d']) AS item_id,
            unnest(['Socks & <b>shoes</b>', NULL, 'Hat', 'Coat']) AS title, {DS} AS ds""",
    "features.traffic_daily": f"""
        SELECT 900 + d AS n_events, 30 AS n_users, 0 AS n_requests, 0 AS n_impressions,
            {DS} - d::INTEGER AS ds
        FROM range(3) AS t(d)""",
    "features.popularity_daily": f"""
        SELECT unnest(['{HOSTILE}', 'item-b', 'item-b']) AS item_id,
            unnest(['click', 'click', 'impression']) AS behaviour,
            unnest([40, 80, 300]) AS n_events, 1 AS n_users, 0 AS n_requests, {DS} AS ds""",
    "features.item_propensities": f"""
        SELECT unnest(['{HOSTILE}', 'item-b', 'item-c', 'item-d']) AS item_id, 1 AS n_impressions,
            1 AS n_events, unnest([1.0, 0.2, 0.01, 0.01]) AS p_exposed,
            unnest([false, false, true, true]) AS is_clipped,
            'popularity_power_law' AS estimator, {DS} AS ds""",
    "features.impression_propensities": f"""
        SELECT 'logged' AS estimator, unnest([0.002, 0.03, 0.5, 0.002]) AS p_exposed,
            unnest([true, false, false, false]) AS is_clipped, {DS} AS ds""",
    "features.examination": f"""
        SELECT unnest(['harvesting', 'harvesting', 'em']) AS method, unnest([1, 2, 1]) AS position,
            unnest([1.0, 0.5, 1.0]) AS theta, unnest([NULL, 0.01, 0.1]) AS se, 1200 AS n_slots,
            unnest([true, true, false]) AS is_used, {DS} AS ds""",
    "train.metrics": f"""
        SELECT unnest(['bpr', 'popularity', 'bpr', 'bpr', 'popularity', 'popularity', 'bpr', 'bpr'])
            AS model, 'v1' AS model_version,
            unnest(['time split', 'time split', 'time split', 'snips', 'time split', 'snips',
                'snips', 'lists']) AS evaluation,
            unnest(['users', 'users', 'pairs', 'pairs', 'pairs', 'pairs', 'pairs', 'users'])
            AS average,
            unnest(['recall', 'recall', 'recall', 'recall', 'recall', 'recall', 'recall',
                'novelty']) AS metric,
            20 AS k, unnest(['all', 'all', 'all', 'all', 'all', 'all', 'popularity', 'all'])
            AS segment_kind,
            unnest(['all', 'all', 'all', 'all', 'all', 'all', 'tail', 'all']) AS segment,
            unnest([0.1234, 0.0567, 0.21, 0.11, 0.07, 0.06, 0.03, 4.5]) AS value,
            unnest([NULL, NULL, 0.19, 0.1, 0.05, 0.04, 0.02, 4.4]) AS lower,
            unnest([NULL, NULL, 0.23, 0.12, 0.09, 0.08, 0.04, 4.6]) AS upper,
            3 AS n_users, 9 AS n_pairs, 'a mean of something' AS estimand, {DS} AS ds""",
    "train.propensity_diagnostics": f"""
        SELECT 'item propensity' AS weight, unnest(['balance', 'calibration']) AS measure,
            unnest(['policy_score', 'tenth 1 of popularity']) AS about,
            unnest([0.9, NULL]) AS before, unnest([0.7, 1.01]) AS value,
            unnest(['fail', 'pass']) AS verdict, 'what it means' AS sentence, {DS} AS ds""",
    "train.policy_values": f"""
        SELECT 'click' AS behaviour, unnest(['uniform', 'uniform', 'rare']) AS policy,
            'each item is as likely' AS states, 'all' AS segment_kind, 'all' AS segment,
            'all positions' AS slots,
            unnest(['naive', 'snips', 'snips']) AS estimator,
            unnest([0.21, 0.12, NULL]) AS value, 0.01 AS se,
            unnest([0.20, 0.10, NULL]) AS lower, unnest([0.22, 0.14, NULL]) AS upper,
            900 AS n_slots, 400.0 AS ess, unnest(['ok', 'ok', 'no overlap']) AS verdict,
            'what it means' AS sentence, {DS} AS ds""",
    "serve.verdicts": f"""
        SELECT 'rel-1' AS release_id, unnest(['value', 'coverage']) AS rule,
            unnest([-0.14, 4.0]) AS observed, unnest([-0.1, 2.0]) AS bound,
            unnest(['hold', 'pass']) AS verdict, 'because of it' AS sentence, {DS} AS ds""",
    "serve.comparisons": f"""
        SELECT 'rel-1' AS release_id, unnest(['bpr', 'popularity']) AS model,
            unnest([true, false]) AS is_candidate, 'bpr' AS champion_model, 'dr' AS estimator,
            'click' AS reward, 'all' AS segment_kind, unnest([-0.125, NULL]) AS change,
            unnest([-0.2, NULL]) AS lower, unnest([-0.05, NULL]) AS upper, 300 AS n_users,
            812.4 AS ess, unnest(['ok', 'no overlap']) AS verdict, {DS} AS ds""",
    "serve.causal_edges": f"""
        SELECT '{HOSTILE}' AS cause, unnest(['item-b', 'item-d']) AS effect,
            unnest([3.456, 1.2]) AS strength, 7 AS support, 0.1 AS control_strength,
            unnest([NULL, 0.25]) AS mean_effect, 'causalrec' AS model, {DS} AS ds""",
    "serve.active_users": f"SELECT unnest({list(USERS)}) AS user_id, {DS} AS ds",
    "serve.eligible_items": f"SELECT item_id, {DS} AS catalogue_ds, {DS} AS ds FROM clean.items",
    "serve.recommendations": f"""
        SELECT unnest(['rel-1', 'rel-1', 'rel-1', 'rel-1', 'rel-0']) AS release_id, {DS} AS ds,
            unnest(['user-ann', 'user-ann', 'user-bob', 'user-cid', 'user-cid']) AS user_id,
            unnest([1, 2, 1, 1, 1]) AS rank,
            unnest(['{HOSTILE}', 'item-b', '{HOSTILE}', 'item-b', 'item-d']) AS item_id,
            1.0 AS score, 'bpr' AS model, 'v1' AS model_version,
            unnest(['model', 'model', 'model', 'cold fill', 'model']) AS source""",
    "serve.shortfalls": f"""
        SELECT 'rel-1' AS release_id, {DS} AS ds, unnest(['user-bob', 'user-cid']) AS user_id,
            1 AS n_rows, 4 AS n_eligible, 2 AS n_seen, 'everything else is seen' AS reason""",
    "serve.publications": f"""
        SELECT unnest(['rel-0', 'rel-1']) AS release_id, {DS} AS ds,
            unnest(['hold', 'publish']) AS action, 'Nothing shrank.' AS reason, 'nightly' AS who,
            unnest([{AT}, {AT} + INTERVAL 1 MINUTE]) AS decided_at, 'bpr' AS model, 3 AS n_users,
            4 AS n_rows, 'run-9' AS run_id""",
}  # fmt: skip


def warehouse(path: Path, rows: dict[str, str]) -> None:
    with duckdb.connect(str(path)) as con:
        con.execute("SET TimeZone = 'UTC'")
        for layer in LAYERS:
            con.execute(f"CREATE SCHEMA {layer}")
        for name, table in catalogue().items():
            columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
            con.execute(f"CREATE TABLE {name} ({columns})")
        for name, select in rows.items():
            con.execute(f"INSERT INTO {name} BY NAME {select}")


@pytest.fixture(scope="module")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    path = tmp_path_factory.mktemp("lake") / "warehouse.duckdb"
    warehouse(path, ROWS)
    with connect(path, read_only=True) as con:
        yield con


@pytest.fixture(scope="module")
def page(con: duckdb.DuckDBPyConnection) -> str:
    return render_night(con, NIGHT)


def text_of(html: str) -> str:
    """What a reader reads: tags and styles gone, white space folded."""
    body = re.sub(r"<(style|svg)\b.*?</\1>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.mark.parametrize(
    "said",
    [
        "2026-01-25",
        "published The gate passed.",
        "release rel-1 of this night, 4 rows for 3 users, model bpr",
        "Publish by nightly, 2026-01-26 02:01:00 UTC: Nothing shrank.",
        "3 of 3 active",
        "50.0 % 2 of 4 items",
        "ingest ✓ done 4,321 2.0 KiB 2.25 s 300.0 MiB 1.50 s",
        "train bpr ✕ failed 4,321 2.0 KiB 2.25 s 300.0 MiB 2 min 30 s",
        "✕ warning clean.events items are known 77 of 888 events",
        "clean.events 2 checks, 1 failed",
        "events 2 3.0 KiB 1,000 970 10 20 1",
        "occurred_at is no time 20 1",
        "popularity reweighting (power law) ; 4 items, 2 (50.0 %) raised to the clip",
        "recall 20 bpr v1 0.1234 – 3",
        "novelty (bits) 20 bpr v1 4.5000 4.4000 to 4.6000 3",
        "bpr: recall 0.2100 on the time split, 0.1100 had every item been as likely to be shown: "
        "the time split credits it with finding what was shown anyway.",
        "popularity: recall 0.0700 on the time split, 0.0600 had every item been as likely to be "
        "shown: the intervals meet, so no effect of exposure can be told.",
        "bpr recall 20 0.2100 0.1900 to 0.2300 – 0.1100 0.1000 to 0.1200",
        "bpr popularity tail – – 0.0300 0.0200 to 0.0400",
        "No positive pair came from a randomised request",
        "model bpr v1 3 75.0 % 2",
        "item-b – 66.7 % 1.5 1",
        "item-b 3.46 0.1 7 –",
        " 1.2 0.1 7 0.25",
        "2 users (66.7 % of the active) have fewer rows",
        "everything else is seen 2 2 1",
    ],
)
def test_it_says(page: str, said: str) -> None:
    assert said in text_of(page)


def test_only_the_newest_run_is_shown(page: str) -> None:
    assert "an older stage" not in page
    assert "An earlier run" not in page
    assert "rel-0" not in page


def test_failed_checks_come_first_the_gravest_before_the_others(page: str) -> None:
    places = [page.index(what) for what in ("nothing is seen", "items are known", "no gap")]
    assert places == sorted(places)
    assert places[-1] < page.index("events are there")


def test_pictures_have_a_text_and_no_two_elements_one_id(page: str) -> None:
    assert page.count("<svg") == page.count('role="img" aria-label=') == 10
    assert page.count("<figcaption>") == 10
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", page)) <= set(ids)


def test_no_user_and_no_raw_text_is_on_it(page: str) -> None:
    assert not [user for user in USERS if user in page]
    assert "raw text" not in page


def test_hostile_text_is_escaped(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2
    assert "Socks &amp; &lt;b&gt;shoes&lt;/b&gt;" in page


def test_it_stands_alone(page: str) -> None:
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"@import|<link|<img|<iframe|\ssrc=", page)
    assert not re.findall(r'href="(?!#)', page)
    assert not re.findall(r"url\((?!#)", page)


def test_its_tags_are_balanced(page: str) -> None:
    class Balance(HTMLParser):
        open_tags: list[str]

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

    parser = Balance()
    parser.open_tags = []
    parser.feed(page)
    assert parser.open_tags == []


def test_same_rows_same_bytes(con: duckdb.DuckDBPyConnection, page: str) -> None:
    assert render_night(con, NIGHT) == page


def test_it_shows_whether_propensities_can_be_trusted(page: str) -> None:
    said = text_of(page)
    assert "item propensity balance policy score 0.900 0.700 fail" in said
    assert "item propensity calibration tenth 1 of popularity – 1.010 pass" in said
    assert "own logged probability ; 4 impressions of the day, 1 (25.0 %) raised to 0.002" in said


def test_it_shows_how_often_positions_are_examined(page: str) -> None:
    said = text_of(page)
    assert "by intervention harvesting" in said
    assert "1 1.000 – 1,200 2 0.500 0.010 1,200" in said


def test_it_shows_the_rules_of_the_gate_and_who_challenged(page: str) -> None:
    said = text_of(page)
    assert "‖ hold -0.14 -0.1 because of it" in said
    assert "✓ pass 4 2 because of it" in said
    assert "bpr bpr click, dr -12.5 % -20.0 to -5.0 % 300 812 ok" in said
    assert "popularity bpr click, dr – – 300 812 no overlap" in said
    assert 'id="comparisons-' in page


def test_it_shows_what_other_policies_would_have_earned(page: str) -> None:
    said = text_of(page)
    assert "click uniform snips 0.1200 0.1000 to 0.1400 ok" in said
    assert "click rare snips – – no overlap" in said
    assert 'id="policies-' in page


def test_it_is_written_whole(con: duckdb.DuckDBPyConnection, page: str, tmp_path: Path) -> None:
    path = write_night(con, NIGHT, tmp_path / "reports")
    assert path == tmp_path / "reports" / "2026-01-25.html"
    assert path.read_text(encoding="utf-8") == page
    assert list(path.parent.iterdir()) == [path]


def test_another_night_says_what_it_lacks(con: duckdb.DuckDBPyConnection) -> None:
    said = text_of(render_night(con, date(2025, 12, 1)))
    for words in (
        "No run of this night has ended yet",
        "release rel-1 of 2026-01-25",
        "No stage of this night was recorded",
        "No check was made",
        "No file was delivered",
        "No propensity was estimated",
        "No model was measured",
        "No probability was logged",
        "No request logged what it did not show",
        "This night made no release",
    ):
        assert words in said


def test_a_backfilled_night_says_what_made_it(con: duckdb.DuckDBPyConnection) -> None:
    said = text_of(render_night(con, date(2025, 12, 2)))
    assert "No run of this night has ended; a backfill made it" in said
    assert "unfinished" not in said
    assert (
        "Backfill plan plan-1 , as known then: swapped in, 2026-01-26 03:00:00 UTC, release "
        "rel-of-plan : No rule spoke against it"
    ) in said
    assert "plan-0" not in said
    assert HOSTILE not in render_night(con, date(2025, 12, 2))


def test_a_night_that_ran_says_what_a_backfill_did_about_it(page: str) -> None:
    said = text_of(page)
    assert "The gate passed." in said
    assert "plan-0 , as known when it was planned, 2026-01-26 02:00:00 UTC: failed, " in said


def test_empty_tables_make_a_page(tmp_path: Path) -> None:
    warehouse(tmp_path / "warehouse.duckdb", {})
    with connect(tmp_path / "warehouse.duckdb", read_only=True) as con:
        page = render_night(con, NIGHT)
    assert "nothing was ever published" in page
    assert "<svg" not in page


def test_absent_tables_make_a_page() -> None:
    with connect() as con:
        assert "nothing was ever published" in render_night(con, NIGHT)


def test_a_held_night_shows_why_and_what_is_served_instead(tmp_path: Path) -> None:
    held = f"""
        SELECT 'run-9' AS run_id, 'held' AS outcome, 'A third of the users went missing.' AS reason,
            'rel-1' AS release_id, {AT} AS started_at, {AT} AS ended_at, {DS} AS ds"""
    served = f"""
        SELECT unnest(['rel-0', 'rel-1']) AS release_id, unnest([{DS} - 1, {DS}]) AS ds,
            unnest(['publish', 'hold']) AS action, 'why' AS reason, 'nightly' AS who,
            unnest([{AT}, {AT} + INTERVAL 1 DAY]) AS decided_at, 'bpr' AS model, 3 AS n_users,
            4 AS n_rows, 'run' AS run_id"""
    rows = {**ROWS, "ops.nights": held, "serve.publications": served}
    warehouse(tmp_path / "warehouse.duckdb", rows)
    with connect(tmp_path / "warehouse.duckdb", read_only=True) as con:
        said = text_of(render_night(con, NIGHT))
    assert "held A third of the users went missing." in said
    assert "Served now: release rel-0 of 2026-01-24" in said
    assert "Last decision: hold" in said
