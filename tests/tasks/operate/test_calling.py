"""A webhook that is tried again, over real connections."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from tasks.operate import calling
from tasks.operate.calling import PAUSES, NightrankWebhook
from tests.flows.receivers import webhook


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "PAUSES", (0.01, 0.01, 0.01))


def call(url: str) -> httpx.Response:
    block = NightrankWebhook(url=SecretStr(url))
    return asyncio.run(block.call(payload='{"outcome": "held"}'))


@pytest.mark.parametrize("answers", [(), (503,), (500, 429, 408)])
def test_it_is_tried_until_it_is_taken(answers: tuple[int, ...]) -> None:
    with webhook(*answers) as (url, calls):
        assert call(url).status_code == 204
        assert calls == [{"outcome": "held"}]


@pytest.mark.parametrize("answers", [(500, 500, 500, 500), (403,), (302,)])
def test_what_is_not_taken_is_an_error_that_tells_no_secret(answers: tuple[int, ...]) -> None:
    with webhook(*answers) as (url, calls):
        with pytest.raises(httpx.HTTPStatusError, match=f"answered {answers[-1]}$") as told:
            call(url)
        assert calls == []
        assert "secret" in url
        assert "secret" not in repr(told.value)
        assert call(url).status_code == 204  # all answers were asked for, and no more


def test_nobody_there_is_an_error_too() -> None:
    with webhook() as (url, _):
        pass
    with pytest.raises(httpx.ConnectError) as told:
        call(url)
    assert "secret" not in repr(told.value)


def test_alerts_are_held_up_for_less_than_a_minute_and_ever_longer() -> None:
    assert list(PAUSES) == sorted(PAUSES)
    assert sum(PAUSES) + (len(PAUSES) + 1) * calling.TIMEOUT < 60
