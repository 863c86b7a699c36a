from pathlib import Path

import pytest

from tasks.sample import ShopSettings, write_sample
from tests.scenarios.nights import Place, found


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample shop of seven days."""
    root = tmp_path_factory.mktemp("sample")
    write_sample(ShopSettings(n_days=7, n_users=120, n_items=60), root)
    return root


@pytest.fixture(scope="session")
def one_night(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shop that has run one night, of its sixth day. Copy it; do not change it."""
    place = found(Place(tmp_path_factory.mktemp("one")), 0, 6, sample)
    assert place.run().ending == "published"
    return place
