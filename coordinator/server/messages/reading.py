"""Reading of messages, which are counted by their kinds."""

from __future__ import annotations

from coordinator.telemetry import INVALID, Counters
from edge_sdk.errors import MessageInvalid
from edge_sdk.wire import Message, decode


def decode_counted(payload: bytes, counters: Counters) -> Message:
    """Return the message of a payload, and count it. Raises MessageInvalid if there is none."""
    try:
        message = decode(payload)
    except MessageInvalid:
        counters.add("up", INVALID, len(payload))
        raise
    counters.add("up", type(message).__name__.lower(), len(payload))
    return message


def nothing() -> None:
    """Do nothing: the reaction to a message that needs none."""
