"""The settings and the mapping: keys, values, and whether they fit each other."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from models.contract import GradientConfig
from models.registry import MODELS, load
from tasks.doctor.findings import Case, Finding, fine, warning, wrong
from tasks.errors import SettingsError, TrainingError
from tasks.ingest.pseudonyms import hold_to_key, key_from_environment
from tasks.lake.session import session
from tasks.mapping import Mapping as SourceMapping
from tasks.mapping import Source
from tasks.settings import Settings
from tasks.train.loop import refuse_precision, resolved

_NAMED = re.compile(r"\b[a-z_]+\.[a-z_]+\b")
# what each estimator that is set needs to be mapped in [impressions]
_NEEDS: dict[str, tuple[str, ...]] = {
    "logged": ("p_logged",),
    "exposure_share": (),
    "examination": ("position",),
    "logistic": ("is_shown",),
    "boosted": ("is_shown",),
}


def settings_file(case: Case) -> Iterator[Finding]:
    """Unknown keys and values that cannot be."""
    if case.problem is not None:
        yield from _problems(case.problem, Settings, str(case.settings_file))
    elif case.settings_file.exists():
        yield fine(f"{case.settings_file} is sound")
    else:
        yield fine("no settings file: every key has its default")


def mapping_file(case: Case) -> Iterator[Finding]:
    """The same of the mapping."""
    if case.mapping_problem is not None:
        yield from _problems(case.mapping_problem, SourceMapping, case.mapping_file)
    else:
        yield fine(f"{case.mapping.name}: {', '.join(case.mapping.sources())}")


def _problems(error: SettingsError, kind: type[BaseModel], file: str) -> Iterator[Finding]:
    if not isinstance(error.__cause__, ValidationError):
        yield wrong(error.what, f"{file}: {error.fix}")
        return
    for each in error.__cause__.errors(include_url=False):
        place = [str(part) for part in each["loc"]]
        key, said = ".".join(place), each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            yield wrong(f"{key} is no key", _without(key, _siblings(kind, place), file))
        else:
            keys = key or ", ".join(dict.fromkeys(_NAMED.findall(said))) or "the top level"
            yield wrong(f"{key}: {said}" if key else said, f"{file}: mend {keys}")


def _without(key: str, siblings: Sequence[str], file: str) -> str:
    close = get_close_matches(key.rsplit(".", 1)[-1], siblings, n=1)
    meant = f", or write {close[0]} if that was meant" if close else ""
    return f"{file}: remove {key}{meant}"


def _siblings(kind: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The keys that there are where an unknown one stands."""
    found: type[BaseModel] | None = kind
    for part in place[:-1]:
        field = found.model_fields.get(part) if found is not None else None
        found = None if field is None else _record(field.annotation)
    return [] if found is None else list(found.model_fields)


def _record(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    records = (o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return next(records, None)


def models(case: Case) -> Iterator[Finding]:
    """Every model is known, its config is sound, and this machine can train it."""
    settings = case.settings
    for name in settings.train.models:
        if name not in MODELS:
            close = get_close_matches(name, MODELS, n=1) or [", ".join(sorted(MODELS))]
            yield wrong(
                f"train.models: no model is named {name}",
                f"{case.settings_file}: write one of the registry in train.models: {close[0]}",
            )
            continue
        yield from _model(case, name, settings.train.configs.get(name, {}))


def _model(case: Case, name: str, config: Mapping[str, object]) -> Iterator[Finding]:
    kind, key = load(name), f"train.configs.{name}"
    try:
        made = kind.config_type.from_dict(config)
    except ValueError as error:
        fix = f"{case.settings_file}: mend {key}; models/{name}.py lists its fields"
        yield wrong(f"{key}: {error}", fix)
        return
    try:
        refuse_precision(kind, made, resolved(_there(case)), name)
    except TrainingError as error:
        yield wrong(f"{key}: {error.what}", f"{case.settings_file}: {error.fix} in {key}")
    if (kind.needs_propensity or made.uses_propensity) and case.mapping.impressions is None:
        yield warning(
            f"{name} is weighted with propensities, and without impressions these are a power law "
            "of popularity",
            f"{case.mapping_file}: map [impressions]; or {case.settings_file}: take weighting out "
            f"of {key}",
        )
    budget = f", at most {made.epochs} epochs" if isinstance(made, GradientConfig) else ""
    yield fine(f"{name}{budget}")


def _there(case: Case) -> Any:
    """The device that is set, or the CPU where that is not there: another check says so."""
    device = case.settings.train.device
    return "cpu" if device == "cuda" and resolved("auto").type == "cpu" else device


def propensities(case: Case) -> Iterator[Finding]:
    """The estimator that is set has what it needs."""
    estimator, source = case.settings.propensity.estimator, case.mapping.impressions
    if estimator not in _NEEDS:
        yield fine(f"propensity.estimator = {estimator}")
        return
    lacks = [] if source is None else [n for n in _NEEDS[estimator] if n not in _given(source)]
    if source is None or lacks:
        lack = ", ".join(lacks) or "[impressions]"
        yield wrong(
            f"propensity.estimator = {estimator} needs {lack}, which the mapping does not have",
            f'{case.settings_file}: set propensity.estimator = "auto"; or {case.mapping_file}: '
            f"map {lack}",
        )
    else:
        yield fine(f"propensity.estimator = {estimator}, and what it needs is mapped")


def _given(source: Source) -> set[str]:
    return {*source.columns, *source.expressions}


def pseudonyms(case: Case) -> Iterator[Finding]:
    """The key is there where ids become pseudonyms, and is the one that the lake was made with."""
    is_on = case.settings.privacy.pseudonymise
    key = key_from_environment() if is_on else None
    with session(case.shop.lake, case.settings.compute) as s:
        hold_to_key(s, key)
    yield fine("ids become pseudonyms, under the lake's key" if is_on else "ids stay as they come")


CHECKS = (settings_file, mapping_file, models, propensities, pseudonyms)
