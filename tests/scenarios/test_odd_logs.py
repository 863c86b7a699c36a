"""Nights on logs that no sound shop writes: no NaN, no infinity, and what was odd is told."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expectations.catalogue import catalogue
from tasks.errors import QualityError
from tests.scenarios.nights import Place, found, leave_out_what_only_reads

N_DAYS = 4
Row = dict[str, Any]
ODD = {"1": 0, "2": -0.5, "3": 1.5, "4": "NaN", "5": "Infinity", "6": 1e-12}
MISFITS = {
    "out of range: propensity is not above 0 and at most 1",
    "not finite: propensity",
}


@pytest.fixture
def place(sample: Path, tmp_path: Path) -> Place:
    return found(Place(tmp_path), 0, N_DAYS, sample)


def change(place: Place, dataset: str, how: Callable[[Row], Row | None]) -> None:
    """Every sound record of a dataset, changed or left out."""
    for path in sorted(place.landing.glob(f"{dataset}/*/*.gz")):
        kept = []
        for line in gzip.decompress(path.read_bytes()).splitlines():
            try:
                row = how(json.loads(line))
            except ValueError:
                continue
            kept += [json.dumps(row)] if row else []
        path.write_bytes(gzip.compress("".join(f"{line}\n" for line in kept).encode()))


def assert_every_number_is_one(place: Place) -> None:
    """No NaN and no infinity in any table of features and train."""
    for table in catalogue().values():
        for column in table.columns:
            if table.layer in ("features", "train") and column.type == "DOUBLE":
                odd = f"SELECT count(*) FROM {table.name} WHERE NOT isfinite({column.name})"
                assert place.ask(odd) == [(0,)], (table.name, column.name)


def verdicts(place: Place, where: str = "true") -> set[str]:
    return {
        verdict
        for (verdict,) in place.ask(f"SELECT verdict FROM train.policy_values WHERE {where}")
    }


def test_probabilities_that_are_none_go_to_quarantine_and_tiny_ones_are_told(place: Place) -> None:
    """One request in ten has, from the top, 0, -0.5, 1.5, NaN, infinity and 1e-12."""

    def odd(row: Row) -> Row:
        is_odd = row["shown"] and row["request_id"].endswith("7")
        return row | {"propensity": ODD.get(str(row["position"]), 0.5)} if is_odd else row

    change(place, "impressions", odd)
    assert place.run().ending == "published"
    assert_every_number_is_one(place)
    reasons = dict(
        place.ask(
            "SELECT reason, count(*) FROM ops.quarantine WHERE dataset = 'impressions' GROUP BY 1"
        )
    )
    assert set(reasons) >= MISFITS
    n_tiny = place.ask("SELECT count(*) FROM clean.impressions WHERE p_logged < 1e-11")[0][0]
    assert n_tiny > 10
    assert verdicts(place, "slots = 'all positions'") == {"no overlap"}
    assert place.ask(
        "SELECT count(*) FROM train.policy_values "
        "WHERE slots = 'all positions' AND estimator <> 'naive' AND value IS NOT NULL"
    ) == [(0,)]


def test_all_propensities_equal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shop logs that does not know them: the mean weight is not 1, and that is told."""
    leave_out_what_only_reads(monkeypatch)
    change(place, "impressions", lambda row: row | {"propensity": 0.5 if row["shown"] else None})
    place.run()
    assert_every_number_is_one(place)
    assert verdicts(place) == {"weak overlap"}


def test_one_user_and_an_item_that_was_never_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else to fit imputed rewards on, and no spread between users."""
    leave_out_what_only_reads(monkeypatch)

    def his(row: Row) -> Row | None:
        return None if row["item_id"] == "i00003" else row | {"user_id": "u000007"}

    for dataset in ("events", "impressions"):
        change(place, dataset, his)
    place.run()
    assert_every_number_is_one(place)
    assert place.ask(
        "SELECT n_impressions, is_clipped FROM features.item_propensities "
        "WHERE item_id = 'i00003' AND ds = (SELECT max(ds) FROM features.item_propensities)"
    ) == [(0, True)]
    rows = place.ask("SELECT DISTINCT n_users, se IS NULL FROM train.policy_values")
    assert rows == [(1, True)]
    assert place.ask("SELECT count(*) FROM train.policy_values WHERE value IS NOT NULL")[0][0] > 0


def test_no_impressions_where_the_source_logs_them_stop_the_night(place: Place) -> None:
    change(place, "impressions", lambda row: None)
    with pytest.raises(QualityError, match=r"clean\.impressions"):
        place.run()


def test_no_impressions_say_nothing_of_policies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power law stands in for the exposure share, and is labelled so."""
    leave_out_what_only_reads(monkeypatch)
    change(place, "impressions", lambda row: None)
    place.run()
    assert_every_number_is_one(place)
    assert verdicts(place) == set()
    assert place.ask("SELECT DISTINCT estimator FROM features.item_propensities") == [
        ("popularity_power_law",)
    ]
