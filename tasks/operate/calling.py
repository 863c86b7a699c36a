"""A webhook as a Prefect block that tries again: Prefect's own calls once, whatever is answered."""

import asyncio
from typing import Any

import httpx
from prefect.blocks.webhook import Webhook

PAUSES = (1.0, 3.0, 9.0)  # seconds before another try; two alerts at once hold up all others
TIMEOUT = 5.0  # seconds for one answer
CAN_PASS = (408, 425, 429)  # answers after which another try may be taken; those from 500 on too


class NightrankWebhook(Webhook):
    """A call of a URL, tried a few times."""

    _block_type_name = "Nightrank Webhook"
    _block_type_slug = "nightrank-webhook"

    async def call(self, payload: dict[str, Any] | str | None = None) -> httpx.Response:
        """Call it until it takes the payload; returns its answer.

        Raises httpx.HTTPError where it does not, after the last try or when no other can help.
        Prefect notes that as an event, and an automation tells it.
        """
        for pause in PAUSES:
            try:
                return await self._once(payload)
            except httpx.HTTPStatusError as error:
                if not _can_pass(error.response.status_code):
                    raise
            except httpx.TransportError:
                pass  # nobody there, or no answer in time
            await asyncio.sleep(pause)
        return await self._once(payload)

    async def _once(self, payload: dict[str, Any] | str | None) -> httpx.Response:
        body = {"content": payload} if isinstance(payload, str) else {"json": payload}
        headers = self.headers.get_secret_value()
        async with httpx.AsyncClient(verify=self.verify, timeout=TIMEOUT) as client:
            url = self.url.get_secret_value()
            answer = await client.request(self.method, url, headers=headers, **body)
        if not answer.is_success:
            # its own words hold the URL, which is a secret
            raise httpx.HTTPStatusError(
                f"the webhook answered {answer.status_code}",
                request=answer.request,
                response=answer,
            )
        return answer


def _can_pass(status: int) -> bool:
    return status in CAN_PASS or status >= 500
