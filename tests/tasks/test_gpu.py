"""What becomes of a place on the GPU where the server is away."""

import httpx
import pytest

from tasks import gpu


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of a clock that a pause moves."""
    times = [0.0]
    monkeypatch.setattr("tasks.gpu.time.monotonic", lambda: times[-1])
    monkeypatch.setattr("tasks.gpu.time.sleep", lambda seconds: times.append(times[-1] + seconds))
    return times


def test_a_server_that_comes_back_is_waited_for(asked: list[float]) -> None:
    def server() -> None:
        if len(asked) < 20:
            raise httpx.ConnectError("nobody listens")

    gpu._ask(server)
    assert len(asked) == 20


def test_one_that_does_not_is_told(asked: list[float]) -> None:
    def server() -> None:
        raise httpx.ConnectError("nobody listens")

    with pytest.raises(httpx.ConnectError, match="nobody listens"):
        gpu._ask(server)
    assert asked[-1] > gpu.PATIENCE


def test_what_else_goes_wrong_is_not_tried_again(asked: list[float]) -> None:
    def server() -> None:
        raise ValueError("no such limit")

    with pytest.raises(ValueError, match="no such limit"):
        gpu._ask(server)
    assert len(asked) == 1
