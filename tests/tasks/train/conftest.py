import pytest

from tasks.train import loop, run


@pytest.fixture
def few_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """The users of planted worlds are too few to choose an epoch, and their epochs too short."""
    monkeypatch.setattr(loop, "LEAST_CHOOSING", 1)
    monkeypatch.setattr(run, "LEAST_PATIENCE", 0)
