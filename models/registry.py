"""The models by name. Importing this module imports no model and no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from models.contract import Recommender

MODELS: dict[str, str] = {
    "popularity": "models.popularity:Popularity",
    "bpr": "models.bpr:BPR",
    "ease": "models.ease:EASE",
    "ials": "models.ials:IALS",
    "lightgcn": "models.lightgcn:LightGCN",
    "sasrec": "models.sasrec:SASRec",
    "causalrec": "models.causalrec:CausalRec",
}


def load(name: str) -> "type[Recommender]":
    """The model class registered under `name`.

    Raises:
        ValueError: no model has this name; the message lists those that exist.
    """
    if name not in MODELS:
        raise ValueError(f"no model named {name!r}; known models: {', '.join(sorted(MODELS))}")
    module, _, attribute = MODELS[name].partition(":")
    return cast("type[Recommender]", getattr(import_module(module), attribute))
