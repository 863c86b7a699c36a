"""`prefect.yaml`: which flows run when, and where. Prefect's own file, read strictly.

`prefect deploy` reads the same file; it leaves out what it does not know, here that is an error.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import Field, field_validator, model_validator

from tasks.errors import SettingsError
from tasks.settings import Frozen, check

DEFAULT_PLAN = Path("deployments/prefect.yaml")
SHIPPED_PLAN = Path(__file__).parents[2] / DEFAULT_PLAN


class Schedule(Frozen):
    """When a deployment runs: a cron line in a time zone."""

    cron: str
    timezone: str = "UTC"
    slug: str
    day_or: bool = Field(default=True, description="cron's own: day of month or of week")

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(f"{zone!r} is no time zone; name one such as Europe/Berlin")
        return zone


class Limit(Frozen):
    """How many runs of a deployment there may be at once, and what happens to one more."""

    limit: Annotated[int, Field(ge=1)] = 1
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"
    grace_period_seconds: Annotated[
        int, Field(ge=60, le=86_400, description="in which a run must have started")
    ] = 120


class WorkPool(Frozen):
    """Where its runs go, and with what."""

    name: str
    job_variables: dict[str, Any] = Field(default_factory=dict)


class Deployment(Frozen):
    """One flow, when and where it runs."""

    name: str
    entrypoint: Annotated[
        str, Field(pattern=r"^[\w.]+\.\w+$", description="package.module.function")
    ]
    description: str | None = None
    tags: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency_limit: Limit = Limit()
    work_pool: WorkPool

    @property
    def flow(self) -> str:
        """The name of its flow: that of its function, as Prefect writes it."""
        return self.entrypoint.rsplit(".", 1)[1].replace("_", "-")

    @property
    def full_name(self) -> str:
        """As Prefect calls it: flow and name."""
        return f"{self.flow}/{self.name}"


class Plan(Frozen):
    """All deployments."""

    name: str = "nightrank"
    pull: tuple[()] = ()
    deployments: tuple[Deployment, ...]

    @model_validator(mode="after")
    def _names_are_once(self) -> "Plan":
        names = [each.name for each in self.deployments]
        if not names or len(set(names)) != len(names):
            raise ValueError("deployments must have names that differ, and there must be one")
        return self

    @property
    def pools(self) -> tuple[str, ...]:
        """The work pools that its deployments run in."""
        return tuple(sorted({each.work_pool.name for each in self.deployments}))


def read_plan(path: Path | None = None) -> Plan:
    """Read a plan; without a path that of the working directory, or the shipped one.

    Raises SettingsError, one line per problem.
    """
    path = path or (DEFAULT_PLAN if DEFAULT_PLAN.exists() else SHIPPED_PLAN)
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError("it holds no table")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(
            f"cannot read {path.name}: {' '.join(str(error).split())}",
            where=str(path),
            unchanged="nothing was read or written",
            fix="give the path of a prefect.yaml in UTF-8; deployments/prefect.yaml is one",
        ) from error
    return check(Plan, table, where=str(path), example=str(DEFAULT_PLAN))


def all_on_gpu(plan: Plan) -> Plan:
    """The same with its nights in the work pool `gpu`."""
    return plan.model_copy(update={"deployments": tuple(map(on_gpu, plan.deployments))})


def on_gpu(deployment: Deployment) -> Deployment:
    """The same in the work pool `gpu`, if it runs nights."""
    if deployment.flow != "nightly":
        return deployment
    pool = deployment.work_pool.model_copy(update={"name": "gpu"})
    return deployment.model_copy(update={"work_pool": pool})
