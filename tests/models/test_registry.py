import subprocess
import sys

import pytest

from models.registry import MODELS, load


@pytest.mark.parametrize("name", MODELS)
def test_every_name_loads_a_class_that_states_its_facts(name: str) -> None:
    kind = load(name)
    assert kind.reads
    assert kind.paper
    assert kind.assumes.endswith(".")
    assert kind.behaviours
    assert isinstance(kind.needs_propensity, bool)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no model named 'brp'; known models: bpr, causalrec, "):
        load("brp")


def test_reading_the_registry_does_not_import_torch() -> None:
    code = "import sys, models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
