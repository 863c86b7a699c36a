"""A small night that passes every check, and the means to plant faults in it."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

import sql as selects
from expectations.catalogue import stored
from tasks.records import CheckResult

DS = "DATE '2026-01-05'"
AT = "TIMESTAMPTZ '2026-01-05 10:00:00+00'"
LATER = "TIMESTAMPTZ '2026-01-06 02:00:00+00'"

# Three users, four items (D is out of stock), k = 2; ann bought A, cid has but one item left.
ROWS = {
    "clean.events": f"""
        SELECT
            'e' || i, ['ann', 'bob', 'cid'][1 + i % 3], ['A', 'B', 'C'][1 + i % 3],
            CASE WHEN i % 3 = 0 THEN 'purchase' ELSE 'click' END,
            {AT} + to_minutes(i), {LATER}, NULL, NULL, NULL, 9.5, NULL, 'f1', {DS}
        FROM range(12) AS t(i)""",
    "clean.impressions": f"""
        SELECT
            'm' || i, 'r' || i // 2, 'ann', ['A', 'B'][1 + i % 2], true, 1 + i % 2, 'ranker', '1',
            0.5, 0.25, {AT} + to_minutes(i), {LATER}, NULL, NULL, 'f1', {DS}
        FROM range(6) AS t(i)""",
    "clean.items": f"""
        SELECT
            unnest(['A', 'B', 'C', 'D']), 'c', 't', 'b', 'title', 5.0,
            unnest([true, true, true, false]), NULL, {LATER}, NULL, 'f1', {DS}""",
    "clean.users": f"""
        SELECT unnest(['ann', 'bob', 'cid']), '20-29', 'NZ', {DS}, {LATER}, NULL, 'f1', {DS}""",
    "features.behaviours_daily": """
        SELECT user_id, item_id, behaviour, count(*), min(occurred_at), max(occurred_at), ds
        FROM clean.events GROUP BY ALL""",
    "features.traffic_daily": f"SELECT 12, 3, 3, 6, {DS}",
    "features.popularity_daily": """
        SELECT item_id, behaviour, count(*), count(DISTINCT user_id), 0, ds
        FROM clean.events GROUP BY ALL
        UNION ALL
        SELECT item_id, 'impression', count(*), 1, count(DISTINCT request_id), ds
        FROM clean.impressions GROUP BY ALL""",
    "features.user_history_daily": """
        SELECT
            user_id, count(*),
            list({occurred_at: occurred_at, item_id: item_id, behaviour: behaviour}
                ORDER BY occurred_at),
            ds
        FROM clean.events GROUP BY ALL""",
    "features.impression_propensities": """
        SELECT
            impression_id, request_id, user_id, item_id, position, policy, p_logged, 0.3, 0.3,
            false, 'exposure_share', ds
        FROM clean.impressions""",
    "features.feedback_daily": """
        SELECT
            impression_id, request_id, user_id, item_id, position, policy, 0.5, p_logged,
            ['click'], ds
        FROM clean.impressions""",
    "features.exposure_daily": f"SELECT unnest(['A', 'B']), 0, 3, 3, {DS}",
    "features.examination": f"""
        SELECT 'em', unnest([1, 2]), unnest([1.0, 0.5]), 0.1, 3, unnest([2, 1]), true, {DS}""",
    "features.item_propensities": """
        SELECT item_id, 1, 2, 0.3, false, 'exposure_share', ds FROM clean.items""",
    "train.examples": f"""
        SELECT unnest(['ann', 'bob']), 'A', 1.0, 2, {AT} - INTERVAL 3 DAY, {DS}""",
    "train.holdout": f"SELECT 'ann', unnest(['A', 'B']), 1.0, 1, {AT}, unnest([false, true]), {DS}",
    "train.metrics": f"""
        SELECT
            'v1', 'snips', 'pairs', 'recall', 20, 'all', 'all', 0.4, 0.1, 0.2, 0.6, 300, 900,
            400.0, 'a mean over pairs', {DS}, 'bpr'""",
    "train.epochs": f"SELECT 1, 0.7, 0.1, 0.5, 1, true, {DS}, 'bpr'",
    "train.policy_values": f"""
        SELECT
            'click', 'uniform', 'each item is as likely', 'all', 'all', 'all positions', 'snips',
            0.1, 0.01, 0.08, 0.12, 900, 300, 400.0, 1.0, 9.0, 'ok', 'the log speaks', {DS}""",
    "train.propensity_diagnostics": f"""
        SELECT 'item propensity', 'balance', 'popularity', 0.5, 0.01, 'pass', 'like it', {DS}""",
    "serve.active_users": f"SELECT unnest(['ann', 'bob', 'cid']), 4, {AT}, {DS}",
    "serve.eligible_items": f"SELECT unnest(['A', 'B', 'C']), {DS}, {DS}",
    "serve.seen_items": f"""
        SELECT unnest(['ann', 'cid', 'cid']), unnest(['A', 'A', 'B']), {DS}""",
    "serve.trials": f"""
        SELECT unnest(['ann', 'ann', 'bob']), unnest([1, 2, 1]), unnest(['A', 'B', 'C']),
            unnest([0.9, 0.5, 0.7]), {DS} - 3, {DS}, 'rel-1', 'bpr'""",
    "serve.comparisons": f"""
        SELECT 'bpr', true, 'rel-0', 'bpr', 'dr', 'click', 'all', 'all', 0.2, 0.19, 0.05, 0.02,
            0.01, 0.09, 900, 300, 400.0, 'ok', {DS} - 3, 'rel-1', {DS}""",
    "serve.candidates": f"""
        SELECT
            unnest(['ann', 'ann', 'bob', 'bob', 'cid']), unnest([1, 2, 1, 2, 1]),
            unnest(['B', 'C', 'A', 'B', 'C']), unnest([2.0, 1.0, 2.0, 2.0, 1.0]), NULL, 'v1',
            {DS}, 'bpr'""",
    "serve.causal_edges": f"""
        SELECT unnest(['A', 'B']), 'C', 2.5, 7, 0.1, unnest([0.2, NULL]), 'v1', {DS},
            'causalrec'""",
    "serve.recommendations": f"""
        SELECT
            'rel', {DS}, user_id, rank, item_id, score, model, model_version, 'model',
            {{kind: 'taste', n_users: 2, last_at: NULL, because: NULL}}, ['in stock'], NULL
        FROM serve.candidates""",
    "serve.shortfalls": f"SELECT 'rel', {DS}, 'cid', 1, 3, 2, 'nothing else is unseen'",
    "ops.models": f"""
        SELECT
            'rel', 'bpr', 'v1', '{{}}', 1, 0.2, 0.1, 3, 4, 5, 1, false, NULL, ['train.examples@1'],
            '3', '2', 'cpu', 1.5, {LATER}, {DS}""",
    "ops.files": f"""
        SELECT
            'f1', 'events', 'events/1.jsonl', 'abc', 100, {LATER}, {LATER}, 'ingested', NULL,
            100, 97, 1, 2, {DS}, {DS}, {LATER}, 'mapping', NULL, 'run', {DS}""",
    "ops.quarantine": f"""
        SELECT
            'f1', 'events', 'events/1.jsonl', unnest([3, 4]), 'no user', '{{}}', {LATER}, {DS}""",
}  # fmt: skip


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("night") / "checks.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("SET TimeZone = 'UTC'")
        for name in ("upto", "night", *sorted({name.split(".")[0] for name in stored()})):
            con.execute(f"CREATE SCHEMA {name}")
        for name, table in stored().items():
            columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
            con.execute(f"CREATE TABLE {name} ({columns})")
            con.execute(f"CREATE VIEW upto.{name.replace('.', '_')} AS SELECT * FROM {name}")
        con.execute(f"CREATE VIEW upto.ops_drift AS {selects.read_table('ops.drift')}")
        for name, select in ROWS.items():
            con.execute(f"INSERT INTO {name} {select}")
        con.execute(
            f"""CREATE TABLE night.facts AS SELECT
                {DS} AS ds, 2 AS k, 0.5::DOUBLE AS min_day_share,
                0.5::DOUBLE AS min_catalogue_share, ['purchase'] AS seen,
                true AS has_impressions, true AS has_items, true AS has_users, 30 AS history_days"""
        )
    return path


@pytest.fixture
def night(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(good, tmp_path / "checks.duckdb"))


def change(night: Path, sql: str) -> None:
    with duckdb.connect(str(night)) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(sql)


def failed(results: list[CheckResult]) -> list[CheckResult]:
    return [result for result in results if not result.is_passed]


def finding(results: list[CheckResult], what: str) -> CheckResult:
    (found,) = [result for result in results if what in result.what]
    return found


def past_days(*, days: int, rows: int) -> str:
    """`days` days before the night with `rows` events each, below the night's own."""
    return f"""
        CREATE OR REPLACE VIEW upto.clean_events AS
        SELECT * FROM clean.events
        UNION ALL BY NAME
        SELECT e.* EXCLUDE (ds), {DS} - d.day::INTEGER AS ds
        FROM (FROM clean.events LIMIT 1) AS e,
            range(1, {days} + 1) AS d(day), range({rows}) AS r(row)"""


class UseSuite:
    """Puts a suite of one check in the place of clean.events'."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, sql: str | None, **entry: object) -> None:
        full = {"what": "it holds", "severity": "critical", **entry}
        if sql is not None:
            full |= {"type": "UnexpectedRowsExpectation", "unexpected_rows_query": sql}
        (self.folder / "clean.events.json").write_text(json.dumps([full]))


@pytest.fixture
def use_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UseSuite:
    monkeypatch.setattr("tasks.validate.suites.FOLDER", tmp_path)
    return UseSuite(tmp_path)
