"""The mapping: what a shop's own files mean. One TOML per shop, unknown keys refused."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from tasks.errors import SettingsError
from tasks.settings import Frozen, load_toml

SHIPPED = Path(__file__).parents[1] / "deployments" / "sources"

RawType = Literal["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "DATE"]
TimeUnit = Literal["s", "ms", "us", "iso"]

FIELDS: dict[str, dict[str, RawType]] = {
    "events": {
        "event_id": "VARCHAR",
        "user_id": "VARCHAR",
        "item_id": "VARCHAR",
        "request_id": "VARCHAR",
        "session_id": "VARCHAR",
        "value": "DOUBLE",
    },
    "impressions": {
        "impression_id": "VARCHAR",
        "request_id": "VARCHAR",
        "user_id": "VARCHAR",
        "item_id": "VARCHAR",
        "is_shown": "BOOLEAN",
        "position": "BIGINT",
        "policy": "VARCHAR",
        "policy_version": "VARCHAR",
        "policy_score": "DOUBLE",
        "p_logged": "DOUBLE",
    },
    "items": {
        "item_id": "VARCHAR",
        "category": "VARCHAR",
        "product_type": "VARCHAR",
        "brand": "VARCHAR",
        "title": "VARCHAR",
        "price": "DOUBLE",
        "is_in_stock": "BOOLEAN",
        "available_from": "DATE",
    },
    "users": {
        "user_id": "VARCHAR",
        "age_band": "VARCHAR",
        "country": "VARCHAR",
        "joined_on": "DATE",
    },
}
OF_TIME = {"events": ("occurred_at", "behaviour"), "impressions": ("occurred_at",)}
REQUIRED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id"),
    "impressions": ("request_id", "user_id", "item_id"),
    "items": ("item_id",),
    "users": ("user_id",),
}
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


def _zone_exists(zone: str | None) -> str | None:
    try:
        if zone is not None:
            ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"no such time zone: {zone!r}") from error
    return zone


_STEP = r"""\.(?:"[^"\\]+"|[^.\["*]+)|\[\d+\]"""
_PATH = re.compile(rf"\$(?:{_STEP})+")


def is_path(column: str) -> bool:
    """Whether a raw column is a path into nested fields, such as $.user.id or $.lines[0].sku."""
    return _PATH.fullmatch(column) is not None and column.startswith("$.")


def path_parts(column: str) -> tuple[str, ...]:
    """The top column of a path and the steps below it; a plain column stands alone.

    >>> path_parts('$."the user".id')
    ('the user', '.id')
    """
    if not is_path(column):
        return (column,)
    top, *steps = re.findall(_STEP, column)
    return top[1:].strip('"'), *steps


class Time(Frozen):
    """Which column is the time of occurrence, in which unit and zone."""

    column: str
    unit: TimeUnit = "iso"
    zone: str = "UTC"
    format: str | None = Field(default=None, description="strptime format, if not ISO 8601")

    _zone = field_validator("zone")(_zone_exists)

    @model_validator(mode="after")
    def _format_needs_text(self) -> "Time":
        if self.format is not None and self.unit != "iso":
            raise ValueError("format goes with unit = 'iso' only")
        return self


class Arrived(Frozen):
    """Where the delivery time comes from: a date in the path, a column, else the file's time.

    A date in the path is the date of the data: such a file arrives when that date ends.
    """

    path: str | None = Field(default=None, description="regular expression, one group: YYYY-MM-DD")
    zone: str | None = Field(default=None, description="zone of that date; default: time.zone")
    column: Time | None = None

    _zone = field_validator("zone")(_zone_exists)

    @model_validator(mode="after")
    def _one_source(self) -> "Arrived":
        if self.path is not None and self.column is not None:
            raise ValueError("give path or column, not both")
        if self.path is not None:
            try:
                groups = re.compile(self.path).groups
            except re.error as error:
                raise ValueError(f"path is no regular expression: {error}") from error
            if groups != 1:
                raise ValueError("path needs exactly one group, around the date")
        return self


class Rule(Frozen):
    """When `when` (SQL over the raw columns) holds, the record is of behaviour `behaviour`."""

    when: str
    behaviour: Name


class Contract(Frozen):
    """What happens when the columns of a source are not as they were.

    Keys of `missing` and `changed` are our fields; what is not given is as the catalogue states.
    """

    new: Literal["ignore", "evolve", "stop"] | None = Field(
        default=None, description="a column that the mapping neither names nor ignores"
    )
    missing: dict[str, Literal["null", "quarantine", "stop"]] = Field(
        default={}, description="a file has no such column at all"
    )
    changed: dict[str, Literal["quarantine", "stop"]] = Field(
        default={}, description="a value is not of the field's type"
    )


class Source(Frozen):
    """One dataset of the shop: where its files lie, their format, which column is what."""

    files: Annotated[str, Field(min_length=1, description="glob below the landing folder")]
    format: Literal["auto", "jsonl", "csv", "parquet"] = "auto"
    optional: bool = False
    files_per_day: Annotated[int, Field(ge=1)] = 1
    arrived: Arrived = Arrived()
    columns: dict[str, str] = Field(default={}, description="our field = the source's column")
    expressions: dict[str, str] = Field(default={}, description="our field = SQL over raw columns")
    types: dict[str, RawType] = Field(default={}, description="raw column = its type")
    delimiter: Annotated[str, Field(min_length=1, max_length=4)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    header: bool = True
    names: tuple[str, ...] = ()
    encoding: Literal["utf-8", "latin-1", "utf-16"] = "utf-8"
    contract: Contract = Contract()
    ignored: tuple[str, ...] = Field(default=(), description="raw columns that are left alone")

    @field_validator("files")
    @classmethod
    def _glob_is_below_landing(cls, files: str) -> str:
        parts = Path(files).parts
        if Path(files).is_absolute() or ".." in parts:
            raise ValueError("must be relative to the landing folder, and stay below it")
        if not parts:
            raise ValueError("must match files, such as events/*.jsonl")
        if any("**" in part and part != "**" for part in parts):
            raise ValueError("** must stand alone between slashes")
        return files

    @model_validator(mode="after")
    def _format_is_described(self) -> "Source":
        if self.format == "csv" and not self.header and not self.names:
            raise ValueError("a csv without header needs names, one per column")
        if self.format == "jsonl" and (self.names or not self.header):
            raise ValueError("names and header are for csv only")
        if self.format == "parquet" and (self.names or not self.header):
            raise ValueError("names and header are for csv only")
        both = sorted(set(self.columns) & set(self.expressions))
        if both:
            raise ValueError(f"given twice, as column and as expression: {', '.join(both)}")
        return self

    def check_fields(self, dataset: str) -> None:
        """Refuse fields that the dataset does not have, and a missing required one."""
        known = FIELDS[dataset]
        given = {*self.columns, *self.expressions}
        strangers = sorted(given - set(known))
        if strangers:
            raise ValueError(
                f"{dataset} has no field {', '.join(strangers)}; its fields: {', '.join(known)}"
            )
        self._check_contract(dataset)
        self._check_raw_columns()
        missing = [field for field in REQUIRED[dataset] if field not in given]
        if missing:
            raise ValueError(f"{dataset} needs a column for {', '.join(missing)}")

    def _check_raw_columns(self) -> None:
        """SQL does not tell a name in capitals from the same in small letters."""
        names = sorted(raw_columns(self), key=str.casefold)
        for one, other in pairwise(names):
            if one.casefold() == other.casefold():
                raise ValueError(f"the columns {one} and {other} differ only in capitals")
        ours = [name for name in names if name.startswith("# ")]
        if ours:
            raise ValueError(f"{ours[0]!r} begins as nightrank's own columns do: '# '")

    def _check_contract(self, dataset: str) -> None:
        if isinstance(self, Dated):
            known = {*FIELDS[dataset], *OF_TIME[dataset]}
            wrong = sorted({*self.key} - known)
            if wrong:
                raise ValueError(f"key names {', '.join(wrong)}, no field of {dataset}")
        fields = {*FIELDS[dataset], *OF_TIME.get(dataset, ())}
        strangers = sorted({*self.contract.missing, *self.contract.changed} - fields)
        if strangers:
            raise ValueError(f"contract names {', '.join(strangers)}, no field of {dataset}")


class Behaviour(Frozen):
    """Which raw value or expression is which behaviour; the first rule that holds wins."""

    column: str | None = None
    values: dict[str, Name] = Field(default={}, description="raw value = behaviour")
    rules: tuple[Rule, ...] = ()
    always: Name | None = Field(default=None, description="every record is this behaviour")

    @model_validator(mode="after")
    def _one_way(self) -> "Behaviour":
        ways = [bool(self.values), bool(self.rules), self.always is not None]
        if sum(ways) != 1:
            raise ValueError("give exactly one of values, rules and always")
        if self.values and self.column is None:
            raise ValueError("values need column, which holds them")
        return self

    @property
    def names(self) -> frozenset[str]:
        """All behaviours that this source can give."""
        named = {*self.values.values(), *(rule.behaviour for rule in self.rules)}
        return frozenset(named if self.always is None else {*named, self.always})


class Dated(Source):
    """A source of things that happen, each once; without an id, `key` says what makes one."""

    time: Time
    key: tuple[str, ...] = Field(default=(), description="our fields; default: all of them")


class Events(Dated):
    """The one dataset that a shop must have."""

    behaviour: Behaviour


class Impressions(Dated):
    """What was shown, and what could have been."""

    random_policies: tuple[str, ...] = Field(
        default=(), description="values of policy under which each item was as likely"
    )


def raw_columns(source: Source) -> list[str]:
    """The raw columns that the mapping names, in order, each once."""
    named = [*source.columns.values(), *source.types]
    if isinstance(source, Dated):
        named.append(source.time.column)
    if isinstance(source, Events) and source.behaviour.column is not None:
        named.append(source.behaviour.column)
    if source.arrived.column is not None:
        named.append(source.arrived.column.column)
    return list(dict.fromkeys(named))


class Meaning(Frozen):
    """What the behaviours mean to this shop."""

    positives: dict[Name, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    seen: tuple[Name, ...] = ("purchase",)
    repurchase: bool = False
    active_days: Annotated[int, Field(ge=1, le=36_500)] = 28
    history_days: Annotated[int, Field(ge=1, le=36_500)] = 180
    holdout_days: Annotated[int, Field(ge=1, le=36_500)] = 2

    @model_validator(mode="after")
    def _windows_nest(self) -> "Meaning":
        if self.holdout_days >= self.history_days:
            raise ValueError("holdout_days must be shorter than history_days")
        return self


class Mapping(Frozen):
    """One shop's files and what they mean."""

    name: Name
    behaviours: Meaning
    events: Events
    impressions: Impressions | None = None
    items: Source | None = None
    users: Source | None = None

    @model_validator(mode="after")
    def _sources_fit(self) -> "Mapping":
        for dataset, source in self.sources().items():
            source.check_fields(dataset)
        self._check_random_policies()
        named = {*self.behaviours.positives, *self.behaviours.seen}
        if "impression" in self.events.behaviour.names:
            raise ValueError("an event cannot be an impression: map [impressions] instead")
        strangers = sorted(named - self.events.behaviour.names)
        if strangers:
            raise ValueError(
                f"behaviours names {', '.join(strangers)}, which events.behaviour never gives; "
                f"it gives {', '.join(sorted(self.events.behaviour.names))}"
            )
        return self

    def _check_random_policies(self) -> None:
        source = self.impressions
        if source is None or not source.random_policies:
            return
        if "policy" not in {*source.columns, *source.expressions}:
            raise ValueError("random_policies are values of policy: impressions need it mapped")

    def sources(self) -> dict[str, Source]:
        """The datasets that are mapped, events first."""
        given = {
            "events": self.events,
            "impressions": self.impressions,
            "items": self.items,
            "users": self.users,
        }
        return {dataset: source for dataset, source in given.items() if source is not None}


def load_mapping(name_or_path: str) -> Mapping:
    """Read a mapping: a path to a TOML file, or the name of one that ships with nightrank."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return load_toml(Mapping, path)
    shipped = SHIPPED / f"{name_or_path}.toml"
    if not shipped.exists():
        names = ", ".join(sorted(found.stem for found in SHIPPED.glob("*.toml")))
        raise SettingsError(
            f"no mapping named {name_or_path!r}",
            where=str(SHIPPED),
            unchanged="nothing was read or written",
            fix=f"give one of {names}, or the path of a .toml file",
        )
    return load_toml(Mapping, shipped)
