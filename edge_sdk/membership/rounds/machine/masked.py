"""Steps of a masked sum: `edge_sdk.secure_aggregation.device` takes them; what it says becomes actions here."""

from __future__ import annotations

from edge_sdk.membership.rounds.actions import HandInVector, KeepSum, MakeVector, SaySum
from edge_sdk.membership.rounds.machine import intervals
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.secure_aggregation import device, encode
from edge_sdk.wire import Offer, RoundStart, Sum, make_manifest


def feed(turn: Turn, event: device.Event) -> None:
    """Do a step of the sum's machine; its state is stored before anything that follows is said."""
    rules = turn.rules.masks
    assert rules is not None, "this device can take part in masked sums"
    before = turn.state.sum
    after, actions = device.step(rules, before, event)
    if after != before:
        turn.set(sum=after)
        turn.actions.append(KeepSum(after, vector=after.masked != before.masked))
    for action in actions:
        match action:
            case device.Say(message):
                turn.actions.append(SaySum(Sum(content=encode(message))))
            case device.HandIn():
                if not turn.state.stored:
                    turn.actions.append(HandInVector(turn.state.sum.masked, offer_of(turn)))
            case device.Refuse(error):
                turn.tell("sum_refused", code=type(error).__name__, reason=str(error))
    start = turn.state.step
    if after.phase == "ready" and isinstance(start, RoundStart) and actions:
        turn.actions.append(MakeVector(turn.offered()[0].plan, start))


def say_again(turn: Turn) -> None:
    """Say the last word again, as the answer to it may be lost."""
    turn.set(vain=turn.state.vain + 1)
    turn.set(say_at=turn.now + intervals.spread(turn, intervals.growing(turn.state.vain)))
    feed(turn, device.Restarted())


def offer_of(turn: Turn) -> Offer:
    """The offer of the masked vector. What else an offer says is in the vector."""
    state = turn.state.sum
    assert state.terms is not None, "there is an attempt"
    manifest = make_manifest(state.masked, role="update", name=f"masked-update-{state.terms.round}")
    return Offer(
        round=state.terms.round,
        attempt=state.terms.attempt,
        manifest=manifest,
        pictures=1,
        first_loss=0.0,
        last_loss=0.0,
        train_seconds=0.0,
    )
