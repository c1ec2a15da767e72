"""Intake of messages: each is checked against its sender's limits, then waits for the coordinator's loop."""

from __future__ import annotations

from coordinator.ingress.gate import Gate
from coordinator.ingress.inbox import Inbox, Item, Reaction
from coordinator.ingress.rate_limits import (
    FEDERATION_FULL,
    STRANGERS,
    TOO_MANY_DOWNLOADS,
    TOO_MUCH_STORAGE,
    Bucket,
    Limits,
    Rates,
    Storage,
)

__all__ = [
    "FEDERATION_FULL",
    "STRANGERS",
    "TOO_MANY_DOWNLOADS",
    "TOO_MUCH_STORAGE",
    "Bucket",
    "Gate",
    "Inbox",
    "Item",
    "Limits",
    "Rates",
    "Reaction",
    "Storage",
]
