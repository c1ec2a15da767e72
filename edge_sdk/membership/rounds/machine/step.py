"""A device's part in a federation as a pure state machine: `step(rules, state, event, now) -> (state, actions)`.

No clock, no socket, no disk: `membership.runner` feeds it what arrives and carries out its actions. Guarantees, tested
by tests/membership/test_machines.py against the coordinator's machine, over a line that loses, repeats and reorders,
with crashes of either side at every step:

- An update that the journal keeps is offered until the coordinator has taken or refused it, or it can count no more.
- A plan whose update is in the journal is not trained again.
- Nobody waits for ever: every phase but training ends by a message, or at `until` with a named reason.

`moves` draws the phases. Events are taken in by `messages` (the coordinator's state, welcome, steps, refusals),
`bringing` (the adapters of a step, up to its work), `updates` (trained, committed, refused, lost), `summing` (the same
under masks) and `ending`. They stand on `offering`, which hands an update in, and `saying`, which says Join, Hello and
Offer and repeats them.

`now` is in seconds of any clock that does not jump back; times in the state are of that clock.
"""

from __future__ import annotations

import math

from edge_sdk.membership.rounds.actions import Action
from edge_sdk.membership.rounds.events import (
    Alone,
    Delivered,
    Drawn,
    Event,
    Failed,
    InPlace,
    Line,
    Opened,
    Stop,
    Stored,
    SumHeard,
    Tick,
    Trained,
    Vanished,
    VectorMade,
)
from edge_sdk.membership.rounds.machine import bringing, ending, messages, saying, summing, updates
from edge_sdk.membership.rounds.machine.turn import Turn
from edge_sdk.membership.rounds.state import Rules, State
from edge_sdk.wire import ClusterStart, CoordinatorState, Finished, Refused, RoundDone, RoundStart, Step, Welcome


def step(rules: Rules, state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a message of the coordinator."""
    turn = Turn(rules, state, now)
    if _is_answer(event):
        saying.answered(turn)
    _take(turn, event)
    return turn.state, turn.actions


def next_wake(state: State) -> float:
    """Return the time of the next Tick if nothing happens before; infinity if none is needed."""
    if state.phase in ("training", "going_home", "home"):
        return math.inf
    return min(state.until, state.say_at)


def _take(turn: Turn, event: Event) -> None:
    match event:
        case Opened():
            turn.set(until=turn.now + turn.rules.answer)
        case Line():
            saying.line_changed(turn, event)
        case CoordinatorState():
            messages.shown(turn, event)
        case Welcome():
            messages.welcomed(turn, event)
        case RoundStart() | ClusterStart() | Finished():
            messages.stepped(turn, event)
        case RoundDone():
            updates.round_done(turn, event)
        case Refused():
            messages.refused(turn, event)
        case Stored():
            bringing.stored(turn, event)
        case Delivered() if turn.state.phase == "summing":
            summing.stored(turn, event.sha256)
        case Delivered():
            updates.delivered(turn, event)
        case Failed() if turn.is_offered(event.sha256):
            updates.refused(turn, event)
        case Failed() if turn.state.phase == "summing":
            turn.tell("sum_refused", code=type(event.error).__name__, reason=str(event.error))
        case Failed():
            bringing.failed(turn, event)
        case Trained():
            updates.trained(turn, event)
        case Vanished():
            updates.vanished(turn, event)
        case Drawn():
            summing.drawn(turn, event)
        case VectorMade():
            summing.vector_made(turn, event)
        case SumHeard():
            summing.heard(turn, event)
        case Alone():
            ending.alone(turn, event)
        case InPlace():
            ending.in_place(turn)
        case Tick() if turn.now >= turn.state.until:
            ending.waited_long_enough(turn)
        case Tick():
            saying.time_passed(turn)
        case Stop():
            ending.stopped(turn)


def _is_answer(event: Event) -> bool:
    """Return True if an event shows that the coordinator is there; its state may be a leftover on the broker."""
    if isinstance(event, Stored):
        return event.anew
    return isinstance(event, Welcome | Step | RoundDone | Refused | Delivered | Failed | SumHeard)
