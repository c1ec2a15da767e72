"""Checks of the coordinator by its retained state on the broker: its presence, its key, its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec import UnsetType

from edge_sdk.diagnosis.finding import Finding
from edge_sdk.diagnosis.session import Session
from edge_sdk.errors import CoordinatorUntrusted, MessageInvalid, SignatureInvalid
from edge_sdk.wire import CLOCKS_AGREE, CoordinatorState, Topics, decode, fingerprint, recognised, shown, trusted


def check_coordinator(session: Session, topics: Topics, trust: bytes | None, known: bytes | None) -> Iterator[Finding]:
    """Check the coordinator's retained state.

    trust: the public key that it should have, if given; known: the one that the device's home trusts, if any.
    """
    session.subscribe(topics.coordinator_state)
    payload = session.message_on(topics.coordinator_state)
    if not payload:
        yield Finding(
            "coordinator",
            "broken",
            f"No coordinator of {topics.federation!r} is known to this broker.",
            "It was never started here, its state was lost, or this device may not read it.",
            f"Check the federation's name; start `impasto-coordinator serve`; and see that the broker's rules allow to "
            f"read {topics.coordinator_state}.",
        )
        return
    try:
        state = decode(payload)
    except MessageInvalid as error:
        state, reason = None, str(error)
    else:
        reason = f"it is a {type(state).__name__}"
    if not isinstance(state, CoordinatorState):
        yield Finding(
            "coordinator",
            "broken",
            f"What lies on {topics.coordinator_state} is no state of a coordinator: {reason}",
            "Somebody else can publish there, or it is of another version.",
            "Run the same version everywhere, and let the coordinator alone publish there.",
        )
        return
    try:
        recognised(state.key, state, topics.federation)
    except SignatureInvalid as error:
        yield Finding(
            "coordinator",
            "broken",
            f"What lies on {topics.coordinator_state} was not signed by the key that it shows.",
            str(error),
            "Let the coordinator alone publish there (samples/broker/acl); it writes its own state over this one.",
        )
        return
    yield _presence(state)
    if trust is not None:
        yield _key(state, trust)
    if known is not None:
        yield _at_home(state, known)
    # Epochs go by the coordinator's clock: one that is still to come says that the two differ.
    if (ahead := state.epoch - time.time()) > CLOCKS_AGREE:
        yield Finding(
            "clock",
            "warning",
            f"The coordinator started {ahead:.0f} s in the future of this clock.",
            "One of the two clocks is wrong: certificates and invitations will run out too early or too late. Or one "
            "of its earlier starts was in the future: it counts on from there, which does no harm.",
            "Set both clocks by the network (`timedatectl set-ntp true`).",
        )


def _presence(state: CoordinatorState) -> Finding:
    key = fingerprint(state.key)
    if state.online:
        masked = ", and for updates in masked sums only" if state.masked is True else ""
        noise = "" if isinstance(state.noise, UnsetType) else f" of epsilon {state.noise.epsilon:g}"
        return Finding(
            "coordinator",
            "ok",
            f"It is online since {shown(state.epoch)}, for base model {state.base_id[:12]}…, with key {key}; it asks "
            f"for codes of level {state.level!r}{noise}{masked}",
        )
    return Finding(
        "coordinator",
        "broken",
        f"The coordinator of {state.federation!r} is offline (its key is {key}).",
        "Devices wait until it comes back.",
        "Start `impasto-coordinator serve` again; it resumes.",
    )


def _key(state: CoordinatorState, trust: bytes) -> Finding:
    try:
        trusted(trust, state.key, state.successions, state.federation)
    except CoordinatorUntrusted as error:
        return Finding(
            "coordinator",
            "broken",
            "It shows a key that is not the one to trust.",
            str(error),
            "Ask its operator for the fingerprint (`impasto-coordinator key`).",
        )
    return Finding("coordinator", "ok", "Its key is the one to trust, or one that was vouched for.")


def _at_home(state: CoordinatorState, known: bytes) -> Finding:
    try:
        trusted(known, state.key, state.successions, state.federation)
    except CoordinatorUntrusted:
        return Finding(
            "coordinator",
            "broken",
            f"This device trusts another coordinator: the key known at home is {fingerprint(known)}",
            "It listens to nobody with another key. Either the coordinator lost its key and has a new one, or somebody "
            "else speaks in its place.",
            "Ask its operator, by another way than this broker, for the fingerprint (`impasto-coordinator key`). If it "
            "is the one that is shown, join once with --trust and that fingerprint; otherwise do not join.",
        )
    return Finding("coordinator", "ok", "Its key is the one that this device trusts, or one that was vouched for.")
