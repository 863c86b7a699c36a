"""One planted fault per rule that must be caught, and what is no fault."""

from pathlib import Path

import pytest

from tasks.validate import validate
from tests.tasks.validate.conftest import AT, DS, LATER, change, failed, past_days


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
        "train.epochs",
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
    ("features.impression_propensities", "UPDATE features.impression_propensities "
     "SET is_clipped = true WHERE impression_id = 'm0'", "clipped from below only", "critical", 1),
    ("features.impression_propensities", "UPDATE features.impression_propensities "
     "SET estimator = 'logged' WHERE impression_id = 'm0'", "one estimator", "critical", 6),
    ("features.exposure_daily", "UPDATE features.exposure_daily SET n_requests = 4 "
     "WHERE item_id = 'A'", "in no more than there were", "critical", 1),
    ("features.exposure_daily", "UPDATE features.exposure_daily SET n_fold_requests = 9 "
     "WHERE item_id = 'A'", "one number of requests", "critical", 1),
    ("features.examination", "UPDATE features.examination SET theta = 'nan'",
     "finite", "critical", 2),
    ("features.examination", "UPDATE features.examination SET is_used = false",
     "one method is used", "critical", 2),
    ("features.examination", "UPDATE features.examination SET theta = 9 WHERE position = 2",
     "much more than the first", "warning", 1),
    ("features.feedback_daily", "DELETE FROM features.feedback_daily "
     "WHERE impression_id = 'm0'", "shown impression that stands", "critical", 1),
    ("train.propensity_diagnostics", "UPDATE train.propensity_diagnostics SET verdict = 'fail'",
     "passed", "warning", 1),
    ("train.policy_values", "UPDATE train.policy_values SET upper = 'nan'",
     "finite", "critical", 1),
    ("train.policy_values", "UPDATE train.policy_values SET verdict = 'no overlap'",
     "the log speaks", "warning", 1),
    ("serve.trials", "UPDATE serve.trials SET rank = 3 WHERE user_id = 'ann' AND rank = 2",
     "without a gap", "critical", 1),
    ("serve.trials", "UPDATE serve.trials SET cut = ds WHERE user_id = 'bob'",
     "before the night", "critical", 1),
    ("serve.trials", "UPDATE serve.trials SET item_id = 'D' WHERE user_id = 'bob'",
     "may be recommended", "critical", 1),
    ("serve.causal_edges", "UPDATE serve.causal_edges SET effect = 'A'",
     "causes itself", "critical", 1),
    ("serve.causal_edges", "UPDATE serve.causal_edges SET control_strength = 3 WHERE cause = 'A'",
     "stronger than its control", "critical", 1),
    ("serve.causal_edges", "UPDATE serve.causal_edges SET support = 0", "was seen", "critical", 2),
    ("serve.causal_edges", "UPDATE serve.causal_edges SET mean_effect = 'nan'",
     "finite", "critical", 2),
    ("serve.comparisons", "UPDATE serve.comparisons SET upper = 'inf'", "finite", "critical", 1),
    ("serve.comparisons", "UPDATE serve.comparisons SET verdict = 'no overlap'",
     "nothing is said", "critical", 1),
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
    ("train.metrics", "UPDATE train.metrics SET value = 1.5, upper = 2", "from 0 to 1",
     "critical", 1),
    ("train.metrics", "UPDATE train.metrics SET upper = 0.3", "in its interval", "critical", 1),
    ("train.metrics", "UPDATE train.metrics SET se = NULL", "in its interval", "critical", 1),
    ("train.metrics", "UPDATE train.metrics SET evaluation = 'guess'", "evaluation has one",
     "critical", 1),
    ("train.metrics", "UPDATE train.metrics SET ess = 40", "enough pairs", "warning", 1),
    ("train.epochs", "UPDATE train.epochs SET loss = 'inf'", "losses are finite", "critical", 1),
    ("train.epochs", "UPDATE train.epochs SET ess_share = 0.05", "carry", "warning", 1),
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
    ("ops.models", "UPDATE ops.models SET model_version = 'v0'",
     "every list that was made has its model", "critical", 1),
    ("ops.models", "UPDATE ops.models SET ndcg = 'nan'", "metrics are", "critical", 1),
    ("ops.models", "UPDATE ops.models SET is_warm_start = true",
     "names where it began", "critical", 1),
    ("train.epochs", "UPDATE train.epochs SET n_parts = 2", "memory was enough", "warning", 1),
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
