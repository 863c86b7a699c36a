import pytest

from tasks.train import loop


@pytest.fixture
def few_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """The users of planted worlds are too few to choose an epoch."""
    monkeypatch.setattr(loop, "LEAST_CHOOSING", 1)
