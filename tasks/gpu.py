"""One stage at a time on the GPU, over all runs that talk to the same Prefect server.

A global concurrency limit of Prefect, which holds each place under a lease: one that a killed run
had is free again after LEASE seconds. (A limit on a tag would keep it taken for ever.) The first
run that asks makes it, with one place; whoever has more GPUs sets it to as many.

A server that dies meanwhile ends no night: one that is started again is waited for, and a stage
that has begun goes on.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

LIMIT = "nightrank-gpu"
LEASE = 120.0  # seconds; it is renewed for as long as the stage runs


PATIENCE = 300.0  # seconds in which a server that died may be back
PAUSE = 2.0


@contextmanager
def place_on_gpu() -> Iterator[None]:
    """Wait until there is a place, and have it; only within a flow."""
    _ask(_make_limit)
    with ExitStack() as held:
        _ask(lambda: held.enter_context(_place()))
        try:
            yield
        finally:
            with suppress(httpx.HTTPError):  # a place that is not given back ends with its lease
                held.close()


@contextmanager
def _place() -> Iterator[None]:
    with concurrency(
        LIMIT,
        occupy=1,
        lease_duration=LEASE,
        strict=True,
        raise_on_lease_renewal_failure=False,
    ):
        yield


def _ask(server: Callable[[], None]) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return server()
        except (httpx.TransportError, ConcurrencySlotAcquisitionError):
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE)


def _make_limit() -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            # another run may make it at the same moment
            with suppress(ObjectAlreadyExists, PrefectHTTPStatusError):
                client.upsert_global_concurrency_limit_by_name(LIMIT, 1)
