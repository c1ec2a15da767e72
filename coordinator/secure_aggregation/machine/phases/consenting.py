"""Phase `consenting`: devices sign who is in the sum, until a quorum has signed the same."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import saying
from coordinator.secure_aggregation.machine.turn import Turn
from edge_sdk.errors import TooFewDevices
from edge_sdk.secure_aggregation import Consent, consent_content


def take(turn: Turn, place: int, message: Consent) -> None:
    """Take in a consent, which may also come while others answer already."""
    state, entry = turn.state, turn.state.roster[place]
    turn.check_signature(entry, message, consent_content(state.terms, state.digest, *turn.sets()))
    turn.set(consents={**state.consents, place: message.signature})
    if state.phase == "unmasking":  # later than most; it can still answer
        saying.repeat_to(turn, entry.device)


def end(turn: Turn) -> None:
    """Show a quorum's consents to all that are in the sum."""
    state = turn.state
    quorum = state.terms.policy.quorum(len(state.roster))
    if len(state.consents) < quorum:
        there = f"{len(state.consents)} of {len(state.roster)} devices"
        turn.abandon(TooFewDevices(f"{there} have agreed to the sum, and it takes {quorum}."))
        return
    turn.set(phase="unmasking")
    saying.announce(turn)
