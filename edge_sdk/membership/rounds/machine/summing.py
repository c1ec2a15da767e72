"""A masked sum: the update stays at home, and its change goes out under masks. From its first keys to the round's end.

A question of a clustering is answered in the same way.

`edge_sdk.secure_aggregation.device` decides what is said, see `masked`. The round's end says whether the update counts.
"""

from __future__ import annotations

from edge_sdk.errors import RosterInvalid
from edge_sdk.membership.rounds.actions import Withdraw
from edge_sdk.membership.rounds.events import Drawn, SumHeard, VectorMade
from edge_sdk.membership.rounds.machine import bringing, inquiry, intervals, masked, offering
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.secure_aggregation import Delivery, Roster, device
from edge_sdk.wire import ClusterStart, Finished, RoundStart, Step


def drawn(turn: Turn, event: Drawn) -> None:
    """Begin the attempt, or go on with it if it was begun before."""
    if _is_of(turn, event.plan):
        before = turn.state.sum
        masked.feed(turn, device.Begin(event.terms, event.random))
        if turn.state.sum is before and before.terms != event.terms:  # it was refused
            leave(turn)


def heard(turn: Turn, event: SumHeard) -> None:
    """Take in a message of the coordinator."""
    if turn.state.phase == "summing":
        start = turn.state.step
        if isinstance(start, ClusterStart) and isinstance(event.message, Roster):
            try:
                inquiry.check_roster(turn, start, event.message)
            except RosterInvalid as error:
                turn.tell("sum_refused", code=type(error).__name__, reason=str(error))
                return
        if isinstance(event.message, Delivery):  # its vector is still wanted, whoever has said that it is stored
            turn.set(stored=False)
        turn.set(until=turn.now + turn.rules.deadline, vain=0, pause=intervals.REPEAT)
        turn.set(say_at=turn.now + intervals.REPEAT)
        masked.feed(turn, event.message)


def vector_made(turn: Turn, event: VectorMade) -> None:
    """Mask the vector, and hand it in."""
    if _is_of(turn, event.plan) and turn.state.sum.phase == "ready":
        masked.feed(turn, device.Vector(event.data))


def stored(turn: Turn, sha256: str) -> None:
    """Note that the coordinator has stored the masked vector: it need not be offered again."""
    if turn.state.phase == "summing" and turn.state.sum.masked:
        turn.set(stored=True)
        turn.actions.append(Withdraw(sha256))


def stepped(turn: Turn, step: Step) -> None:
    """Take in a step: of the same work it may begin another attempt, any other one ends this sum."""
    known = turn.state.step
    assert isinstance(known, RoundStart | ClusterStart), "a sum is of a round, or answers a question"
    if not isinstance(step, Finished) and turn.plan(step) == turn.plan(known):
        if (step.attempt, step.masking) == (known.attempt, known.masking):
            return  # the answer to a Hello: what was said last is repeated in its time
        if isinstance(step, RoundStart):
            offering.sum_up(turn, step)
            return
    turn.set(next=step)
    leave(turn)


def leave(turn: Turn) -> None:
    """End this device's part in the sum: the round is over for it."""
    if turn.state.sum.masked:
        turn.actions.append(Withdraw(masked.offer_of(turn).manifest.sha256))
    bringing.wait(turn)


def _is_of(turn: Turn, plan: str) -> bool:
    step = turn.state.step
    return turn.state.phase == "summing" and step is not None and turn.plan(step) == plan
