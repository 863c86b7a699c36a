"""SIGKILL before and after every write of a night, and inside training and scoring."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sample import ShopSettings, write_sample
from tests.scenarios.nights import (
    Moment,
    Place,
    contents,
    count_writes,
    found,
    run_and_die,
    run_apart,
)

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module", params=[11, 12])
def shops(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Place]:
    """A shop before and after its second night, both whole, for each of several seeds."""
    root = tmp_path_factory.mktemp("soak")
    settings = ShopSettings(n_days=5, n_users=80, n_items=45, seed=request.param)
    write_sample(settings, root / "sample")
    before = found(Place(root / "before"), 0, 4, root / "sample")
    assert run_apart(before) == 0
    ready = before.copy(root / "ready")
    ready.landing.unlink()
    found(ready, 0, 5, root / "sample")
    after = ready.copy(root / "after")
    assert run_apart(after) == 0
    return [ready, after]


def _moments(place: Place) -> Iterator[Moment]:
    for stage, n_writes in count_writes(place).items():
        for write in range(1, n_writes + 1):
            yield Moment(stage, write, "before")
            yield Moment(stage, write, "after")
    yield Moment("train bpr", when="moved")
    yield Moment("score bpr", when="moved")


def test_a_night_killed_at_any_write_converges(shops: list[Place], tmp_path: Path) -> None:
    ready, after = shops
    moments = list(_moments(ready.copy(tmp_path / "counted")))
    assert len(moments) > 60
    for number, moment in enumerate(moments):
        place = ready.copy(tmp_path / str(number))
        is_checked = moment.stage.startswith("check")
        assert run_and_die(place, None, moment, is_checked=is_checked) == -9, moment
        assert run_apart(place, is_checked=is_checked) == 0, moment
        assert contents(place.lake) == contents(after.lake), moment
