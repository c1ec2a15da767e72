"""Phase `unmasking`: devices give the shares that restore what is left of the masks."""

from __future__ import annotations

from coordinator.secure_aggregation.machine.actions import Unmask
from coordinator.secure_aggregation.machine.turn import Turn
from coordinator.secure_aggregation.unmasking import owners
from edge_sdk.errors import MessageInvalid, ShareInvalid
from edge_sdk.secure_aggregation import SHARE_BYTES, UnmaskAnswer


def take(turn: Turn, place: int, message: UnmaskAnswer) -> None:
    """Take in a device's shares."""
    state = turn.state
    wanted = len(owners(turn.graph().holders(place), state.sharers))
    if len(message.shares) != SHARE_BYTES * wanted:
        raise MessageInvalid(f"{len(message.shares)} bytes of shares of {wanted} devices.")
    turn.set(answers={**state.answers, place: message.shares})


def end(turn: Turn) -> None:
    """Ask for the unmasking, if there are enough shares of every secret."""
    state, edges = turn.state, turn.graph()
    for place in sorted(state.sharers):
        there = sum(holder in state.answers for holder in edges.holders(place))
        if there < state.given.threshold:
            turn.abandon(
                ShareInvalid(
                    f"{there} shares of the secret of {state.roster[place].device!r} came, and it takes "
                    f"{state.given.threshold}: too many devices were lost after they had handed in their vectors."
                )
            )
            return
    turn.set(phase="summing")
    turn.actions.append(Unmask(turn.state.task))
