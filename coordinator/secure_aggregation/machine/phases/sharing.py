"""Phase `sharing`: devices send shares of their secrets; who has by its end takes part in masking."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import saying
from coordinator.secure_aggregation.machine.turn import Turn
from edge_sdk.errors import MessageInvalid
from edge_sdk.secure_aggregation import SEALED_BYTES, Shares


def take(turn: Turn, place: int, message: Shares) -> None:
    """Take in encrypted shares."""
    state = turn.state
    if len(message.sealed) != SEALED_BYTES * state.given.neighbours:
        raise MessageInvalid(f"{len(message.sealed)} bytes of shares for {state.given.neighbours} neighbours.")
    turn.set(shares={**state.shares, place: message})


def end(turn: Turn) -> None:
    """Fix who takes part in masking."""
    shares = turn.state.shares
    if turn.are_enough(len(shares), "sent shares"):
        turn.set(sharers=frozenset(shares), phase="uploading")
        saying.announce(turn)
