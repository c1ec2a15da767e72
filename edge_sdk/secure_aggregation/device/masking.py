"""Masking: the neighbours' shares come in, and the vector goes out under masks."""

from __future__ import annotations

from edge_sdk.errors import MessageInvalid, TooFewDevices
from edge_sdk.secure_aggregation import keys
from edge_sdk.secure_aggregation.device.actions import HandIn
from edge_sdk.secure_aggregation.device.events import Vector
from edge_sdk.secure_aggregation.device.turn import Turn
from edge_sdk.secure_aggregation.masks import add_masks, from_bytes, to_bytes
from edge_sdk.secure_aggregation.messages import SEALED_BYTES, Delivery, Ready, places


def take_delivery(turn: Turn, delivery: Delivery) -> None:
    """Take in the neighbours' shares, and sign who takes part."""
    terms, secrets = turn.keys()
    state, devices = turn.state, len(turn.state.roster)
    sharers = places(delivery.sharers, devices)
    senders = [place for place in turn.graph().neighbours(state.here) if place in sharers]
    fewest = terms.fewest(devices, state.given)
    if state.here not in sharers or len(sharers) < fewest or len(senders) + 1 < state.given.threshold:
        raise TooFewDevices(
            f"{len(sharers)} of {devices} devices have sent shares, {len(senders)} of them neighbours of this one: "
            f"the sum asks for {fewest}, and for {state.given.threshold - 1} neighbours."
        )
    if len(delivery.sealed) != SEALED_BYTES * len(senders):
        raise MessageInvalid(f"{len(delivery.sealed)} bytes of shares from {len(senders)} neighbours.")
    sealer = turn.sealer(secrets)
    held = dict(state.held)
    for number, place in enumerate(senders):
        sealed = delivery.sealed[number * SEALED_BYTES : (number + 1) * SEALED_BYTES]
        held[place] = sealer.opened(state.roster[place], sealed)
    turn.set(sharers=delivery.sharers, held=held)
    turn.move("ready")
    content = keys.ready_content(terms, turn.state.digest, delivery.sharers)
    turn.say(Ready, signature=keys.sign(turn.rules.identity, content))


def mask(turn: Turn, vector: Vector) -> None:
    """Mask the vector, once, and forget the secrets."""
    assert turn.state.phase == "ready", f"nothing is masked in phase {turn.state.phase}"
    terms, secrets = turn.keys()
    total = from_bytes(vector.data)
    assert len(total) == terms.words, f"a vector of {len(total)} words in a sum of {terms.words}"
    state, roster = turn.state, turn.state.digest
    name, private = turn.rules.device, keys.mask_private_key(terms, turn.rules.device, secrets.mask_seed)
    masks = [(keys.self_mask_key(terms, roster, name, secrets.self_seed), 1)]
    for place in turn.graph().neighbours(state.here):
        if place in state.held:
            other = state.roster[place]
            first, second = sorted((name, other.device))
            key = keys.pair_mask_key(terms, roster, private, other.mask_key, first, second)
            masks.append((key, 1 if state.here < place else -1))
    add_masks(total, masks)
    turn.set(masked=to_bytes(total), secrets=None)
    turn.move("masked")
    turn.actions.append(HandIn())
