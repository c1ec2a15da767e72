"""Messages of the coordinator: its state, its welcome, its steps and its refusals."""

from __future__ import annotations

from edge_sdk.membership.rounds.actions import TurnedAway
from edge_sdk.membership.rounds.machine import bringing, offering, saying, summing, updates
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.wire import (
    ClusterStart,
    CoordinatorState,
    Finished,
    Refused,
    RoundStart,
    Step,
    Welcome,
    without_deadline,
)

# Codes of refusals that may come after an update was committed.
AFTERWARDS = frozenset({"UpdateOutlier", "UpdateLost"})


def shown(turn: Turn, said: CoordinatorState) -> None:
    """Take in the coordinator's accepted state. A later start has forgotten transfers, and perhaps this device."""
    before = turn.state
    turn.set(online=said.online, epoch=said.epoch)
    if not said.online:
        return
    if before.phase == "seeking":
        waited = turn.now - (before.until - turn.rules.answer)
        turn.move("joining")
        turn.set(until=turn.now + turn.rules.answer)
        saying.join_soon(turn, waited)
    elif before.phase == "joining" or before.epoch != said.epoch:
        saying.join_soon(turn)
    elif before.phase in ("handing_in", "summing"):
        saying.offer_soon(turn)
    elif not before.online:
        saying.hello_soon(turn)


def welcomed(turn: Turn, welcome: Welcome) -> None:
    """Wait for the first step, as the coordinator knows this device now."""
    if turn.state.phase != "joining":
        return
    turn.tell("joined", round=welcome.round, rounds=welcome.rounds)
    bringing.wait(turn)


def stepped(turn: Turn, step: Step) -> None:
    """Take in a step: act on it, or keep it for later."""
    match turn.state.phase:
        case "waiting":
            bringing.act_on(turn, step)
        case "bringing" | "training":
            _replaced(turn, step)
        case "handing_in":
            _overtaken(turn, step)
        case "summing":
            summing.stepped(turn, step)
        case "seeking" | "joining":
            turn.set(next=step)


def refused(turn: Turn, said: Refused) -> None:
    """Take in the refusal of a message; refusals of an offer that is being handed in come as Failed."""
    if not said.about:  # it does not say which message was refused
        turn.tell("message_refused", code=said.code, reason=said.reason)
    elif said.about == "sum":
        turn.tell("sum_refused", code=said.code, reason=said.reason)
        if turn.state.phase == "summing":  # its round may be over, and the next one has begun
            saying.ask(turn)
    elif said.about == "join":
        turn.actions.append(TurnedAway(said))
    elif said.about == "hello":
        if turn.state.phase != "seeking":  # nothing was said yet: the refusal is forged
            saying.say_join(turn)
    elif said.code in AFTERWARDS and said.about in turn.state.rounds_of:
        rounds_of = dict(turn.state.rounds_of)
        turn.tell("update_refused", round=rounds_of.pop(said.about), reason=f"{said.code}: {said.reason}")
        turn.set(rounds_of=rounds_of)


def _replaced(turn: Turn, step: Step) -> None:
    """Turn to a newer step; the same one again changes at most the attempt that is answered."""
    known = turn.state.step
    assert known is not None, f"there is a step in phase {turn.state.phase}"
    if without_deadline(step) == without_deadline(known):
        return
    if isinstance(step, RoundStart) and turn.state.phase == "training" and turn.plan(step) == turn.plan(known):
        turn.set(step=step)
    else:
        bringing.act_on(turn, step)


def _overtaken(turn: Turn, step: Step) -> None:
    """Take in a step while an update is offered."""
    work, offer = turn.offered()
    if isinstance(step, Finished | ClusterStart):
        turn.set(next=step)
        if not turn.state.counted:
            updates.leave(turn)
    elif turn.plan(step) == work.plan:
        if step.attempt != offer.attempt:  # lower if the coordinator began with a fresh home
            offering.restate(turn, work, step.attempt)
            turn.set(restated=True)
            saying.say_offer(turn)
    else:
        turn.set(next=step)
        if turn.state.counted:
            return
        if offer.round < step.round <= offer.round + turn.state.late:
            saying.say_offer(turn)
        else:
            updates.leave(turn)
