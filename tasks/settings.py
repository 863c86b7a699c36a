"""Settings: where the night runs and how. One TOML per environment, unknown keys refused.

What the shop's own data mean (files, columns, behaviours) stands in a mapping, `tasks.mapping`.
"""

import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tasks.errors import SettingsError
from tasks.places import Named, Place, reached_by
from tasks.stores import EnvironmentName, Storage

_BYTES = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
LEAST_MIB = 64
RAW_TEXT = 500  # characters of a misfit's text that quarantine keeps
DEFAULT_SETTINGS = Path("deployments/settings.toml")


class Frozen(BaseModel):
    """A settings record: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Paths(Frozen):
    """Where things lie: folders, or s3://bucket/prefix of the store of `storage`.

    Relative paths are relative to the working directory.
    """

    landing: Named = Path("landing")
    lake: Named = Path("lake")

    @field_validator("landing", "lake")
    @classmethod
    def _is_a_folder_of_its_own(cls, place: Place) -> Place:
        if place == Path() or "\0" in str(place):
            raise ValueError("name a folder")
        return place


class Compute(Frozen):
    """What a stage may use."""

    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?(MB|GB|MiB|GiB)$")] = "1GB"
    threads: Annotated[int, Field(ge=0, le=1024, description="0: all cores")] = 0
    batch_mb: Annotated[int, Field(ge=1, description="landed bytes read in one go, MiB")] = 2048

    @field_validator("memory_limit")
    @classmethod
    def _is_enough(cls, limit: str) -> str:
        if _mib(limit) < LEAST_MIB:
            raise ValueError(f"must be at least {LEAST_MIB}MiB")
        return limit

    @property
    def memory_mib(self) -> int:
        """The limit in MiB, rounded down."""
        return _mib(self.memory_limit)


def _mib(limit: str) -> int:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", limit).groups()  # type: ignore[union-attr]
    return int(float(number) * _BYTES[unit] / 2**20)


class Privacy(Frozen):
    """What is done to personal data at the door."""

    pseudonymise: bool = Field(
        default=False, description="user_id becomes a keyed hash; the key is in the environment"
    )


class Propensity(Frozen):
    """How likely each item was to be shown, and who says so; symbols as in the literature.

    What each estimator needs, and what "auto" takes, is in tasks/estimate/propensities.py.
    """

    estimator: Literal[
        "auto",
        "logged",
        "exposure_share",
        "popularity_power_law",
        "examination",
        "logistic",
        "boosted",
    ] = "auto"
    policy_score: bool = Field(
        default=True, description="the policy's own score is a feature of logistic and boosted"
    )
    fit_rows: Annotated[
        int, Field(ge=100, le=5_000_000, description="most rows that one day's model is fitted on")
    ] = 50_000
    least_rows: Annotated[
        int, Field(ge=10, description="fewer rows are too few to fit a model on")
    ] = 1_000
    smoothing_a: Annotated[float, Field(gt=0)] = 1.0
    smoothing_b: Annotated[float, Field(gt=0)] = 10.0
    eta: Annotated[float, Field(gt=0, le=1, description="popularity exponent")] = 0.5
    clip: Annotated[
        float, Field(gt=0, lt=1, description="smallest share, power law or examination")
    ] = 0.01
    clip_quantile: Annotated[
        float, Field(ge=0, le=0.5, description="of a day's estimates; the others' smallest")
    ] = 0.01

    @model_validator(mode="after")
    def _share_stays_a_probability(self) -> "Propensity":
        if self.smoothing_a > self.smoothing_b:
            raise ValueError("smoothing_a must not exceed smoothing_b: a share would exceed 1")
        return self


class Estimate(Frozen):
    """How values of policies are estimated from logs; symbols as in tasks/estimate/values.py."""

    n_folds: Annotated[int, Field(ge=2, le=50, description="of users, to fit on others")] = 5
    most_weight: Annotated[float, Field(gt=0, description="M of clipped IPS")] = 20.0
    shrinkage: Annotated[float, Field(gt=0, description="mean slots that an item starts with")] = (
        20.0
    )


class Train(Frozen):
    """Which models a night trains, and how each is configured."""

    models: tuple[str, ...] = ("popularity", "bpr")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: Annotated[
        float, Field(ge=0, description="between checkpoints of a training; 0: none by the clock")
    ] = 60.0
    checkpoint_steps: Annotated[
        int, Field(ge=0, description="steps between checkpoints; 0: steps do not count")
    ] = 0
    max_minutes: Annotated[
        float, Field(ge=0, description="that one model may take to be trained; 0: no limit")
    ] = 0.0
    warm_start: bool = Field(
        default=False, description="begin at the last kept version that knew nothing later"
    )
    configs: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _models_make_sense(self) -> "Train":
        if not self.models or len(set(self.models)) != len(self.models):
            raise ValueError("models must name each model once, and at least one")
        strangers = sorted(set(self.configs) - set(self.models))
        if strangers:
            raise ValueError(f"configs for models that are not trained: {', '.join(strangers)}")
        return self


class Publish(Frozen):
    """What is published, and when a night is held instead."""

    k: Annotated[int, Field(ge=1, le=1000, description="rows per user")] = 20
    model: str = "bpr"
    cold_model: str = "popularity"
    max_shrink: Annotated[
        float, Field(ge=0, le=1, description="largest share of users or rows that may go missing")
    ] = 0.3


class Gate(Frozen):
    """When a release is held because its lists are worse than those that are served."""

    estimator: Literal["ips", "clipped_ips", "snips", "dr", "time_split"] = "dr"
    margin: Annotated[
        float, Field(gt=0, lt=1, description="a loss of this share of the value is not accepted")
    ] = 0.1
    confidence: Annotated[float, Field(gt=0.5, lt=1, description="of one-sided bounds")] = 0.97
    power: Annotated[
        float, Field(gt=0, lt=1, description="with which an equal release must pass, to be judged")
    ] = 0.8
    max_segment_loss: Annotated[
        float, Field(gt=0, le=1, description="of value in one segment of users, surely lost")
    ] = 0.15
    max_coverage_loss: Annotated[
        float, Field(gt=0, le=1, description="share of the listed items that may go missing")
    ] = 0.5
    max_top_item_rise: Annotated[
        float, Field(gt=0, le=1, description="of the share of users who have the top item")
    ] = 0.5


class Checks(Frozen):
    """Numbers that checks use."""

    min_day_share: Annotated[
        float, Field(ge=0, le=1, description="events of a day against the median of 7 before")
    ] = 0.5
    min_catalogue_share: Annotated[
        float, Field(ge=0, le=1, description="items of a catalogue against the one before")
    ] = 0.5


class Backfill(Frozen):
    """How nights of the past are made again."""

    max_active: Annotated[
        int, Field(ge=1, le=64, description="nights at once, over all plans of the lake")
    ] = 2
    hours_after: Annotated[
        float,
        Field(ge=0, le=48, description="after a date, in which files without a date count as its"),
    ] = 6.0


class Deadlines(Frozen):
    """By when a night should be through."""

    deadline_minutes: Annotated[
        float, Field(ge=0, description="after its start, no model is trained on; 0: no deadline")
    ] = 0.0


class Mail(Frozen):
    """A server that takes e-mail, and who gets it."""

    server: str
    port: Annotated[int, Field(ge=1, le=65_535)] = 25
    starttls: bool = Field(default=False, description="speak in clear, then encrypted")
    sender: str
    recipients: Annotated[tuple[str, ...], Field(min_length=1)]
    user: str | None = None
    password: EnvironmentName | None = Field(
        default=None, description="the name of the environment variable that holds it"
    )


class Alerts(Frozen):
    """Who is told of bad nights, and from when on one is bad. No secret stands here."""

    webhook: EnvironmentName | None = Field(
        default=None, description="the name of the environment variable that holds its URL"
    )
    mail: Mail | None = None
    late_minutes: Annotated[float, Field(ge=0.5, description="after its time, not started")] = 10
    stuck_minutes: Annotated[float, Field(ge=1, description="running for so long")] = 240
    stale_days: Annotated[
        int, Field(ge=0, description="what is served may be older than a scheduled night")
    ] = 2


class Housekeeping(Frozen):
    """What is kept, and for how long."""

    keep_hours: Annotated[
        int, Field(ge=1, description="files that no table needs: open readers may")
    ] = 168
    release_days: Annotated[
        int, Field(ge=1, description="candidates, weights, undecided releases; by date of data")
    ] = 35
    report_days: Annotated[int, Field(ge=1, description="pages, by date of the data")] = 400


class Settings(Frozen):
    """All settings of one environment."""

    mapping: str = "sample_shop"
    paths: Paths = Paths()
    storage: Storage = Storage()
    compute: Compute = Compute()
    privacy: Privacy = Privacy()
    propensity: Propensity = Propensity()
    estimate: Estimate = Estimate()
    train: Train = Train()
    night: Deadlines = Deadlines()
    publish: Publish = Publish()
    gate: Gate = Gate()
    checks: Checks = Checks()
    backfill: Backfill = Backfill()
    alerts: Alerts = Alerts()
    housekeeping: Housekeeping = Housekeeping()

    @model_validator(mode="after")
    def _places_are_reached(self) -> "Settings":
        object.__setattr__(self, "paths", self.reaching(self.paths))
        return self

    def reaching(self, paths: Paths) -> Paths:
        """Paths, those of a store with how it is reached."""
        reached = {
            name: reached_by(self.storage, getattr(paths, name)) for name in ("landing", "lake")
        }
        return paths.model_copy(update=reached)

    @model_validator(mode="after")
    def _published_models_are_trained(self) -> "Settings":
        for role in ("model", "cold_model"):
            name = getattr(self.publish, role)
            if name not in self.train.models:
                raise ValueError(f"publish.{role} = {name!r} is not among train.models")
        return self


Record = TypeVar("Record", bound=BaseModel)


def load_settings(path: Path | None = None) -> Settings:
    """Read a settings file; without one the default file, or the defaults where it is absent."""
    if path is None and not DEFAULT_SETTINGS.exists():
        return Settings()
    return load_toml(Settings, path or DEFAULT_SETTINGS)


def load_toml(kind: type[Record], path: Path) -> Record:
    """Read a TOML file into a record; every problem is told by its key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"cannot read {path.name}: {error}",
            where=str(path),
            unchanged="nothing was read or written",
            fix="give the path of a TOML file in UTF-8",
        ) from error
    return check(kind, table, where=str(path))


def check(
    kind: type[Record],
    table: dict[str, Any],
    *,
    where: str,
    example: str = "deployments/settings.toml",
) -> Record:
    """Validate a table of settings; raises SettingsError with one line per problem."""
    try:
        # As JSON, whose strings may be paths and whose lists tuples, and true is still no 1.
        return kind.model_validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, found['loc'])) or '(top level)'}: {found['msg']}"
            for found in error.errors(include_url=False)
        ]
        raise SettingsError(
            f"{len(problems)} wrong setting(s): " + "; ".join(problems),
            where=where,
            unchanged="nothing was read or written",
            fix=f"mend the keys named above; {example} says what each means",
        ) from error


def parse_day(text: str, *, where: str = "--ds") -> date:
    """A date given by a person, as YYYY-MM-DD."""
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"{text!r} is no date",
            where=where,
            unchanged="nothing was read or written",
            fix="write it as YYYY-MM-DD, such as 2026-01-25",
        ) from error
