"""One stage at a time on the GPU, over all runs that talk to the same Prefect server.

A global concurrency limit of Prefect, which holds each place under a lease: one that a killed run
had is free again after LEASE seconds. (A limit on a tag would keep it taken for ever.) The first
run that asks makes it, with one place; whoever has more GPUs sets it to as many.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

LIMIT = "nightrank-gpu"
LEASE = 120.0  # seconds; it is renewed for as long as the stage runs


@contextmanager
def place_on_gpu() -> Iterator[None]:
    """Wait until there is a place, and have it; only within a flow."""
    _make_limit()
    with concurrency(LIMIT, occupy=1, lease_duration=LEASE, strict=True):
        yield


def _make_limit() -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            # another run may make it at the same moment
            with suppress(ObjectAlreadyExists, PrefectHTTPStatusError):
                client.upsert_global_concurrency_limit_by_name(LIMIT, 1)
