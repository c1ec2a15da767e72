"""Steps of a masked sum: `edge_sdk.secure_aggregation.device` takes them; what it says becomes actions here."""

from __future__ import annotations

from edge_sdk.membership.rounds.actions import HandInVector, KeepSum, MakeVector, SaySum
from edge_sdk.membership.rounds.machine import intervals
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.privacy import Answered, cost, read_question
from edge_sdk.secure_aggregation import device, encode, places
from edge_sdk.wire import ClusterStart, Offer, RoundStart, Sum, make_manifest


def feed(turn: Turn, event: device.Event) -> None:
    """Do a step of the sum's machine; its state is stored before anything that follows is said.

    What an answer with noise spends is stored with its masked vector.
    """
    rules = turn.rules.masks
    assert rules is not None, "this device can take part in masked sums"
    before, start = turn.state.sum, turn.state.step
    after, actions = device.step(rules, before, event)
    if after != before:
        answered = spent = None
        masked = after.masked != before.masked
        if isinstance(start, ClusterStart) and after.answer is not None and after.answer != before.answer:
            answered = _agreed(turn, start, after)
            turn.set(answered_last=answered)
        if isinstance(start, ClusterStart) and start.noise is not None and masked and after.masked:
            price = cost(read_question(start.question), start.noise)
            spent = turn.state.spent.and_now(price, start.noise.delta)
            turn.set(spent=spent)
        turn.set(sum=after)
        turn.actions.append(KeepSum(after, vector=masked, answered=answered, spent=spent))
        if spent is not None:
            turn.tell("budget_spent", epsilon=spent.epsilon, delta=spent.delta, allowed=turn.rules.epsilon)
    for action in actions:
        match action:
            case device.Say(message):
                turn.actions.append(SaySum(Sum(content=encode(message))))
            case device.HandIn():
                if not turn.state.stored:
                    turn.actions.append(HandInVector(turn.state.sum.masked, offer_of(turn)))
            case device.Refuse(error):
                turn.tell("sum_refused", code=type(error).__name__, reason=str(error))
    if after.phase == "ready" and isinstance(start, RoundStart | ClusterStart) and actions:
        turn.actions.append(MakeVector(turn.plan(start), start))


def _agreed(turn: Turn, start: ClusterStart, after: device.State) -> Answered:
    """Return the sum of answers that this device agrees to, to be remembered before it says so."""
    assert after.answer is not None, "it agrees"
    survivors = {after.roster[place].device for place in places(after.answer[0], len(after.roster))}
    return turn.state.answered_last.and_now(read_question(start.question), survivors)


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
