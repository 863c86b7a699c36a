"""A small night that passes every check, and one planted fault per rule that must be caught."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import sql as selects
from expectations.catalogue import stored
from tasks.errors import SettingsError, StorageError
from tasks.records import CheckResult
from tasks.validate import read_suite, suite_names, validate

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
            impression_id, request_id, user_id, item_id, position, policy, p_logged, 0.3, false,
            'exposure_share', ds
        FROM clean.impressions""",
    "features.feedback_daily": """
        SELECT
            impression_id, request_id, user_id, item_id, position, policy, 0.5, p_logged,
            ['click'], ds
        FROM clean.impressions""",
    "features.item_propensities": """
        SELECT item_id, 1, 2, 0.3, false, 'exposure_share', ds FROM clean.items""",
    "train.examples": f"""
        SELECT unnest(['ann', 'bob']), 'A', 1.0, 2, {AT} - INTERVAL 3 DAY, {DS}""",
    "train.holdout": f"SELECT 'ann', unnest(['A', 'B']), 1.0, 1, {AT}, unnest([false, true]), {DS}",
    "train.metrics": f"SELECT 'v1', 'recall', 20, 0.4, 3, {DS}, 'bpr'",
    "train.policy_values": f"""
        SELECT
            'click', 'uniform', 'each item is as likely', 'all positions', 'snips', 0.1, 0.01,
            0.08, 0.12, 900, 300, 400.0, 1.0, 9.0, 'ok', 'the log speaks', {DS}""",
    "train.propensity_diagnostics": f"""
        SELECT 'item propensity', 'balance', 'popularity', 0.5, 0.01, 'pass', 'like it', {DS}""",
    "serve.active_users": f"SELECT unnest(['ann', 'bob', 'cid']), 4, {AT}, {DS}",
    "serve.eligible_items": f"SELECT unnest(['A', 'B', 'C']), {DS}, {DS}",
    "serve.seen_items": f"""
        SELECT unnest(['ann', 'cid', 'cid']), unnest(['A', 'A', 'B']), {DS}""",
    "serve.candidates": f"""
        SELECT
            unnest(['ann', 'ann', 'bob', 'bob', 'cid']), unnest([1, 2, 1, 2, 1]),
            unnest(['B', 'C', 'A', 'B', 'C']), unnest([2.0, 1.0, 2.0, 2.0, 1.0]), 'v1', {DS}, 'bpr'
        """,
    "serve.recommendations": f"""
        SELECT
            'rel', {DS}, user_id, rank, item_id, score, model, model_version, 'model',
            {{kind: 'taste', n_users: 2, last_at: NULL}}, ['in stock'], NULL
        FROM serve.candidates""",
    "serve.shortfalls": f"SELECT 'rel', {DS}, 'cid', 1, 3, 2, 'nothing else is unseen'",
    "ops.files": f"""
        SELECT
            'f1', 'events', 'events/1.jsonl', 'abc', 100, {LATER}, {LATER}, 'ingested', NULL,
            100, 97, 1, 2, {DS}, {DS}, {LATER}, 'mapping', NULL, 'run', {DS}""",
    "ops.quarantine": f"""
        SELECT
            'f1', 'events', 'events/1.jsonl', unnest([3, 4]), 'no user', '{{}}', {LATER}, {DS}""",
}  # fmt: skip


@pytest.fixture(scope="module")
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


def test_a_good_night_passes_every_check(good: Path) -> None:
    results = validate(good, suite_names())
    assert failed(results) == []
    expected = [(name, c.check_id) for name in suite_names() for c in read_suite(name)]
    assert [(result.table_name, result.check_id) for result in results] == expected


def test_results_carry_words_and_counts(good: Path) -> None:
    first, *_, last = validate(good, ["clean.events"])
    assert first == CheckResult(
        "clean.events", 1, "the day has events", "ExpectTableRowCountToBeBetween", "critical",
        is_passed=True, observed="12", n_rows=12, n_unexpected=None,
    )  # fmt: skip
    assert (last.n_rows, last.n_unexpected, last.observed) == (12, 0, None)


@pytest.mark.parametrize(
    "table",
    [
        "clean.events", "clean.impressions", "clean.items", "clean.users",
        "features.behaviours_daily", "features.popularity_daily", "features.traffic_daily",
        "features.user_history_daily", "features.item_propensities", "train.examples",
        "serve.active_users", "serve.eligible_items", "serve.candidates", "serve.recommendations",
    ],
)  # fmt: skip
def test_an_empty_table_stops_the_night(night: Path, table: str) -> None:
    change(night, f"DELETE FROM {table}")
    assert any(result.stops_the_night for result in validate(night, [table])[:2])


@pytest.mark.parametrize(
    "table",
    [
        "ops.quarantine",
        "train.holdout",
        "train.metrics",
        "train.policy_values",
        "train.propensity_diagnostics",
        "serve.seen_items",
    ],
)
def test_an_empty_table_can_be_legitimate(night: Path, table: str) -> None:
    change(night, f"DELETE FROM {table}; UPDATE ops.files SET n_read = 98, n_quarantined = 0")
    change(night, "UPDATE night.facts SET seen = []")
    assert failed(validate(night, [table])) == []


def test_a_source_without_impressions_needs_none(night: Path) -> None:
    change(
        night,
        """DELETE FROM clean.impressions;
        DELETE FROM features.impression_propensities;
        UPDATE night.facts SET has_impressions = false""",
    )
    assert failed(validate(night, ["clean.impressions", "features.impression_propensities"])) == []


FAULTS = [
    ("clean.events", "UPDATE clean.events SET user_id = NULL WHERE event_id = 'e1'",
     "every event has a user", "critical", 1),
    ("clean.events", "INSERT INTO clean.events FROM clean.events LIMIT 1",
     "counts once", "critical", 1),
    ("clean.events", f"UPDATE clean.events SET arrived_at = {AT} - INTERVAL 20 HOUR "
     "WHERE event_id = 'e1'", "nothing occurred more than 14 hours", "warning", 1),
    ("clean.events", f"UPDATE clean.events SET arrived_at = {AT} - INTERVAL 20 HOUR",
     "at most 1 % of events occurred", "critical", 12),
    ("clean.events", f"UPDATE clean.events SET occurred_at = {LATER} WHERE event_id = 'e2'",
     "UTC date of occurrence", "critical", 1),
    ("clean.events", "UPDATE clean.events SET behaviour = 'Add To Cart' WHERE event_id = 'e2'",
     "lower-case", "critical", 1),
    ("clean.events", "UPDATE clean.events SET event_id = 'e1', arrived_at = arrived_at "
     "+ INTERVAL 1 HOUR WHERE event_id = 'e2'", "counts once", "critical", 1),
    ("clean.events", f"UPDATE clean.events SET superseded_at = {AT} WHERE event_id = 'e2'",
     "superseded by a later one", "critical", 1),
    ("clean.events", "UPDATE clean.events SET value = 'inf' WHERE event_id = 'e2'",
     "finite", "warning", 1),
    ("clean.events", "DELETE FROM clean.items WHERE item_id = 'A'",
     "an item that clean.items does not know", "warning", 4),
    ("clean.events", "DELETE FROM clean.users WHERE user_id = 'bob'",
     "a user that clean.users does not know", "warning", 4),
    ("clean.impressions", "UPDATE clean.impressions SET p_logged = 0 WHERE impression_id = 'm1'",
     "logged probabilities", "critical", 1),
    ("clean.impressions", "UPDATE clean.impressions SET p_logged = 'nan'",
     "logged probabilities", "critical", 6),
    ("clean.impressions", "UPDATE clean.impressions SET position = 0 WHERE impression_id = 'm0'",
     "positions start at 1", "critical", 1),
    ("clean.impressions", "UPDATE clean.impressions SET position = NULL WHERE impression_id = 'm0'",
     "what was shown has a position", "critical", 1),
    ("clean.impressions", "UPDATE clean.impressions SET position = 1 WHERE request_id = 'r0'",
     "one item per position", "warning", 1),
    ("clean.items", "UPDATE clean.items SET is_in_stock = false",
     "something is in stock", "critical", 4),
    ("clean.items", "UPDATE clean.items SET price = -1 WHERE item_id = 'A'",
     "prices", "warning", 1),
    ("clean.users", "UPDATE clean.users SET joined_on = ds + 1 WHERE user_id = 'ann'",
     "nobody joined", "warning", 1),
    ("features.behaviours_daily", "UPDATE features.behaviours_daily SET n_events = n_events + 1",
     "counted once", "critical", 3),
    ("features.behaviours_daily", f"UPDATE features.behaviours_daily SET last_at = {LATER} "
     "WHERE user_id = 'ann'", "on the day", "critical", 1),
    ("features.traffic_daily", "INSERT INTO features.traffic_daily FROM features.traffic_daily",
     "the day has one row", "critical", None),
    ("features.traffic_daily", "UPDATE features.traffic_daily SET n_users = 13",
     "users do not outnumber", "critical", 1),
    ("features.popularity_daily", "DELETE FROM features.popularity_daily "
     "WHERE behaviour = 'impression'", "shown impression that stands", "critical", 6),
    ("features.user_history_daily", "UPDATE features.user_history_daily "
     "SET steps = list_reverse(steps) WHERE user_id = 'bob'", "order of occurrence", "critical", 1),
    ("features.user_history_daily", "UPDATE features.user_history_daily SET steps = steps[2:]",
     "one step per event", "critical", 3),
    ("features.impression_propensities", "UPDATE features.impression_propensities "
     "SET p_exposed = 'nan' WHERE impression_id = 'm0'", "propensities are", "critical", 1),
    ("features.impression_propensities", "DELETE FROM features.impression_propensities "
     "WHERE impression_id = 'm0'", "shown impression that stands", "critical", 1),
    ("features.feedback_daily", "DELETE FROM features.feedback_daily "
     "WHERE impression_id = 'm0'", "shown impression that stands", "critical", 1),
    ("train.propensity_diagnostics", "UPDATE train.propensity_diagnostics SET verdict = 'fail'",
     "passed", "warning", 1),
    ("train.policy_values", "UPDATE train.policy_values SET upper = 'nan'",
     "finite", "critical", 1),
    ("train.policy_values", "UPDATE train.policy_values SET verdict = 'no overlap'",
     "the log speaks", "warning", 1),
    ("features.item_propensities", "UPDATE features.item_propensities SET p_exposed = 0 "
     "WHERE item_id = 'A'", "propensities are", "critical", 1),
    ("features.item_propensities", "UPDATE features.item_propensities "
     "SET estimator = 'popularity_power_law' WHERE item_id = 'A'", "one estimator", "critical", 4),
    ("features.item_propensities", "UPDATE features.item_propensities SET is_clipped = true",
     "clipped", "warning", 4),
    ("train.examples", f"UPDATE train.examples SET last_at = {AT} WHERE user_id = 'ann'",
     "days held out", "critical", 1),
    ("train.examples", "UPDATE train.examples SET weight = 0 WHERE user_id = 'ann'",
     "weights", "critical", 1),
    ("train.holdout", "UPDATE train.holdout SET is_new = true", "a pair is new", "critical", 1),
    ("train.metrics", "UPDATE train.metrics SET value = 1.5", "from 0 to 1", "critical", 1),
    ("serve.eligible_items", f"INSERT INTO serve.eligible_items VALUES ('D', {DS}, {DS})",
     "in stock and on sale", "critical", 1),
    ("serve.eligible_items", "UPDATE serve.eligible_items SET catalogue_ds = ds + 1",
     "after the night", "warning", 3),
    ("serve.seen_items", "DELETE FROM serve.seen_items WHERE user_id = 'ann'",
     "everything that an active user has seen", "critical", 1),
    ("serve.candidates", "UPDATE serve.candidates SET rank = 3 WHERE user_id = 'ann' AND rank = 2",
     "without a gap", "critical", 1),
    ("serve.candidates", "UPDATE serve.candidates SET item_id = 'D' WHERE user_id = 'cid'",
     "may be recommended", "critical", 1),
    ("serve.recommendations", "UPDATE serve.recommendations SET item_id = 'A' "
     "WHERE user_id = 'ann' AND rank = 1", "its user has seen", "critical", 1),
    ("serve.recommendations", "UPDATE serve.recommendations SET item_id = 'D' "
     "WHERE user_id = 'ann' AND rank = 1", "every item may be recommended", "critical", 1),
    ("serve.recommendations", "DELETE FROM serve.recommendations WHERE user_id = 'bob'",
     "every active user has k rows", "critical", 1),
    ("serve.recommendations", "DELETE FROM serve.shortfalls",
     "every active user has k rows", "critical", 1),
    ("serve.recommendations", "DELETE FROM serve.active_users WHERE user_id = 'bob'",
     "only active users", "critical", 2),
    ("serve.recommendations", "UPDATE night.facts SET k = 1", "longer than k", "critical", 2),
    ("serve.recommendations", "UPDATE serve.recommendations SET rank = 2 WHERE user_id = 'cid'",
     "without a gap", "critical", 1),
    ("serve.recommendations", "UPDATE serve.recommendations SET score = 'nan' "
     "WHERE user_id = 'cid'", "scores are finite", "critical", 1),
    ("serve.recommendations", "UPDATE serve.recommendations SET score = 9 WHERE rank = 2",
     "do not rise", "critical", 2),
    ("serve.recommendations", "UPDATE serve.recommendations SET model_version = 'v2' "
     "WHERE user_id = 'cid'", "one version", "critical", 1),
    ("serve.recommendations", "UPDATE serve.recommendations SET release_id = 'other' "
     "WHERE user_id = 'cid'", "there is one release", "critical", 5),
    ("serve.recommendations", "UPDATE serve.recommendations SET p_shown = 0.5 "
     "WHERE user_id = 'cid'", "beside what explores", "critical", 1),
    ("serve.shortfalls", "UPDATE serve.shortfalls SET n_rows = 2", "how many rows", "critical", 1),
    ("serve.shortfalls", "UPDATE serve.shortfalls SET n_rows = 2",
     "nobody with k rows", "critical", 1),
    ("ops.files", "UPDATE ops.files SET n_clean = 96", "accounted for", "critical", 1),
    ("ops.files", "UPDATE ops.files SET state = 'refused'", "no file was refused", "critical", 1),
    ("ops.files", "UPDATE ops.files SET n_clean = 90, n_quarantined = 9",
     "at most 5 %", "warning", 9),
    ("ops.files", "UPDATE ops.files SET n_clean = 39, n_quarantined = 60",
     "at most 50 %", "critical", 60),
    ("ops.quarantine", "DELETE FROM ops.quarantine WHERE line = 3",
     "what ops.files counted", "critical", 1),
    ("ops.quarantine", "DELETE FROM ops.files; INSERT INTO ops.quarantine BY NAME "
     "SELECT * REPLACE (5 AS line, repeat('x', 501) AS raw) FROM ops.quarantine LIMIT 1",
     "500 characters", "critical", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "fault", "what", "severity", "n_unexpected"),
    FAULTS,
    ids=[f"{table}-{what.replace(' ', '_')}-{i}" for i, (table, _, what, *_) in enumerate(FAULTS)],
)
def test_a_planted_fault_is_caught(
    night: Path, table: str, fault: str, what: str, severity: str, n_unexpected: int | None
) -> None:
    change(night, fault)
    (found,) = [r for r in validate(night, [table]) if what in r.what and not r.is_passed]
    assert (found.severity, found.n_unexpected) == (severity, n_unexpected)
    assert found.observed


@pytest.mark.parametrize(
    ("days", "rows", "caught"),
    [
        (7, 24, set()),
        (7, 25, {"warning"}),
        (7, 300, {"warning", "critical"}),
        (3, 300, {"warning", "critical"}),
        (2, 300, set()),
    ],
)
def test_a_thin_day_is_caught(night: Path, days: int, rows: int, caught: set[str]) -> None:
    change(night, past_days(days=days, rows=rows))
    found = failed(validate(night, ["clean.events"]))
    assert {result.severity for result in found} == caught
    assert {result.observed for result in found} <= {f"12 events, usually {rows}"}


def test_a_shrunken_catalogue_stops_the_night(night: Path) -> None:
    change(
        night,
        """CREATE OR REPLACE VIEW upto.clean_items AS SELECT * FROM clean.items
        UNION ALL
        SELECT i.* REPLACE (ds - 1 AS ds) FROM clean.items AS i, range(3)""",
    )
    (found,) = failed(validate(night, ["clean.items"]))
    assert (found.severity, found.observed) == ("critical", "4 items, 12 before")


def test_a_missing_column_fails_its_checks_and_hides_no_other(night: Path) -> None:
    change(night, "ALTER TABLE ops.quarantine DROP COLUMN raw")
    results = validate(night, ["ops.quarantine"])
    assert finding(results, "columns of the catalogue").observed == "missing: raw"
    broken = finding(results, "500 characters")
    assert not broken.is_passed
    assert 'column "raw" not found' in (broken.observed or "")
    assert len(failed(results)) == 2


def test_an_error_shows_no_raw_value(night: Path, use_suite: "UseSuite") -> None:
    use_suite("SELECT user_id::INTEGER FROM clean.events")
    (result,) = validate(night, ["clean.events"])
    assert not result.is_passed
    assert "Conversion Error" in (result.observed or "")
    assert "ann" not in str(result)


def test_a_table_that_cannot_be_read_fails_whole(night: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    change(
        night,
        f"""COPY clean.users TO '{tmp_path}/u.parquet'; DROP VIEW upto.clean_users;
        DROP TABLE clean.users;
        CREATE VIEW clean.users AS FROM read_parquet('{tmp_path}/u.parquet')""",
    )
    (tmp_path / "u.parquet").write_bytes(b"PAR1")
    results = validate(night, ["clean.users", "clean.items"])
    assert {result.table_name for result in failed(results)} == {"clean.users"}
    assert all("Invalid Input" in (result.observed or "") for result in failed(results))
    assert str(tmp_path) not in str(results)


def test_braces_and_parameters_reach_the_query(night: Path, use_suite: "UseSuite") -> None:
    use_suite("SELECT ds FROM clean.events WHERE NOT regexp_full_match(user_id, '[a-z]{3}')")
    (result,) = validate(night, ["clean.events"])
    assert result.is_passed
    use_suite(None, type="ExpectTableRowCountToEqual", value={"$PARAMETER": "n"})
    assert not validate(night, ["clean.events"], parameters={"n": 11})[0].is_passed
    assert validate(night, ["clean.events"], parameters={"n": 12})[0].is_passed


def test_an_unknown_type_of_expectation_is_refused(night: Path, use_suite: "UseSuite") -> None:
    use_suite(None, type="ExpectMiracles")
    with pytest.raises(SettingsError, match="cannot be made"):
        validate(night, ["clean.events"])


def test_a_database_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open"):
        validate(tmp_path / "absent.duckdb", ["clean.events"])


def test_nothing_is_printed_and_the_file_is_free_afterwards(
    night: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    validate(night, ["clean.items", "ops.quarantine"])
    assert capfd.readouterr() == ("", "")
    change(night, "DELETE FROM clean.items")


def test_importing_it_imports_neither_great_expectations_nor_sqlalchemy() -> None:
    code = (
        "import sys, tasks.validate; print({'great_expectations', 'sqlalchemy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


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
