"""A masked sum: the update stays at home, and its change goes out under masks. From its first keys to the round's end.

`edge_sdk.secure_aggregation.device` decides what is said, see `masked`. The round's end says whether the update counts.
"""

from __future__ import annotations

from edge_sdk.membership.rounds.actions import Withdraw
from edge_sdk.membership.rounds.events import Drawn, SumHeard, VectorMade
from edge_sdk.membership.rounds.machine import bringing, intervals, masked, offering
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.secure_aggregation import Delivery, device
from edge_sdk.wire import RoundStart, Step


def drawn(turn: Turn, event: Drawn) -> None:
    """Begin the attempt, or go on with it if it was begun before."""
    if turn.state.phase == "summing" and turn.offered()[0].plan == event.plan:
        before = turn.state.sum
        masked.feed(turn, device.Begin(event.terms, event.random))
        if turn.state.sum is before and before.terms != event.terms:  # it was refused
            leave(turn)


def heard(turn: Turn, event: SumHeard) -> None:
    """Take in a message of the coordinator."""
    if turn.state.phase == "summing":
        if isinstance(event.message, Delivery):  # its vector is still wanted, whoever has said that it is stored
            turn.set(stored=False)
        turn.set(until=turn.now + turn.rules.deadline, vain=0, pause=intervals.REPEAT)
        turn.set(say_at=turn.now + intervals.REPEAT)
        masked.feed(turn, event.message)


def vector_made(turn: Turn, event: VectorMade) -> None:
    """Mask the vector, and hand it in."""
    if _is_making(turn, event.plan):
        masked.feed(turn, device.Vector(event.data))


def stored(turn: Turn, sha256: str) -> None:
    """Note that the coordinator has stored the masked vector: it need not be offered again."""
    if turn.state.phase == "summing" and turn.state.sum.masked:
        turn.set(stored=True)
        turn.actions.append(Withdraw(sha256))


def stepped(turn: Turn, step: Step) -> None:
    """Take in a step: of the same work it may begin another attempt, any other one ends this sum."""
    work, _ = turn.offered()
    known = turn.state.step
    if isinstance(step, RoundStart) and turn.plan(step) == work.plan:
        assert isinstance(known, RoundStart), "a sum is of a round"
        if (step.attempt, step.masking) != (known.attempt, known.masking):
            offering.sum_up(turn, step)
        return  # the same one again is the answer to a Hello: what was said last is repeated in its time
    turn.set(next=step)
    leave(turn)


def leave(turn: Turn) -> None:
    """End this device's part in the sum: the round is over for it."""
    if turn.state.sum.masked:
        turn.actions.append(Withdraw(masked.offer_of(turn).manifest.sha256))
    bringing.wait(turn)


def _is_making(turn: Turn, plan: str) -> bool:
    return turn.state.phase == "summing" and turn.offered()[0].plan == plan and turn.state.sum.phase == "ready"
