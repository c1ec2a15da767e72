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
- After an answer nothing more is given in this round, in no attempt and after no restart of the coordinator: two sums
  of one update in different company differ by somebody's update. As those who have answered for a sum are in no later
  one, no sums of a round can be combined to a single update.
- What is invalid, late or repeated changes nothing, and is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from edge_sdk.errors import (
    AttemptMismatch,
    ImpastoError,
    JournalDamaged,
    MaskedSumError,
    MessageInvalid,
    RosterInvalid,
    TooFewDevices,
    UnmaskRefused,
    WireError,
)
from edge_sdk.secure_aggregation import keys
from edge_sdk.secure_aggregation.harary import Graph, graph, ring_seed
from edge_sdk.secure_aggregation.keys import Sealer, Secrets
from edge_sdk.secure_aggregation.masks import add_masks, from_bytes, to_bytes
from edge_sdk.secure_aggregation.messages import (
    SEALED_BYTES,
    SHARE_BYTES,
    SIGNATURE_BYTES,
    Advertise,
    Advertisement,
    Consent,
    Consents,
    Delivery,
    FromCoordinator,
    FromDevice,
    Numbers,
    Ready,
    Reveal,
    Roster,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    decode,
    encode,
    places,
)
from edge_sdk.secure_aggregation.policy import FEWEST_DEVICES, Parameters
from edge_sdk.secure_aggregation.shares import split
from edge_sdk.secure_aggregation.terms import Terms

Phase: TypeAlias = Literal["idle", "advertised", "revealed", "shared", "ready", "masked", "consented", "answered"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about this device that outlive an attempt.

    Attributes:
        device: its name.
        identity: its private Ed25519 key, 32 bytes.
        known: identity keys of other devices by name, as far as they are known; a roster that shows others is refused.
    """

    device: str
    identity: bytes
    known: Mapping[str, bytes] = {}

    def __repr__(self) -> str:
        """The device's name alone, so that no log shows a key."""
        return f"Rules({self.device!r})"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a device in an attempt.

    Attributes:
        phase: its phase.
        terms: the terms of the attempt; None in phase "idle".
        secrets: its secrets; None once they are no longer needed.
        roster: the devices of the sum.
        given: the parameters of the sum.
        digest: hash of both.
        here: this device's place in the roster.
        seed: the seed of the graph; empty in a complete one.
        heard: SHA-256 of the coordinator's message that was taken in last; the same one is answered the same again.
        said: the last message to the coordinator, encoded.
        sharers: bitmap of the devices that take part in masking.
        held: shares of the secrets of each sharer among the neighbours (self mask, mask key: 32 bytes) by place, and
            the own one of the self mask (16 bytes).
        masked: the masked vector, once there is one.
        answer: survivors and dropped of the sum that it has agreed to; None before. It agrees to no other in an
            attempt.
    """

    phase: Phase = "idle"
    terms: Terms | None = None
    secrets: Secrets | None = None
    roster: tuple[Advertisement, ...] = ()
    given: Parameters = Parameters(0, 0)
    digest: bytes = b""
    here: int = 0
    seed: bytes = b""
    heard: bytes = b""
    said: bytes = b""
    sharers: bytes = b""
    held: dict[int, bytes] = {}
    masked: bytes = b""
    answer: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        """Phase and numbers, so that no log shows a key or a share."""
        return f"State({self.phase!r}, {self.terms.numbers if self.terms else None})"


# --- events: messages of the coordinator are events as they are -----------------------------------------------------


class Begin(msgspec.Struct, frozen=True):
    """A new attempt begins, or the coordinator has repeated its step.

    Attributes:
        terms: its terms, from the signed step.
        random: `RANDOM_BYTES` of the system's generator.
    """

    terms: Terms
    random: bytes

    def __repr__(self) -> str:
        """The terms alone, so that no log shows a secret."""
        return f"Begin({self.terms!r})"


class Vector(msgspec.Struct, frozen=True):
    """The plain vector is ready: `Terms.words` little-endian uint32. Fed in phase "ready"."""

    data: bytes

    def __repr__(self) -> str:
        """The length alone, so that no log shows an update."""
        return f"Vector({len(self.data)} bytes)"


class Restarted(msgspec.Struct, frozen=True):
    """The process has started anew, or the connection has come back: what was said last may be lost."""


Event: TypeAlias = Begin | Vector | Restarted | FromCoordinator


# --- actions --------------------------------------------------------------------------------------------------------


class Say(msgspec.Struct, frozen=True):
    """Send a message to the coordinator."""

    message: FromDevice


class HandIn(msgspec.Struct, frozen=True):
    """Hand in the masked vector, `State.masked`."""


class Refuse(msgspec.Struct, frozen=True):
    """Tell the owner that an event was refused; nothing has changed."""

    error: ImpastoError


Action: TypeAlias = Say | HandIn | Refuse


def step(rules: Rules, state: State, event: Event) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a message of the coordinator."""
    turn = _Turn(rules, state)
    try:
        turn.take(event)
    except (MaskedSumError, WireError) as error:
        return state, [Refuse(error)]
    return turn.state, turn.actions


def record_of(state: State) -> bytes:
    """The state as bytes, for a journal. It holds secrets."""
    return msgspec.msgpack.encode(state)


def restored(record: bytes) -> State:
    """The state of a record.

    Raises:
        JournalDamaged: it is none.
    """
    try:
        return msgspec.msgpack.decode(record, type=State)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalDamaged(f"The record of a masked sum is damaged ({str(error)[:200]}).") from error


class _Turn:
    """One step in progress."""

    def __init__(self, rules: Rules, state: State) -> None:
        self.rules = rules
        self.state = state
        self.actions: list[Action] = []

    def take(self, event: Event) -> None:
        match event:
            case Begin():
                self._begin(event)
            case Vector():
                self._mask(event)
            case Restarted():
                self._say_again()
            case _:
                self._hear(event)

    # the coordinator's messages -------------------------------------------------------------------------------------

    def _hear(self, message: FromCoordinator) -> None:
        state = self.state
        if state.terms is None:
            raise AttemptMismatch(
                f"A {type(message).__name__} came, and this device takes part in no masked sum: nothing comes of it."
            )
        message.check(state.terms)
        heard = hashlib.sha256(encode(message)).digest()
        if heard == state.heard:
            self._say_again()
            return
        match state.phase, message:
            case "advertised", Roster():
                self._take_roster(message)
            case "revealed", Numbers():
                self._take_numbers(message)
            case "shared", Delivery():
                self._take_delivery(message)
            case "masked", UnmaskRequest():
                self._agree(message)
            case "consented", Consents():
                self._answer(message)
            case "consented" | "answered", UnmaskRequest():
                if (message.survivors, message.dropped) == state.answer:
                    self._say_again()
                    return
                raise UnmaskRefused(
                    "The coordinator asks for a second unmasking in one attempt, for other sets of devices. With both, "
                    "it could see single updates: nothing is sent."
                )
            case _:
                raise AttemptMismatch(
                    f"A {type(message).__name__} came when this device was {state.phase}: nothing comes of it."
                )
        self._set(heard=heard)

    def _begin(self, event: Begin) -> None:
        before, terms = self.state.terms, event.terms
        if terms == before:
            self._say_again()
            return
        if before is not None:
            if terms.numbers <= before.numbers:
                raise AttemptMismatch(
                    f"Start {terms.epoch}, round {terms.round}, attempt {terms.attempt} is not newer than the one that "
                    "this device has taken part in: its keys would be used twice."
                )
            if self.state.phase == "answered" and terms.round == before.round:
                raise UnmaskRefused(
                    f"This device has helped to unmask round {terms.round} already. A second sum of the same updates "
                    "in other company would show single ones: it takes part again in the next round."
                )
        secrets = keys.split_randomness(event.random)
        self.state = State(phase="advertised", terms=terms, secrets=secrets)
        self._say(Advertise, advertisement=keys.advertised(terms, self.rules.device, self.rules.identity, secrets))

    def _take_roster(self, roster: Roster) -> None:
        terms, secrets = self._keys()
        given = Parameters(roster.neighbours, roster.threshold)
        devices = tuple(roster.devices)
        own = keys.advertised(terms, self.rules.device, self.rules.identity, secrets)
        here = _check_roster(self.rules, terms, given, devices, own)
        self._set(roster=devices, given=given, here=here, digest=keys.roster_hash(terms, given, devices))
        if given.neighbours == len(devices) - 1:
            self._share()
        else:
            self._move("revealed")
            self._say(Reveal, number=secrets.number)

    def _take_numbers(self, message: Numbers) -> None:
        terms, _ = self._keys()
        numbers = [message.numbers[at : at + 16] for at in range(0, len(message.numbers), 16)]
        if len(message.numbers) != 16 * len(self.state.roster):
            raise MessageInvalid(f"{len(message.numbers)} bytes of numbers for {len(self.state.roster)} devices.")
        for entry, number in zip(self.state.roster, numbers, strict=True):
            if keys.commitment(terms, entry.device, number) != entry.commitment:
                raise RosterInvalid(
                    f"The number of {entry.device!r} is not the one that it has committed to: the graph would not be "
                    "random. This device sends no shares for it."
                )
        self._set(seed=ring_seed(self.state.digest, numbers))
        self._share()

    def _share(self) -> None:
        """Split the two secrets, and say a pair of shares to each neighbour."""
        terms, secrets = self._keys()
        here, threshold = self.state.here, self.state.given.threshold
        holders = self._graph().holders(here)
        of_self = split(secrets.self_seed, threshold, len(holders))
        of_key = split(secrets.mask_seed, threshold, len(holders))
        sealer = self._sealer(secrets)
        sealed = b"".join(
            sealer.sealed(self.state.roster[holder], first + second)
            for holder, first, second in zip(holders, of_self, of_key, strict=True)
            if holder != here
        )
        self._set(held={here: of_self[holders.index(here)]})
        self._move("shared")
        self._say(Shares, self_check=keys.self_check(terms, self.rules.device, secrets.self_seed), sealed=sealed)

    def _take_delivery(self, delivery: Delivery) -> None:
        terms, secrets = self._keys()
        state, devices = self.state, len(self.state.roster)
        sharers = places(delivery.sharers, devices)
        senders = [place for place in self._graph().neighbours(state.here) if place in sharers]
        fewest = terms.policy.fewest(devices, state.given)
        if state.here not in sharers or len(sharers) < fewest or len(senders) + 1 < state.given.threshold:
            raise TooFewDevices(
                f"{len(sharers)} of {devices} devices have sent shares, {len(senders)} of them neighbours of this one: "
                f"the sum asks for {fewest}, and for {state.given.threshold - 1} neighbours."
            )
        if len(delivery.sealed) != SEALED_BYTES * len(senders):
            raise MessageInvalid(f"{len(delivery.sealed)} bytes of shares from {len(senders)} neighbours.")
        sealer = self._sealer(secrets)
        held = dict(state.held)
        for number, place in enumerate(senders):
            sealed = delivery.sealed[number * SEALED_BYTES : (number + 1) * SEALED_BYTES]
            held[place] = sealer.opened(state.roster[place], sealed)
        self._set(sharers=delivery.sharers, held=held)
        self._move("ready")
        content = keys.ready_content(terms, self.state.digest, delivery.sharers)
        self._say(Ready, signature=keys.sign(self.rules.identity, content))

    # the vector, and the end ----------------------------------------------------------------------------------------

    def _mask(self, vector: Vector) -> None:
        assert self.state.phase == "ready", f"nothing is masked in phase {self.state.phase}"
        terms, secrets = self._keys()
        total = from_bytes(vector.data)
        assert len(total) == terms.words, f"a vector of {len(total)} words in a sum of {terms.words}"
        state, roster = self.state, self.state.digest
        name, private = self.rules.device, keys.mask_private_key(terms, self.rules.device, secrets.mask_seed)
        masks = [(keys.self_mask_key(terms, roster, name, secrets.self_seed), 1)]
        for place in self._graph().neighbours(state.here):
            if place in state.held:
                other = state.roster[place]
                first, second = sorted((name, other.device))
                key = keys.pair_mask_key(terms, roster, private, other.mask_key, first, second)
                masks.append((key, 1 if state.here < place else -1))
        add_masks(total, masks)
        self._set(masked=to_bytes(total), secrets=None)
        self._move("masked")
        self.actions.append(HandIn())

    def _agree(self, request: UnmaskRequest) -> None:
        state, devices = self.state, len(self.state.roster)
        assert state.terms is not None, "there is an attempt"
        survivors, dropped = places(request.survivors, devices), places(request.dropped, devices)
        sharers = places(state.sharers, devices)
        fewest = state.terms.policy.fewest(devices, state.given)
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
        content = keys.ready_content(state.terms, self.state.digest, state.sharers)
        self._check_signatures(near, request.ready, content, "have masked for the same devices")
        self._set(answer=(request.survivors, request.dropped))
        self._move("consented")
        content = keys.consent_content(state.terms, self.state.digest, request.survivors, request.dropped)
        self._say(Consent, signature=keys.sign(self.rules.identity, content))

    def _answer(self, consents: Consents) -> None:
        state, devices = self.state, len(self.state.roster)
        assert state.terms is not None, "there is an attempt"
        assert state.answer is not None, "it has agreed to a sum"
        agreed, quorum = sorted(places(consents.devices, devices)), state.terms.policy.quorum(devices)
        if len(agreed) < quorum:
            raise UnmaskRefused(f"{len(agreed)} of {devices} devices agree to the sum, and it takes {quorum}.")
        content = keys.consent_content(state.terms, self.state.digest, *state.answer)
        self._check_signatures(agreed, consents.signatures, content, "agree to the same sum as this device")
        survivors = places(state.answer[0], devices)
        shares = b"".join(
            held[:SHARE_BYTES] if place in survivors else held[SHARE_BYTES:]
            for place, held in sorted(state.held.items())
        )
        self._set(held={})
        self._move("answered")
        self._say(UnmaskAnswer, shares=shares)

    def _check_signatures(self, signers: list[int], signatures: bytes, content: bytes, what: str) -> None:
        """Raise UnmaskRefused unless all of these devices, by their places, have signed a content."""
        if len(signatures) != SIGNATURE_BYTES * len(signers):
            raise MessageInvalid(f"{len(signatures)} bytes of signatures of {len(signers)} devices.")
        for number, place in enumerate(signers):
            entry = self.state.roster[place]
            signature = signatures[number * SIGNATURE_BYTES : (number + 1) * SIGNATURE_BYTES]
            if not keys.is_by(entry.identity, signature, content):
                raise UnmaskRefused(
                    f"It is not signed by {entry.device!r} that it is among those who {what}: they were told different "
                    "things, by which single updates could be seen. Nothing is sent."
                )

    # helpers --------------------------------------------------------------------------------------------------------

    def _keys(self) -> tuple[Terms, Secrets]:
        assert self.state.terms is not None, "there is an attempt"
        assert self.state.secrets is not None, "its vector is not yet masked"
        return self.state.terms, self.state.secrets

    def _graph(self) -> Graph:
        return graph(len(self.state.roster), self.state.given.neighbours, self.state.seed)

    def _sealer(self, secrets: Secrets) -> Sealer:
        assert self.state.terms is not None, "there is an attempt"
        return Sealer(self.state.terms, self.state.digest, self.rules.device, secrets.share_private)

    def _say(self, kind: Any, **fields: Any) -> None:
        terms = self.state.terms
        assert terms is not None, "there is an attempt"
        message = kind(epoch=terms.epoch, round=terms.round, attempt=terms.attempt, **fields)
        self._set(said=encode(message))
        self.actions.append(Say(message))

    def _say_again(self) -> None:
        if self.state.phase != "idle":
            said = decode(self.state.said)
            assert isinstance(said, FromDevice), "it is this device's own"
            self.actions.append(Say(said))
        if self.state.phase == "masked":
            self.actions.append(HandIn())

    def _move(self, phase: Phase) -> None:
        self._set(phase=phase)

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)


def _check_roster(
    rules: Rules, terms: Terms, given: Parameters, devices: tuple[Advertisement, ...], own: Advertisement
) -> int:
    """Check a roster, and return this device's place in it.

    Raises:
        RosterInvalid, TooFewDevices: see the messages.
    """
    names = [entry.device for entry in devices]
    if len(devices) < FEWEST_DEVICES:
        raise TooFewDevices(f"The roster has {len(devices)} devices, a masked sum {FEWEST_DEVICES} at least.")
    if sorted(set(names)) != names:
        raise RosterInvalid("The roster names a device twice, or is not in the order of names: nothing is sent for it.")
    for kind in ("identity", "mask_key", "share_key", "commitment"):
        if len({getattr(entry, kind) for entry in devices}) != len(devices):
            raise RosterInvalid(f"Two devices of the roster have the same {kind}: nothing is sent for it.")
    if own not in devices:
        raise RosterInvalid("The roster does not have this device as it has advertised itself: nothing is sent for it.")
    for entry in devices:
        if rules.known.get(entry.device, entry.identity) != entry.identity:
            raise RosterInvalid(
                f"The roster shows another identity of {entry.device!r} than this device knows: nothing is sent for it."
            )
        if not keys.is_signed(terms, entry):
            raise RosterInvalid(
                f"The advertisement of {entry.device!r} is not signed for this step and attempt by the identity in it: "
                "it was forged, or that device was shown another step. Nothing is sent for it."
            )
    if not terms.policy.suffices(len(devices), given):
        raise RosterInvalid(
            f"{given.neighbours} neighbours and a threshold of {given.threshold} are not enough for {len(devices)} "
            "devices under the policy of this sum: nothing is sent for it."
        )
    return devices.index(own)
