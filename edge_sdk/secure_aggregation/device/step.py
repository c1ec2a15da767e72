"""A device's half of a masked sum as a pure state machine: `step(rules, state, event) -> (state, actions)`.

No clock, no socket, no disk. The caller stores the new state, synced, before it carries out any of the actions: a
device that dies at any time says the same again afterwards (`Restarted`), with the same keys and for the same sets, or
nothing.

    idle ──Begin──> advertised ──Roster──> revealed ──Numbers──> shared ──Delivery──> ready ──vector──> masked
                        └───────────complete graph: Roster────────^                                       │
                                                     answered <──Consents── consented <──UnmaskRequest────┘

The keys live as long as they are needed: private keys and the self mask's secret go when the vector is masked, the
neighbours' shares when the consents are answered. Guarantees, tested by tests/secure_aggregation:

- One vector is masked with an attempt's keys, once.
- One unmask request is agreed to in an attempt, for sets that are disjoint, together are all who sent shares, and leave
  as many survivors as the policy asks for, all of whose neighbours among them have signed that they mask for the same
  sharers. The same request gets the same answer again, another one none.
- Shares are given only if a quorum has signed the same sets: no two devices answer for different ones.
- After an answer for a sum of updates no update is given in this round any more, in no attempt and after no restart of
  the coordinator: two sums of one update in different company differ by somebody's update. As those who have answered
  for a sum are in no later one, no sums of a round can be combined to a single update. Sums of answers to a question
  (`Terms.once` is false) may be repeated; whoever begins them limits their company.
- What is invalid, late or repeated changes nothing, and is refused by name.

`roster` takes in who takes part and shares this device's secrets, `masking` its neighbours' shares and the vector, and
`unmasking` the end.
"""

from __future__ import annotations

import hashlib

from edge_sdk.errors import AttemptMismatch, MaskedSumError, UnmaskRefused, WireError
from edge_sdk.secure_aggregation import keys
from edge_sdk.secure_aggregation.device import masking, roster, unmasking
from edge_sdk.secure_aggregation.device.actions import Action, Refuse
from edge_sdk.secure_aggregation.device.events import Begin, Event, Restarted, Vector
from edge_sdk.secure_aggregation.device.state import Rules, State
from edge_sdk.secure_aggregation.device.turn import Turn
from edge_sdk.secure_aggregation.messages import (
    Advertise,
    Consents,
    Delivery,
    FromCoordinator,
    Numbers,
    Roster,
    UnmaskRequest,
    encode,
)


def step(rules: Rules, state: State, event: Event) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a message of the coordinator."""
    turn = Turn(rules, state)
    try:
        _take(turn, event)
    except (MaskedSumError, WireError) as error:
        return state, [Refuse(error)]
    return turn.state, turn.actions


def _take(turn: Turn, event: Event) -> None:
    match event:
        case Begin():
            _begin(turn, event)
        case Vector():
            masking.mask(turn, event)
        case Restarted():
            turn.say_again()
        case _:
            _hear(turn, event)


def _hear(turn: Turn, message: FromCoordinator) -> None:
    state = turn.state
    if state.terms is None:
        raise AttemptMismatch(
            f"A {type(message).__name__} came, and this device takes part in no masked sum: nothing comes of it."
        )
    message.check(state.terms)
    heard = hashlib.sha256(encode(message)).digest()
    if heard == state.heard:
        turn.say_again()
        return
    match state.phase, message:
        case "advertised", Roster():
            roster.take_roster(turn, message)
        case "revealed", Numbers():
            roster.take_numbers(turn, message)
        case "shared", Delivery():
            masking.take_delivery(turn, message)
        case "masked", UnmaskRequest():
            unmasking.agree(turn, message)
        case "consented", Consents():
            unmasking.answer(turn, message)
        case "consented" | "answered", UnmaskRequest():
            if (message.survivors, message.dropped) == state.answer:
                turn.say_again()
                return
            raise UnmaskRefused(
                "The coordinator asks for a second unmasking in one attempt, for other sets of devices. With both, "
                "it could see single updates: nothing is sent."
            )
        case _:
            raise AttemptMismatch(
                f"A {type(message).__name__} came when this device was {state.phase}: nothing comes of it."
            )
    turn.set(heard=heard)


def _begin(turn: Turn, event: Begin) -> None:
    before, terms = turn.state.terms, event.terms
    if terms == before:
        turn.say_again()
        return
    if before is not None:
        if terms.numbers <= before.numbers:
            raise AttemptMismatch(
                f"Start {terms.epoch}, round {terms.round}, attempt {terms.attempt} is not newer than the one that "
                "this device has taken part in: its keys would be used twice."
            )
        if terms.once and turn.state.helped_in == terms.round:
            raise UnmaskRefused(
                f"This device has helped to unmask round {terms.round} already. A second sum of the same updates "
                "in other company would show single ones: it takes part again in the next round."
            )
    secrets = keys.split_randomness(event.random)
    turn.state = State(phase="advertised", terms=terms, secrets=secrets, spent=turn.state.helped_in)
    turn.say(Advertise, advertisement=keys.advertised(terms, turn.rules.device, turn.rules.identity, secrets))
