import json

import pytest

from models.bpr import BPRConfig
from models.registry import MODELS, load


@pytest.mark.parametrize("name", MODELS)
def test_a_config_survives_the_way_through_json(name: str) -> None:
    config = load(name).config_type()
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_fields_keep_their_default_and_whole_numbers_pass_for_floats() -> None:
    assert BPRConfig.from_dict({"learning_rate": 1}) == BPRConfig(learning_rate=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factors": 8}, r"unknown fields \['factors'\]"),
        ({"n_factors": "8"}, "n_factors must be int, not '8'"),
        ({"n_factors": True}, "n_factors must be int, not True"),
        ({"n_factors": 0}, "n_factors must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"weighting": "dr"}, 'weighting must be "none" or "ips"'),
        ({"propensity_clip": 0.0}, "propensity_clip must be in"),
    ],
)
def test_nonsense_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BPRConfig.from_dict(values)
