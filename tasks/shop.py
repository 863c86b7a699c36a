"""One shop in one environment: its settings, its mapping, its lake, and the hash of its recipe."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import sql
from models.registry import MODELS
from tasks.errors import SettingsError
from tasks.lake.borrowed import Borrowed
from tasks.lake.literals import Value
from tasks.lake.session import Session
from tasks.lake.tables import Lake, fingerprint
from tasks.mapping import Mapping, load_mapping
from tasks.places import Place, StorePath, place_of
from tasks.settings import Paths, Settings, load_settings

_CODE = (
    "models",
    "tasks/ingest",
    "tasks/estimate",
    "tasks/train",
    "tasks/serve",
    "tasks/lake",
    "tasks/backfill/apart.py",
    "tasks/shop.py",
    "tasks/transform.py",
)
_UNFIT = set("[]*?%=\\|^")  # for the readers and writers of tables, these mean more than a letter
_UNFIT_IN_STORE = _UNFIT | {"#"}  # what comes after it is no part of an address
_NOT_IN_RECIPE: dict[str, bool | set[str]] = {
    "paths": True,
    "storage": True,
    "compute": True,
    "mapping": True,
    "alerts": True,
    "backfill": True,
    "housekeeping": True,
    "night": True,  # what was dropped for lack of time is part of the release's own name
    "train": {"checkpoint_seconds", "checkpoint_steps", "max_minutes"},
}
Parameters = dict[str, Value]


@dataclass(frozen=True)
class Shop:
    """What every stage needs to know; small, and the same all night."""

    settings: Settings
    mapping: Mapping
    lender: Borrowed | None = None  # of what is read and not made, where a backfill works apart
    only_read: bool = False  # no table is made, not even an empty one

    @property
    def lake(self) -> Lake:
        """The folder of tables."""
        return Lake(self.settings.paths.lake, self.lender, self.only_read)

    @property
    def landing(self) -> Place:
        """The folder of raw files."""
        return self.settings.paths.landing.absolute()

    @property
    def recipe(self) -> str:
        """A hash of all that decides what a release holds, the data left out."""
        settings = self.settings.model_dump_json(exclude=_NOT_IN_RECIPE)
        known = [] if self.lender is None else [f"as known {self.lender.as_of}"]
        return fingerprint([settings, self.mapping.model_dump_json(), _code_hash(), *known])


def open_shop(
    settings: Path | None = None,
    mapping: str | None = None,
    landing: str | Place | None = None,
    lake: str | Place | None = None,
) -> Shop:
    """Read settings and mapping; the other arguments take the place of what the settings say."""
    read = settings_of(settings, mapping, landing, lake)
    refuse_unfit_lake(read.paths.lake)
    refuse_unreached(read.paths)
    refuse_absent_landing(read.paths.landing)
    refuse_strange_models(read.train.models, "train.models")
    return Shop(read, load_mapping(read.mapping))


def settings_of(
    settings: Path | None,
    mapping: str | None,
    landing: str | Place | None,
    lake: str | Place | None,
) -> Settings:
    """The settings, with what else is given in the place of what they say."""
    read = load_settings(settings)
    given = {k: v for k, v in {"landing": landing, "lake": lake}.items() if v is not None}
    named = {key: _named(f"--{key}", value) for key, value in given.items()}
    paths = read.reaching(read.paths.model_copy(update=named))
    return read.model_copy(update={"paths": paths, "mapping": mapping or read.mapping})


def _named(argument: str, value: str | Place) -> Place:
    try:
        return place_of(value)
    except ValueError as error:
        raise SettingsError(
            str(error),
            where=argument,
            unchanged="nothing was read or written",
            fix="name a folder, or s3://bucket/folder",
        ) from error


def refuse_unreached(paths: Paths) -> None:
    """Ask the stores that paths name once; raises StoreError or SettingsError where they refuse."""
    for place in {paths.landing, paths.lake}:
        if isinstance(place, StorePath):
            place.is_dir()


def refuse_unfit_lake(lake: Place) -> None:
    """Raises SettingsError for letters that mean more than a letter to readers and writers."""
    letters = set(str(lake.absolute()))
    unfit = sorted((_UNFIT_IN_STORE if isinstance(lake, StorePath) else _UNFIT) & letters)
    unfit += sorted(repr(each) for each in letters if ord(each) < ord(" "))
    if unfit:
        raise SettingsError(
            f"the path of a lake may not hold {' '.join(unfit)}",
            where=f"paths.lake = {str(lake)!r}",
            unchanged="nothing was read or written",
            fix="name another folder with --lake",
        )


def refuse_absent_landing(landing: Place) -> None:
    """Raises SettingsError where there is no landing folder."""
    if not landing.is_dir():
        raise SettingsError(
            f"there is no landing folder {str(landing)!r}",
            where="paths.landing",
            unchanged="nothing was read or written",
            fix="nightrank sample makes one with a sample shop; or name yours with --landing",
        )


def refuse_strange_models(models: Iterable[str], where: str) -> None:
    """Raises SettingsError for models that no registry knows."""
    strangers = sorted(set(models) - set(MODELS))
    if strangers:
        raise SettingsError(
            f"no model named {', '.join(strangers)}",
            where=where,
            unchanged="nothing was read or written",
            fix=f"the models are {', '.join(sorted(MODELS))}",
        )


def _code_hash() -> str:
    root = Path(__file__).parents[1]
    files = [*sql.ROOT.rglob("*.sql")]
    for part in _CODE:
        path = root / part
        files += [path] if path.is_file() else path.rglob("*.py")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def parameters(shop: Shop, ds: date) -> Parameters:
    """What the SQL of the night of `ds` may ask for."""
    meaning, settings = shop.mapping.behaviours, shop.settings
    return {
        "ds": ds,
        "since": ds - timedelta(days=meaning.history_days - 1),
        "cut": ds - timedelta(days=meaning.holdout_days),
        "active_since": ds - timedelta(days=meaning.active_days - 1),
        "catalogue_ds": _catalogue_ds(shop, ds),
        "window": timedelta(days=meaning.history_days - 1),
        "seen": list(meaning.seen),
        "repurchase": meaning.repurchase,
        "smoothing_a": settings.propensity.smoothing_a,
        "smoothing_b": settings.propensity.smoothing_b,
        "eta": settings.propensity.eta,
        "clip": settings.propensity.clip,
        "clip_quantile": settings.propensity.clip_quantile,
        "estimator": settings.propensity.estimator,
        "n_folds": settings.estimate.n_folds,
        "k": settings.publish.k,
        "published": settings.publish.model,
        "cold_model": settings.publish.cold_model,
    }


def _catalogue_ds(shop: Shop, ds: date) -> date:
    """The newest catalogue up to `ds`; the first there is where all are later."""
    days = sorted(shop.lake.pin("clean.items").days())
    return max((day for day in days if day <= ds), default=days[0] if days else ds)


def with_cut(s: Session, params: Parameters) -> Parameters:
    """The same, with the cut at `ds`, and so no holdout, where nothing older can be learnt from."""
    n_older = s.value(
        "SELECT count(*) FROM features.behaviours_daily INNER JOIN settings.positives "
        "USING (behaviour) WHERE ds BETWEEN $since AND $cut",
        params,
    )
    return params if n_older else {**params, "cut": params["ds"]}


def name_positives(s: Session, shop: Shop) -> None:
    """Make `settings.positives` (behaviour, weight) readable in SQL."""
    weights = sorted(shop.mapping.behaviours.positives.items())
    rows = ", ".join(f"('{behaviour}', {weight!r}::DOUBLE)" for behaviour, weight in weights)
    s.con.execute("CREATE SCHEMA IF NOT EXISTS settings")
    s.view("settings.positives", f"SELECT * FROM (VALUES {rows}) AS t (behaviour, weight)")
