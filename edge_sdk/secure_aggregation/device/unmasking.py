"""Unmasking: this device agrees to one sum, and gives its shares once a quorum has agreed to the same."""

from __future__ import annotations

from edge_sdk.errors import MessageInvalid, UnmaskRefused
from edge_sdk.secure_aggregation import keys
from edge_sdk.secure_aggregation.device.turn import Turn
from edge_sdk.secure_aggregation.messages import (
    SHARE_BYTES,
    SIGNATURE_BYTES,
    Consent,
    Consents,
    UnmaskAnswer,
    UnmaskRequest,
    places,
)
from edge_sdk.wire import signed_by


def agree(turn: Turn, request: UnmaskRequest) -> None:
    """Agree to a sum, if it has what this device has masked for; raises UnmaskRefused."""
    state, devices = turn.state, len(turn.state.roster)
    assert state.terms is not None, "there is an attempt"
    survivors, dropped = places(request.survivors, devices), places(request.dropped, devices)
    sharers = places(state.sharers, devices)
    fewest = state.terms.fewest(devices, state.given)
    if survivors & dropped:
        raise UnmaskRefused(
            f"{len(survivors & dropped)} devices are listed both as survivors and as dropped: with the shares of "
            "both secrets, their updates could be seen. Nothing is sent."
        )
    if survivors | dropped != sharers:
        raise UnmaskRefused("The lists of survivors and dropped devices are not those who sent shares.")
    if state.here not in survivors:
        raise UnmaskRefused("This device is listed as dropped, and has handed in its vector.")
    if len(survivors) < fewest:
        raise UnmaskRefused(
            f"{len(survivors)} devices are left in the sum, and it asks for {fewest} of {devices}: nothing is sent."
        )
    near = [place for place in sorted(state.held) if place in survivors and place != state.here]
    content = keys.ready_content(state.terms, turn.state.digest, state.sharers)
    _check_signatures(turn, near, request.ready, content, "have masked for the same devices")
    turn.set(answer=(request.survivors, request.dropped))
    turn.move("consented")
    content = keys.consent_content(state.terms, turn.state.digest, request.survivors, request.dropped)
    turn.say(Consent, signature=keys.sign(turn.rules.identity, content))


def answer(turn: Turn, consents: Consents) -> None:
    """Give the shares for the sum that a quorum has agreed to; raises UnmaskRefused."""
    state, devices = turn.state, len(turn.state.roster)
    assert state.terms is not None, "there is an attempt"
    assert state.answer is not None, "it has agreed to a sum"
    agreed, quorum = sorted(places(consents.devices, devices)), state.terms.policy.quorum(devices)
    if len(agreed) < quorum:
        raise UnmaskRefused(f"{len(agreed)} of {devices} devices agree to the sum, and it takes {quorum}.")
    content = keys.consent_content(state.terms, turn.state.digest, *state.answer)
    _check_signatures(turn, agreed, consents.signatures, content, "agree to the same sum as this device")
    survivors = places(state.answer[0], devices)
    shares = b"".join(
        held[:SHARE_BYTES] if place in survivors else held[SHARE_BYTES:] for place, held in sorted(state.held.items())
    )
    turn.set(held={})
    turn.move("answered")
    turn.say(UnmaskAnswer, shares=shares)


def _check_signatures(turn: Turn, signers: list[int], signatures: bytes, content: bytes, what: str) -> None:
    """Raise UnmaskRefused unless all of these devices, by their places, have signed a content."""
    if len(signatures) != SIGNATURE_BYTES * len(signers):
        raise MessageInvalid(f"{len(signatures)} bytes of signatures of {len(signers)} devices.")
    for number, place in enumerate(signers):
        entry = turn.state.roster[place]
        signature = signatures[number * SIGNATURE_BYTES : (number + 1) * SIGNATURE_BYTES]
        if not signed_by(entry.identity, signature, content):
            raise UnmaskRefused(
                f"It is not signed by {entry.device!r} that it is among those who {what}: they were told different "
                "things, by which single updates could be seen. Nothing is sent."
            )
