"""The state of a shop: what is served, what is stale and why, what ran, and what it takes."""

from tasks.status.records import Status
from tasks.status.whole import status

__all__ = ["Status", "status"]
