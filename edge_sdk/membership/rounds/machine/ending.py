"""Ends of a membership: at home, stopped by its owner, or given up because nothing came."""

from __future__ import annotations

from edge_sdk.membership.rounds.actions import NobodyThere, PutInPlace, SayLeave, Silent
from edge_sdk.membership.rounds.events import Alone
from edge_sdk.membership.rounds.machine import updates
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.wire import ClusterStart


def alone(turn: Turn, event: Alone) -> None:
    """Go home with the adapters of a federation that has ended."""
    if turn.state.phase in ("seeking", "joining"):
        turn.set(step=event.ending, cluster=event.ending.cluster, online=False)
        turn.move("going_home")
        turn.actions.append(PutInPlace(event.ending))


def in_place(turn: Turn) -> None:
    """Leave, as the last adapters lie where drawing finds them."""
    turn.move("home")
    reason = "finished" if turn.state.finished else "took part in as many rounds as it wanted"
    turn.actions.append(SayLeave(reason))


def stopped(turn: Turn) -> None:
    """End the membership as it is. What the journal keeps is for the next one."""
    if turn.state.phase == "home":
        return
    if turn.state.phase != "seeking":  # nothing was said before
        turn.actions.append(SayLeave("stopped by its owner"))
    turn.move("home")


def waited_long_enough(turn: Turn) -> None:
    """Give up a wait, with a named reason."""
    match turn.state.phase:
        case "seeking":
            turn.actions.append(NobodyThere(turn.rules.answer))
        case "joining":
            turn.actions.append(Silent("did not answer Join", turn.rules.answer))
        case "waiting":
            turn.actions.append(Silent("did not go on", turn.rules.deadline))
        case "bringing":
            turn.actions.append(Silent("did not send its adapters", turn.rules.deadline))
        case "handing_in" if turn.state.counted:  # without an answer, the end of its round is the best evidence
            updates.commit(turn)
        case "summing" if isinstance(turn.state.step, ClusterStart):
            turn.actions.append(Silent("did not finish the masked sum of answers to its question", turn.rules.deadline))
        case "summing":
            _, offer = turn.offered()
            turn.actions.append(Silent(f"did not finish the masked sum of round {offer.round}", turn.rules.deadline))
        case "handing_in":
            _, offer = turn.offered()
            turn.actions.append(Silent(f"did not take the update of round {offer.round}", turn.rules.deadline))
