"""The propensity of every shown impression: features.impression_propensities, day by day.

Which estimator is set in `[propensity] estimator`; every row says which one made it.

    logged                the policy's own probability of the slot, given what stands above
    logistic, boosted     a model of exposure, with the policy's score as a feature or without
    exposure_share        the share of other users' requests that showed the item
    popularity_power_law  (n / max n)^eta, right up to a factor
    examination           how often the position is examined, right up to a factor
    auto                  logged, where every shown row of the day has its probability; else
                          logistic with the policy's score, where enough requests logged what they
                          did not show, with scores; else exposure_share

A day is estimated from the window that ends on it, and nothing after it: a day made late is the
same. Shares and models are cross-fitted: what is said of a user comes from the other folds of
users. An estimator that is set and cannot be used is an error; only auto goes on to the next.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import sql
from tasks.errors import EstimationError
from tasks.estimate import examination
from tasks.lake.literals import literal, render
from tasks.lake.session import Session
from tasks.lake.tables import fingerprint
from tasks.settings import Propensity
from tasks.shop import Parameters, Shop

TABLE = "features.impression_propensities"
Estimator = Literal[
    "logged", "exposure_share", "popularity_power_law", "examination", "logistic", "boosted"
]
AUTO: tuple[Estimator, ...] = ("logged", "logistic", "exposure_share")
_MODELS = ("logistic", "boosted")
_READS: dict[str, tuple[str, ...]] = {
    "logged": (),
    "exposure_share": ("features.exposure_daily",),
    "popularity_power_law": ("features.popularity_daily",),
    "examination": ("features.feedback_daily",),
    "logistic": ("features.exposure_daily", "clean.items"),
    "boosted": ("features.exposure_daily", "clean.items"),
    "auto": ("features.exposure_daily", "clean.items"),
}
_CODE = ("propensities.py", "examination.py", "exposure_models.py")
_FEATURES = ("share", "activity", "hour", "policy_score")
_MADE = (
    "impression_id", "request_id", "user_id", "item_id", "position", "policy", "p_logged",
)  # fmt: skip
Predict = Callable[[Mapping[str, npt.NDArray[np.float64]]], npt.NDArray[np.float64]]


def steps(shop: Shop) -> dict[str, "Propensities"]:
    """The increment tables that a Python step makes, each with its step."""
    settings, days = shop.settings, shop.mapping.behaviours.history_days
    window = timedelta(days=days - 1)
    return {TABLE: Propensities(settings.propensity, settings.estimate.n_folds, window)}


@dataclass(frozen=True)
class Propensities:
    """The step of tasks/transform.py that estimates one day."""

    settings: Propensity
    n_folds: int
    window: timedelta

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables that the estimator reads."""
        return ("clean.impressions", *_READS[self.settings.estimator])

    @property
    def recipe(self) -> str:
        """A hash of the settings, the code, the SQL, and the version of the models' library."""
        here = Path(__file__).parent
        texts = [(here / name).read_text(encoding="utf-8") for name in _CODE]
        queries = sorted(sql.ROOT.glob("queries/[ep]*.sql"))
        texts += [
            path.read_text(encoding="utf-8")
            for path in queries
            if path.name.startswith(("exposure_", "examination_", "propensities_"))
            and path.name != "exposure_sums.sql"
        ]
        settings = [self.settings.model_dump_json(), str(self.n_folds), str(self.window.days)]
        return fingerprint([*settings, version("scikit-learn"), *texts])

    def rows(self, s: Session, day: date) -> Any:
        """The day's rows. Raises EstimationError where the estimator that is set cannot be used."""
        _Day(s, self, day).estimate()
        params: Parameters = {
            "days": [day],
            "clip": self.settings.clip,
            "clip_quantile": self.settings.clip_quantile,
        }
        return s.stream(sql.read_table(TABLE), params)


class _Day:
    """One day's estimation, in the schema `estimated` of a session that shows its window."""

    def __init__(self, s: Session, step: Propensities, day: date) -> None:
        self.s, self.step, self.settings, self.day = s, step, step.settings, day
        s.con.execute("CREATE SCHEMA IF NOT EXISTS estimated")

    def estimate(self) -> None:
        """Make estimated.impressions."""
        self._view("shown", "exposure_shown")
        if not self.facts["n_shown"]:
            self._view("impressions", "propensities_logged")  # as good as any: no row
            return
        if self.settings.estimator != "auto":
            self._make(self.settings.estimator)
            return
        for estimator in AUTO:
            if self._problem(estimator) is None:
                self._make(estimator)
                return

    @cached_property
    def params(self) -> Parameters:
        """What the queries may ask for."""
        of_settings = self.settings.model_dump(exclude={"estimator", "policy_score"})
        return {
            **of_settings,
            "policy_score": self.has_score,
            "n_folds": self.step.n_folds,
            "since": self.day - self.step.window,
            "ds": self.day,
        }

    @property
    def has_score(self) -> bool:
        """Whether models have the policy's score; those of auto do, or are not taken."""
        return self.settings.policy_score or self.settings.estimator == "auto"

    @cached_property
    def facts(self) -> dict[str, int]:
        """What the shown rows of the day have, and lack."""
        found = self.s.stream(sql.read("queries/exposure_facts"), self.params).read_all()
        facts: dict[str, int] = found.to_pylist()[0]
        return facts

    @cached_property
    def thetas(self) -> dict[int, float]:
        """Examination of each position."""
        return examination.thetas(examination.position_sums(self.s, self.params))

    @cached_property
    def sample(self) -> pa.Table:
        """The rows that models are fitted on."""
        for name in ("shares", "users", "eligible"):
            self._table(name, f"exposure_{name}")
        return self.s.stream(sql.read("queries/exposure_sample"), self.params).read_all()

    def _problem(self, estimator: Estimator) -> str | None:
        """Why this estimator cannot be used for this day; None where it can."""
        facts = self.facts
        of_shown = f"of {facts['n_shown']:,} shown rows"
        if estimator == "logged" and facts["n_without_p_logged"]:
            return f"{facts['n_without_p_logged']:,} {of_shown} have no logged probability"
        if estimator in _MODELS:
            if self.has_score and facts["n_without_score"]:
                return f"{facts['n_without_score']:,} {of_shown} have no policy score"
            return self._problem_of_sample()
        if estimator == "examination":
            if facts["n_without_position"]:
                return f"{facts['n_without_position']:,} {of_shown} have no position"
            if not self.thetas:
                return "nothing followed from any shown row of the window"
        return None

    def _problem_of_sample(self) -> str | None:
        n, least = self.sample.num_rows, self.settings.least_rows
        if n < least:
            return (
                f"{n:,} rows of requests that logged what they did not show"
                f"{', with scores' if self.has_score else ''}, where least_rows = {least:,}"
            )
        fold, is_shown, m = (_numbers(self.sample, name) for name in ("fold", "is_shown", "m"))
        for left_out in range(self.step.n_folds):
            there = (fold != left_out) & (m > 0)
            if len(np.unique(is_shown[there])) < 2:
                return f"without fold {left_out} of the users, rows are all shown or all not shown"
        return None

    def _make(self, estimator: Estimator) -> None:
        problem = self._problem(estimator)
        if problem is not None:
            raise EstimationError(
                f"the propensities of {self.day} cannot be estimated by {estimator}: {problem}",
                where=f"propensity.estimator = {self.settings.estimator!r}",
                unchanged=f"{TABLE} keeps its last version, and what was served stays served",
                fix='log what is missing, or set propensity.estimator = "auto", which takes the '
                "best estimator that can be used",
            )
        if estimator == "exposure_share":
            self._table("shares", "exposure_shares")
        if estimator == "examination":
            rows = ", ".join(f"({k}, {theta!r}::DOUBLE)" for k, theta in self.thetas.items())
            self.s.view(
                "estimated.examination", f"SELECT * FROM (VALUES {rows}) AS t (position, theta)"
            )
        if estimator == "logistic" or estimator == "boosted":
            self._model(estimator)
        else:
            self._view("impressions", f"propensities_{estimator}")

    def _model(self, kind: Literal["logistic", "boosted"]) -> None:
        """Predict every shown row by the model that was fitted without its fold of users."""
        # Imported here: it costs two seconds, and most nights need none of it.
        from tasks.estimate.exposure_models import fit

        columns = {name: _numbers(self.sample, name) for name in _FEATURES}
        fold, is_shown, m = (_numbers(self.sample, name) for name in ("fold", "is_shown", "m"))
        models: dict[int, Predict] = {}
        for left_out in range(self.step.n_folds):
            there = (fold != left_out) & (m > 0)
            models[left_out] = fit(
                kind,
                {name: values[there] for name, values in columns.items()},
                is_shown[there] > 0,
                m[there],
                has_score=self.has_score,
            ).predict
        path = self.s.spill / "modelled.parquet"
        batches = self.s.stream(sql.read("queries/propensities_modelled"), self.params)
        schema = pa.schema([*(batches.schema.field(n) for n in _MADE), ("estimate", pa.float64())])
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in _predicted(batches, models, schema):
                writer.write_batch(batch)
        self.s.view(
            "estimated.impressions",
            f"SELECT *, {literal(kind)} AS estimator, {literal(self.day)} AS ds "
            f"FROM read_parquet({literal(str(path))})",
        )

    def _view(self, name: str, query: str) -> None:
        self.s.view(f"estimated.{name}", render(sql.read(f"queries/{query}"), self.params))

    def _table(self, name: str, query: str) -> None:
        select = render(sql.read(f"queries/{query}"), self.params)
        self.s.con.execute(f"CREATE OR REPLACE TABLE estimated.{name} AS {select}")


def _predicted(
    batches: Any, models: Mapping[int, Predict], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        fold = _numbers(batch, "fold")
        columns = {name: _numbers(batch, name) for name in _FEATURES}
        estimate = np.empty(batch.num_rows)
        for number, predict in models.items():
            of_fold = fold == number
            if of_fold.any():
                estimate[of_fold] = predict({n: values[of_fold] for n, values in columns.items()})
        arrays = [*(batch.column(name) for name in _MADE), pa.array(estimate)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _numbers(rows: pa.Table | pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    """A column as float64; null becomes NaN."""
    column = rows.column(name).cast(pa.float64())
    found: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
    return found
