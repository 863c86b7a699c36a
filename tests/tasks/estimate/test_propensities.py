"""Estimators of propensities: what each gives, what each refuses, and what a day may depend on."""

from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from tasks.errors import EstimationError
from tasks.estimate.examination import examine
from tasks.estimate.propensities import TABLE, Propensities
from tasks.lake.session import session
from tasks.lake.tables import Lake
from tasks.settings import Compute, Propensity
from tasks.transform import build_increments

MONDAY = date(2026, 1, 5)
DAYS = [MONDAY + timedelta(days=n) for n in range(3)]
ITEMS = [f"i{n}" for n in range(8)]
N_FOLDS = 3
SMALL: dict[str, Any] = {"least_rows": 20}
PARAMS: dict[str, Any] = {
    "window": timedelta(days=9),
    "since": MONDAY - timedelta(days=5),
    "n_folds": N_FOLDS,
    "clip": 0.01,
    "clip_quantile": 0.01,
}


def request(day: date, n: int, user: str, **changed: Any) -> list[dict[str, Any]]:
    """Two shown items and one that was not, by scores that the policy goes by."""
    draw = Random(f"{day} {n} {user}")
    scores = {item: draw.gauss(0, 1) + 0.3 * place for place, item in enumerate(ITEMS)}
    ranked = sorted(ITEMS, key=lambda item: scores[item] + draw.gauss(0, 1), reverse=True)
    chosen = [*ranked[:2], draw.choice(ranked[2:])]
    at = f"{day} {n % 24:02}:30:00+00:00"
    return [
        {
            "impression_id": f"{day}-{user}-{n}-{place}",
            "request_id": f"{day}-{user}-{n}",
            "user_id": user,
            "item_id": item,
            "is_shown": place < 2,
            "position": place + 1 if place < 2 else None,
            "policy": "ranker",
            "policy_version": "1",
            "policy_score": scores[item],
            "p_logged": 0.25 if place < 2 else None,
            "occurred_at": at,
            "arrived_at": at,
            "file_id": "f",
            "ds": day,
        }
        | changed
        for place, item in enumerate(chosen)
    ]


def log(days: list[date], n_users: int = 9, n: int = 6, **changed: Any) -> list[dict[str, Any]]:
    """Requests of some users on some days."""
    return [
        row
        for day in days
        for user in range(n_users)
        for number in range(n)
        for row in request(day, number, f"u{user}", **changed)
    ]


def put(lake: Lake, name: str, rows: list[dict[str, Any]]) -> None:
    schema = lake.schema(name)
    days = sorted({row["ds"] for row in rows})
    table = pa.Table.from_pylist([_whole(row, schema) for row in rows], schema=schema)
    if days:
        lake.rewrite(name, {"ds": days}, lambda _: table)


def _whole(row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    clocks = {k: datetime.fromisoformat(v) for k, v in row.items() if k.endswith("_at") and v}
    return dict.fromkeys(schema.names) | row | clocks


def shop(root: Path, impressions: list[dict[str, Any]]) -> Lake:
    """A lake with these impressions and a catalogue of each day."""
    lake = Lake(root)
    put(lake, "clean.impressions", impressions)
    put(
        lake,
        "clean.items",
        [
            {"item_id": item, "is_in_stock": True, "arrived_at": f"{day} 00:00:00+00:00",
             "file_id": "f", "ds": day}
            for day in DAYS
            for item in ITEMS
        ],
    )  # fmt: skip
    return lake


def estimate(lake: Lake, ds: date = DAYS[-1], **settings: Any) -> list[dict[str, Any]]:
    """Build what estimators read, and the propensities; every row of them."""
    step = Propensities(Propensity.model_validate(SMALL | settings), N_FOLDS, PARAMS["window"])
    params = PARAMS | {"ds": ds, "estimator": step.settings.estimator}
    with session(lake, Compute(threads=1)) as s:
        for name in ("features.exposure_daily", "features.popularity_daily",
                     "features.feedback_daily"):  # fmt: skip
            build_increments(s, name, params)
        build_increments(s, TABLE, params, step)
        s.read(TABLE)
        found = s.stream(f"SELECT * FROM {TABLE} ORDER BY ds, impression_id").read_all()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {row["estimator"] for row in rows}


def test_auto_takes_the_logged_probability_where_every_shown_row_has_one(tmp_path: Path) -> None:
    rows = estimate(shop(tmp_path, log(DAYS)))
    assert names(rows) == {"logged"}
    assert {row["p_exposed"] for row in rows} == {0.25}
    assert not any(row["is_clipped"] for row in rows)  # all propensities are equal


def test_auto_takes_the_model_with_the_score_next(tmp_path: Path) -> None:
    rows = estimate(shop(tmp_path, log(DAYS, p_logged=None)))
    assert names(rows) == {"logistic"}
    assert all(0 < row["p_estimated"] < 1 for row in rows)
    assert len({row["p_estimated"] for row in rows}) > len(rows) / 2


@pytest.mark.parametrize(
    "rows",
    [
        log(DAYS, p_logged=None, policy_score=None),
        [row for row in log(DAYS, p_logged=None) if row["is_shown"]],
        log(DAYS, n_users=1, p_logged=None),
        log(DAYS, n_users=3, n=1, p_logged=None),
    ],
    ids=["no scores", "nothing not shown", "one user", "too few rows"],
)
def test_auto_takes_the_share_where_no_model_can_be_fitted(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    found = estimate(shop(tmp_path, rows), least_rows=30)
    assert names(found) == {"exposure_share"}
    assert all(0 < row["p_exposed"] <= 1 for row in found)


def test_one_row_without_a_probability_is_enough_to_go_on(tmp_path: Path) -> None:
    rows = log(DAYS)
    rows[0]["p_logged"] = None
    found = estimate(shop(tmp_path, rows))
    by_day = {row["ds"]: row["estimator"] for row in found}
    assert by_day == {DAYS[0]: "logistic", DAYS[1]: "logged", DAYS[2]: "logged"}


@pytest.mark.parametrize(
    ("settings", "rows", "why"),
    [
        ({"estimator": "logged"}, log(DAYS, p_logged=None), "108 of 108 shown rows have no logged"),
        ({"estimator": "logistic"}, log(DAYS, policy_score=None), "have no policy score"),
        (
            {"estimator": "boosted"},
            [row for row in log(DAYS) if row["is_shown"]],
            "0 rows of requests that logged what they did not show",
        ),
        ({"estimator": "logistic", "least_rows": 10_000}, log(DAYS), "least_rows = 10,000"),
        ({"estimator": "logistic"}, log(DAYS, n_users=1, n=20), "without fold"),
        ({"estimator": "examination"}, log(DAYS, position=None), "have no position"),
        ({"estimator": "examination"}, log(DAYS), "nothing followed"),
    ],
    ids=["logged", "score", "not shown", "few", "one user", "positions", "clicks"],
)
def test_what_is_asked_for_and_cannot_be_done_is_an_error(
    settings: dict[str, Any], rows: list[dict[str, Any]], why: str, tmp_path: Path
) -> None:
    lake = shop(tmp_path, rows)
    before = estimate(lake, estimator="exposure_share")
    with pytest.raises(EstimationError, match=why) as raised:
        estimate(lake, **settings)
    assert settings["estimator"] in raised.value.where
    assert "auto" in raised.value.fix
    assert estimate(lake, estimator="exposure_share") == before


def test_a_model_without_the_score_can_be_asked_for(tmp_path: Path) -> None:
    lake = shop(tmp_path, log(DAYS, policy_score=None))
    rows = estimate(lake, estimator="logistic", policy_score=False)
    assert names(rows) == {"logistic"}


@pytest.mark.parametrize("estimator", ["logistic", "boosted", "exposure_share", "auto"])
def test_a_day_made_late_or_in_one_go_is_the_same(estimator: str, tmp_path: Path) -> None:
    impressions = log(DAYS, p_logged=None)
    one_go = estimate(shop(tmp_path / "one", impressions), estimator=estimator)
    by_day = shop(tmp_path / "by", [row for row in impressions if row["ds"] == MONDAY])
    estimate(by_day, MONDAY, estimator=estimator)
    put(by_day, "clean.impressions", impressions)
    for day in DAYS[1:]:
        estimate(by_day, day, estimator=estimator)
    again = estimate(by_day, estimator=estimator)
    assert again == one_go
    assert len(one_go) == sum(row["is_shown"] for row in impressions)


def test_what_is_said_of_a_user_comes_from_others(tmp_path: Path) -> None:
    """u0's own requests do not move the propensities of u0, and those of other folds they do."""
    impressions = log(DAYS[:1], p_logged=None)
    more = impressions + [row for n in range(50, 60) for row in request(MONDAY, n, "u0")]
    one, two = (
        {row["impression_id"]: row for row in estimate(shop(tmp_path / str(n), rows), MONDAY,
                                                       estimator="exposure_share")}
        for n, rows in enumerate((impressions, more))
    )  # fmt: skip
    changed = {row["user_id"] for name, row in one.items() if row != two[name]}
    assert "u0" not in changed
    assert changed


def test_a_share_counts_the_requests_of_other_folds(tmp_path: Path) -> None:
    """One user: nobody else was shown anything, and the prior is all there is."""
    rows = estimate(shop(tmp_path, log(DAYS, n_users=1)), estimator="exposure_share")
    assert {row["p_estimated"] for row in rows} == {0.1}


def test_the_power_law_is_of_what_users_did(tmp_path: Path) -> None:
    lake = shop(tmp_path, log(DAYS))
    rows = estimate(lake, estimator="popularity_power_law")
    assert {(row["p_estimated"], row["p_exposed"], row["is_clipped"]) for row in rows} == {
        (0.0, 0.01, True)  # nobody did anything
    }


def test_a_day_without_a_shown_row_has_no_propensity(tmp_path: Path) -> None:
    rows = log(DAYS[:1]) + log(DAYS[1:2], is_shown=False)
    for estimator in ("auto", "logged", "logistic", "examination"):
        with_day = shop(tmp_path / estimator, rows[len(log(DAYS[:1])) :])
        assert estimate(with_day, estimator=estimator) == []
    assert estimate(shop(tmp_path / "nothing", []), estimator="logistic") == []


def test_examination_asked_for_without_clicks_stops_the_night(tmp_path: Path) -> None:
    lake = shop(tmp_path, log(DAYS))
    estimate(lake)
    with session(lake, Compute(threads=1)) as s:
        params = PARAMS | {"ds": DAYS[-1]}
        assert examine(s, params | {"estimator": "auto"}).rows == 0
        with pytest.raises(EstimationError, match="nothing followed from 324 slots"):
            examine(s, params | {"estimator": "examination"})


def test_the_recipe_is_of_the_settings() -> None:
    def recipe(n_folds: int = 3, **settings: Any) -> str:
        return Propensities(Propensity(**settings), n_folds, timedelta(days=9)).recipe

    recipes = [
        recipe(),
        recipe(estimator="logistic"),
        recipe(policy_score=False),
        recipe(fit_rows=1000),
        recipe(n_folds=4),
    ]
    assert len(set(recipes)) == len(recipes)
    assert recipe() == recipes[0]


@pytest.mark.parametrize("unit", [1e-10, 1e12, 1e200])
@pytest.mark.parametrize("estimator", ["logistic", "boosted"])
def test_the_unit_of_the_score_is_nothing_to_a_model(
    tmp_path: Path, estimator: str, unit: float
) -> None:
    rows = log(DAYS)
    scaled = [row | {"policy_score": row["policy_score"] * unit} for row in rows]
    found, usual = (
        [each["p_estimated"] for each in estimate(shop(tmp_path / name, of), estimator=estimator)]
        for name, of in (("scaled", scaled), ("usual", rows))
    )
    assert found == pytest.approx(usual, rel=1e-6)


def test_a_score_far_from_nought_is_as_good(tmp_path: Path) -> None:
    rows = log(DAYS)
    moved = [row | {"policy_score": row["policy_score"] + 1e9} for row in rows]
    found, usual = (
        [each["p_estimated"] for each in estimate(shop(tmp_path / name, of), estimator="logistic")]
        for name, of in (("moved", moved), ("usual", rows))
    )
    assert found == pytest.approx(usual, rel=1e-3)
