import pytest

from tasks.sample import ShopSettings
from tests.scenarios.truths import World, build


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A sample shop of eight days whose truth is known; tests set the estimator that they need."""
    return build(ShopSettings(n_days=8, seed=11), tmp_path_factory.mktemp("world"))
