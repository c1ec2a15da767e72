"""Phase `revealing`: devices reveal the numbers that the graph is drawn from. Every one of them is needed."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import saying
from coordinator.secure_aggregation.machine.turn import Turn
from edge_sdk.errors import RevealMissing, RosterInvalid
from edge_sdk.secure_aggregation import Reveal, commitment, ring_seed


def take(turn: Turn, place: int, message: Reveal) -> None:
    """Take in a number, which must be the one that its device has committed to."""
    state, entry = turn.state, turn.state.roster[place]
    if commitment(state.terms, entry.device, message.number) != entry.commitment:
        raise RosterInvalid(f"{entry.device!r} reveals another number than it has committed to.")
    turn.set(numbers={**state.numbers, place: message.number})


def end(turn: Turn) -> None:
    """Fix the seed of the graph."""
    state = turn.state
    if state.awaited:
        turn.abandon(
            RevealMissing(
                f"{len(state.awaited)} of {len(state.roster)} devices have not revealed their part of the graph's "
                "seed. Without them it would be open to choice: a new attempt begins without them."
            )
        )
        return
    numbers = [state.numbers[place] for place in range(len(state.roster))]
    turn.set(seed=ring_seed(state.digest, numbers), phase="sharing")
    saying.announce(turn)
