"""The coordinator's half of a masked sum as a pure state machine: `step(state, event) -> (state, actions)`.

No clock, no socket, no disk: the caller stores the new state before it carries out any of the actions, and feeds TimeUp
when it does not want to wait any longer. A state that was saved at any point goes on with `Restarted`.

    advertising ──> revealing ──> sharing ──> uploading ──> consenting ──> unmasking ──> summing ──> done
         └──complete graph───────────^                                       (any phase ──> abandoned)

Devices may be lost in each phase, as long as enough are left (`Policy.fewest`); only the numbers of the graph's seed
must be complete. The roster is fixed at the end of the first phase, those who take part in masking at the end of the
third, and those in the sum at the end of the fourth: a vector that comes later is thrown away, as its masks are being
undone.

Each phase ends when all have answered, or by TimeUp. Either the exact sum of the survivors comes out of it, or the
attempt is abandoned with a named error, and nothing is learnt. A new attempt is a new state, with new keys of all
devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from coordinator.secure_aggregation.unmasking import Task, owners
from edge_sdk.errors import (
    AttemptMismatch,
    ConfigurationError,
    ImpastoError,
    MaskedSumError,
    MessageInvalid,
    RevealMissing,
    RosterInvalid,
    ShareInvalid,
    SignatureInvalid,
    TooFewDevices,
    WireError,
)
from edge_sdk.secure_aggregation import (
    FEWEST_DEVICES,
    MOST_DEVICES,
    SEALED_BYTES,
    SHARE_BYTES,
    Advertise,
    Advertisement,
    Consent,
    Consents,
    Delivery,
    FromCoordinator,
    FromDevice,
    Graph,
    Numbers,
    Parameters,
    Ready,
    Reveal,
    Roster,
    Shares,
    Terms,
    UnmaskAnswer,
    UnmaskRequest,
    bitmap,
    commitment,
    consent_content,
    graph,
    has_usable_keys,
    is_by,
    is_signed,
    ready_content,
    ring_seed,
    roster_hash,
)

_T = TypeVar("_T", bound=FromCoordinator)
Phase: TypeAlias = Literal[
    "advertising",
    "revealing",
    "sharing",
    "uploading",
    "consenting",
    "unmasking",
    "summing",
    "done",
    "abandoned",
]  # fmt: skip


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an attempt.

    Attributes:
        terms: its terms.
        cohort: names of the devices that are asked.
        phase: its phase.
        advertised: advertisements by the devices' names, before the roster is fixed.
        roster: the devices of the sum, in the order of their names.
        given: the parameters of the sum.
        digest: hash of both.
        numbers: revealed numbers by place in the roster.
        seed: the seed of the graph; empty in a complete one.
        shares: encrypted shares by place.
        sharers: places of those who take part in masking, from "uploading" on.
        ready: signatures of those who take part, by place.
        uploads: hashes of masked vectors by place.
        survivors: places of those in the sum, from "consenting" on.
        consents: signatures of those who agree to the sum, by place.
        answers: answers to the unmask request by place.
        reason: why it was abandoned.
    """

    terms: Terms
    cohort: frozenset[str]
    phase: Phase = "advertising"
    advertised: dict[str, Advertisement] = {}
    roster: tuple[Advertisement, ...] = ()
    given: Parameters = Parameters(0, 0)
    digest: bytes = b""
    numbers: dict[int, bytes] = {}
    seed: bytes = b""
    shares: dict[int, Shares] = {}
    sharers: frozenset[int] = frozenset()
    ready: dict[int, bytes] = {}
    uploads: dict[int, str] = {}
    survivors: frozenset[int] = frozenset()
    consents: dict[int, bytes] = {}
    answers: dict[int, bytes] = {}
    reason: str = ""

    def __repr__(self) -> str:
        """Phase and numbers, so that no log shows a share."""
        return f"State({self.phase!r}, {self.terms.numbers}, {len(self.cohort)} devices)"

    def has(self, device: str) -> bool:
        """Return True if a device has advertised itself; once the roster is fixed, if it is in it."""
        return device in self.advertised or any(entry.device == device for entry in self.roster)

    @property
    def there(self) -> int:
        """Number of devices that have advertised themselves."""
        return len(self.advertised) + len(self.roster)

    def upload_of(self, device: str) -> str | None:
        """Return the hash of a device's masked vector; None if it is not there."""
        place = next((place for place, entry in enumerate(self.roster) if entry.device == device), None)
        return None if place is None else self.uploads.get(place)

    def wants_upload(self, device: str) -> bool:
        """Return True if the masked vector of a device would be in the sum."""
        if self.phase != "uploading":
            return False
        return any(
            place in self.sharers and place not in self.uploads
            for place, entry in enumerate(self.roster)
            if entry.device == device
        )

    @property
    def summed(self) -> frozenset[str]:
        """Names of the devices in the sum, from "consenting" on."""
        return frozenset(self.roster[place].device for place in self.survivors)

    @property
    def task(self) -> Task:
        """The unmasking to be done, in phase "summing"."""
        assert self.phase == "summing", f"nothing is unmasked in phase {self.phase}"
        return _task(self)

    @property
    def awaited(self) -> frozenset[str]:
        """Names of the devices that the present phase waits for."""
        if self.phase == "advertising":
            return self.cohort - self.advertised.keys()
        asked, answered = self._asked
        return frozenset(self.roster[place].device for place in asked - answered)

    @property
    def answered(self) -> int:
        """Number of devices that have answered in the present phase."""
        return len(self.advertised) if self.phase == "advertising" else len(self._asked[1])

    @property
    def enough(self) -> int:
        """Number of answers with which the present phase goes on when its time is up; 0 if it waits for none.

        While the sum is unmasked, it is the fewest that can suffice: it takes as many around each device.
        """
        devices, policy = len(self.roster), self.terms.policy
        match self.phase:
            case "advertising":
                return FEWEST_DEVICES
            case "revealing":
                return devices
            case "sharing" | "uploading":
                return policy.fewest(devices, self.given)
            case "consenting":
                return policy.quorum(devices)
            case "unmasking":
                return self.given.threshold
        return 0

    @property
    def _asked(self) -> tuple[Set[int], Set[int]]:
        """Places of the devices that the present phase asks, and of those that have answered."""
        everybody = frozenset(range(len(self.roster)))
        match self.phase:
            case "revealing":
                return everybody, self.numbers.keys()
            case "sharing":
                return everybody, self.shares.keys()
            case "uploading":
                return self.sharers, self.uploads.keys() & self.ready.keys()
            case "consenting":
                return self.survivors, self.consents.keys()
            case "unmasking":
                return self.survivors, self.answers.keys()
        return frozenset(), frozenset()


# --- events ---------------------------------------------------------------------------------------------------------


class Heard(msgspec.Struct, frozen=True):
    """A device has sent a message."""

    device: str
    message: FromDevice


class Uploaded(msgspec.Struct, frozen=True):
    """A device's masked vector is in the store, complete and synced.

    Attributes:
        device: its name.
        sha256: hash of the vector.
        size: its bytes.
    """

    device: str
    sha256: str
    size: int


class TimeUp(msgspec.Struct, frozen=True):
    """The present phase is to end with those who have answered."""


class Summed(msgspec.Struct, frozen=True):
    """The unmasking is done, and the sum is stored."""


class Failed(msgspec.Struct, frozen=True):
    """The unmasking has failed."""

    error: ImpastoError


class Restarted(msgspec.Struct, frozen=True):
    """The coordinator has started anew: what was said last may be lost."""


Event: TypeAlias = Heard | Uploaded | TimeUp | Summed | Failed | Restarted


# --- actions --------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send a message to devices."""

    devices: tuple[str, ...]
    message: FromCoordinator


class Refuse(msgspec.Struct, frozen=True):
    """Tell a device that what it sent does not count; nothing has changed."""

    device: str
    error: ImpastoError


class Discard(msgspec.Struct, frozen=True):
    """Delete a vector that is not in the sum."""

    sha256: str


class Unmask(msgspec.Struct, frozen=True):
    """Do an unmasking, then feed Summed or Failed."""

    task: Task


class Abandon(msgspec.Struct, frozen=True):
    """Tell that nothing comes of the attempt.

    Attributes:
        error: the reason.
        spent: true if devices may have answered already. They take no part in another attempt of this round, so that
            the next attempt has to be one of the next round.
    """

    error: ImpastoError
    spent: bool


Action: TypeAlias = Send | Refuse | Discard | Unmask | Abandon


def begin(terms: Terms, cohort: Iterable[str]) -> State:
    """The state of a new attempt with these devices.

    Raises:
        ConfigurationError: they are too many for one sum.
    """
    names = frozenset(cohort)
    if len(names) > MOST_DEVICES:
        raise ConfigurationError(f"{len(names)} devices in one masked sum, which holds {MOST_DEVICES}: divide them.")
    return State(terms=terms, cohort=names)


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a device's fault: that is refused by name."""
    turn = _Turn(state)
    try:
        turn.take(event)
    except (MaskedSumError, WireError) as error:
        assert isinstance(event, Heard | Uploaded), "only devices are at fault"
        late = isinstance(event, Uploaded) and event.sha256 not in state.uploads.values()
        return state, [Refuse(event.device, error), *([Discard(event.sha256)] if late else [])]  # type: ignore[union-attr]
    if turn.state.phase not in ("done", "abandoned") and not turn.state.awaited:
        turn.go_on()
    return turn.state, turn.actions


class _Turn:
    """One step in progress."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.actions: list[Action] = []

    def take(self, event: Event) -> None:
        match event:
            case Heard():
                self._hear(event.device, event.message)
            case Uploaded():
                self._upload(event)
            case TimeUp():
                self.go_on()
            case Summed():
                if self.state.phase == "summing":
                    self.actions += [Discard(sha256) for sha256 in self.state.uploads.values()]
                    self._set(phase="done", answers={}, consents={}, ready={}, shares={}, numbers={}, uploads={})
            case Failed():
                if self.state.phase == "summing":
                    self._abandon(event.error)
            case Restarted():
                self._say_again()

    # what devices send ----------------------------------------------------------------------------------------------

    def _hear(self, device: str, message: FromDevice) -> None:
        message.check(self.state.terms)
        match self.state.phase, message:
            case "advertising", Advertise():
                self._advertise(device, message.advertisement)
                return
            case _, Advertise():
                if self.state.roster[self._place(device)] != message.advertisement:
                    raise self._too_late(device, message)
                self._repeat_to(device)
                return
        place = self._place(device)
        before, checked = self._known(place, message)
        if before == checked:
            # Ready answers the delivery, which would be said again: the two would echo for ever.
            if not (isinstance(message, Ready) and self.state.phase == "uploading"):
                self._repeat_to(device)
        elif before is not None:
            raise AttemptMismatch(f"Another {type(message).__name__} of {device!r} came before: that one counts.")
        else:
            self._take(place, message)

    def _advertise(self, device: str, advertisement: Advertisement) -> None:
        known = self.state.advertised.get(device)
        if known == advertisement:
            return
        if known is not None:
            raise AttemptMismatch(f"Another advertisement of {device!r} came before in this attempt: that one counts.")
        if device not in self.state.cohort or advertisement.device != device:
            raise RosterInvalid(f"{device!r} is not asked to take part, or advertises itself under another name.")
        if not is_signed(self.state.terms, advertisement):
            raise SignatureInvalid(
                f"The advertisement of {device!r} is not signed for this step and attempt by the identity in it."
            )
        if not has_usable_keys(advertisement):
            raise RosterInvalid(f"{device!r} advertises a key of low order, with which no secret can be agreed on.")
        for other in self.state.advertised.values():
            same = {*advertisement.signed_fields} & {*other.signed_fields}
            if same:
                raise RosterInvalid(f"{device!r} shows a key or a commitment of {other.device!r}.")
        self._set(advertised={**self.state.advertised, device: advertisement})

    def _known(self, place: int, message: FromDevice) -> tuple[object, object]:
        """Content of this kind that the state has from this device, and that of the message."""
        state = self.state
        match message:
            case Reveal():
                return state.numbers.get(place), message.number
            case Shares():
                return state.shares.get(place), message
            case Ready():
                return state.ready.get(place), message.signature
            case Consent():
                return state.consents.get(place), message.signature
            case UnmaskAnswer():
                return state.answers.get(place), message.shares
        raise AssertionError("advertisements are taken elsewhere")

    def _take(self, place: int, message: FromDevice) -> None:
        state, entry = self.state, self.state.roster[place]
        match state.phase, message:
            case "revealing", Reveal():
                if commitment(state.terms, entry.device, message.number) != entry.commitment:
                    raise RosterInvalid(f"{entry.device!r} reveals another number than it has committed to.")
                self._set(numbers={**state.numbers, place: message.number})
            case "sharing", Shares():
                if len(message.sealed) != SEALED_BYTES * state.given.neighbours:
                    raise MessageInvalid(
                        f"{len(message.sealed)} bytes of shares for {state.given.neighbours} neighbours."
                    )
                self._set(shares={**state.shares, place: message})
            case "uploading", Ready() if place in state.sharers:
                sharers = bitmap(state.sharers, len(state.roster))
                self._check_signature(entry, message, ready_content(state.terms, self.state.digest, sharers))
                self._set(ready={**state.ready, place: message.signature})
            case "consenting" | "unmasking", Consent() if place in state.survivors:
                self._check_signature(entry, message, consent_content(state.terms, self.state.digest, *self._sets()))
                self._set(consents={**state.consents, place: message.signature})
                if state.phase == "unmasking":  # later than most; it can still answer
                    self._repeat_to(entry.device)
            case "unmasking", UnmaskAnswer() if place in state.survivors:
                wanted = len(owners(self._graph().holders(place), state.sharers))
                if len(message.shares) != SHARE_BYTES * wanted:
                    raise MessageInvalid(f"{len(message.shares)} bytes of shares of {wanted} devices.")
                self._set(answers={**state.answers, place: message.shares})
            case _:
                raise self._too_late(entry.device, message)

    def _check_signature(self, entry: Advertisement, message: Ready | Consent, content: bytes) -> None:
        if not is_by(entry.identity, message.signature, content):
            raise SignatureInvalid(
                f"{type(message).__name__} of {entry.device!r} is not signed by its identity key for this sum."
            )

    def _upload(self, event: Uploaded) -> None:
        place, state = self._place(event.device), self.state
        if state.uploads.get(place) == event.sha256:
            if state.phase != "uploading":  # there its Ready is missing, which it repeats by itself
                self._repeat_to(event.device)
            return
        if state.phase != "uploading" or place not in state.sharers or place in state.uploads:
            raise AttemptMismatch(
                f"The masked vector of {event.device!r} is not in the sum: it came too late, or twice."
            )
        if event.size != 4 * state.terms.words:
            raise MessageInvalid(
                f"A masked vector of {event.size} bytes; those of this sum have {4 * state.terms.words}."
            )
        self._set(uploads={**state.uploads, place: event.sha256})

    # phases ---------------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """End the present phase with those who have answered."""
        match self.state.phase:
            case "advertising":
                self._fix_roster()
            case "revealing":
                self._fix_seed()
            case "sharing":
                self._fix_sharers()
            case "uploading":
                self._fix_survivors()
            case "consenting":
                self._fix_consents()
            case "unmasking":
                self._unmask()

    def _fix_roster(self) -> None:
        state = self.state
        roster = tuple(entry for _, entry in sorted(state.advertised.items()))
        if len(roster) < FEWEST_DEVICES:
            self._abandon(
                TooFewDevices(
                    f"{len(roster)} of {len(state.cohort)} devices have advertised keys for a masked sum, which takes "
                    f"{FEWEST_DEVICES} at least."
                )
            )
            return
        try:
            given = state.terms.policy.parameters(len(roster))
        except ConfigurationError as error:
            self._abandon(TooFewDevices(f"{len(roster)} devices have advertised keys. {error}"))
            return
        complete = given.neighbours == len(roster) - 1
        digest = roster_hash(state.terms, given, roster)
        self._set(
            roster=roster, given=given, digest=digest, advertised={}, phase="sharing" if complete else "revealing"
        )
        self._announce()

    def _fix_seed(self) -> None:
        state = self.state
        if state.awaited:
            self._abandon(
                RevealMissing(
                    f"{len(state.awaited)} of {len(state.roster)} devices have not revealed their part of the graph's "
                    "seed. Without them it would be open to choice: a new attempt begins without them."
                )
            )
            return
        numbers = [state.numbers[place] for place in range(len(state.roster))]
        self._set(seed=ring_seed(self.state.digest, numbers), phase="sharing")
        self._announce()

    def _fix_sharers(self) -> None:
        if self._enough(len(self.state.shares), "sent shares"):
            self._set(sharers=frozenset(self.state.shares), phase="uploading")
            self._announce()

    def _fix_survivors(self) -> None:
        state = self.state
        there = frozenset(state.uploads.keys() & state.ready.keys())
        if self._enough(len(there), "handed in their masked vectors"):
            self.actions += [Discard(sha256) for place, sha256 in state.uploads.items() if place not in there]
            uploads = {place: sha256 for place, sha256 in state.uploads.items() if place in there}
            self._set(survivors=there, uploads=uploads, phase="consenting")
            self._announce()

    def _fix_consents(self) -> None:
        state = self.state
        quorum = state.terms.policy.quorum(len(state.roster))
        if len(state.consents) < quorum:
            there = f"{len(state.consents)} of {len(state.roster)} devices"
            self._abandon(TooFewDevices(f"{there} have agreed to the sum, and it takes {quorum}."))
            return
        self._set(phase="unmasking")
        self._announce()

    def _unmask(self) -> None:
        state, edges = self.state, self._graph()
        for place in sorted(state.sharers):
            there = sum(holder in state.answers for holder in edges.holders(place))
            if there < state.given.threshold:
                self._abandon(
                    ShareInvalid(
                        f"{there} shares of the secret of {state.roster[place].device!r} came, and it takes "
                        f"{state.given.threshold}: too many devices were lost after they had handed in their vectors."
                    )
                )
                return
        self._set(phase="summing")
        self.actions.append(Unmask(_task(self.state)))

    def _enough(self, there: int, have: str) -> bool:
        state = self.state
        fewest = state.terms.policy.fewest(len(state.roster), state.given)
        if there >= fewest:
            return True
        self._abandon(
            TooFewDevices(f"{there} of {len(state.roster)} devices have {have}, and the sum asks for {fewest}.")
        )
        return False

    def _abandon(self, error: ImpastoError) -> None:
        discarded = [Discard(sha256) for sha256 in self.state.uploads.values()]
        spent = self.state.phase in ("unmasking", "summing")
        self.state = State(
            terms=self.state.terms,
            cohort=self.state.cohort,
            phase="abandoned",
            reason=f"{type(error).__name__}: {error}",
        )
        self.actions += [*discarded, Abandon(error, spent)]

    # saying ---------------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Say what the present phase has to say, to all whom it waits for."""
        names = tuple(sorted(self.state.awaited))
        if self.state.phase in ("revealing", "sharing"):
            self.actions.append(Send(names, self._message(names[0])))
        else:
            self.actions += [Send((name,), self._message(name)) for name in names]

    def _say_again(self) -> None:
        if self.state.phase == "summing":
            self.actions.append(Unmask(_task(self.state)))
        elif self.state.phase not in ("advertising", "done", "abandoned"):
            self._announce()

    def _repeat_to(self, device: str) -> None:
        """Say to a device that repeats itself what it may have missed."""
        if device in self.state.awaited:
            self.actions.append(Send((device,), self._message(device)))

    def _message(self, device: str) -> FromCoordinator:
        state = self.state
        match state.phase:
            case "revealing":
                return self._roster()
            case "sharing" if state.seed:
                numbers = b"".join(state.numbers[place] for place in range(len(state.roster)))
                return self._made(Numbers, numbers=numbers)
            case "sharing":
                return self._roster()
            case "uploading":
                return self._delivery(self._place(device))
        assert state.phase in ("consenting", "unmasking"), f"nothing is said in phase {state.phase}"
        place = self._place(device)
        if state.phase == "unmasking" and place in state.consents:
            return self._consents
        survivors, dropped = self._sets()
        ready = b"".join(state.ready[near] for near in self._near[place] if near in state.survivors)
        return self._made(UnmaskRequest, survivors=survivors, dropped=dropped, ready=ready)

    @cached_property
    def _consents(self) -> FromCoordinator:
        """A quorum's consents; more would only be longer."""
        state, devices = self.state, len(self.state.roster)
        chosen = sorted(state.consents)[: state.terms.policy.quorum(devices)]
        signatures = b"".join(state.consents[place] for place in chosen)
        return self._made(Consents, devices=bitmap(chosen, devices), signatures=signatures)

    def _sets(self) -> tuple[bytes, bytes]:
        """Survivors and dropped devices, as bitmaps."""
        state, devices = self.state, len(self.state.roster)
        return bitmap(state.survivors, devices), bitmap(state.sharers - state.survivors, devices)

    def _roster(self) -> FromCoordinator:
        given = self.state.given
        return self._made(
            Roster, neighbours=given.neighbours, threshold=given.threshold, devices=list(self.state.roster)
        )

    def _delivery(self, place: int) -> FromCoordinator:
        state, near = self.state, self._near
        sealed = []
        for sender in near[place]:
            if sender in state.sharers:
                number = near[sender].index(place)
                sealed.append(state.shares[sender].sealed[number * SEALED_BYTES : (number + 1) * SEALED_BYTES])
        sharers = bitmap(state.sharers, len(state.roster))
        return self._made(Delivery, sharers=sharers, sealed=b"".join(sealed))

    # helpers --------------------------------------------------------------------------------------------------------

    @cached_property
    def _near(self) -> list[list[int]]:
        """The neighbours of each place, once there is a graph."""
        edges = self._graph()
        return [edges.neighbours(place) for place in range(edges.devices)]

    def _graph(self) -> Graph:
        return graph(len(self.state.roster), self.state.given.neighbours, self.state.seed)

    def _place(self, device: str) -> int:
        for place, entry in enumerate(self.state.roster):
            if entry.device == device:
                return place
        raise AttemptMismatch(f"{device!r} is not in the roster of this attempt: nothing comes of what it sends.")

    def _made(self, kind: Callable[..., _T], **fields: Any) -> _T:
        epoch, number, attempt = self.state.terms.numbers
        return kind(epoch=epoch, round=number, attempt=attempt, **fields)

    def _too_late(self, device: str, message: FromDevice) -> AttemptMismatch:
        return AttemptMismatch(
            f"{type(message).__name__} of {device!r} came in phase {self.state.phase}: it counts no more, or not yet."
        )

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)


def _task(state: State) -> Task:
    return Task(
        terms=state.terms,
        roster=state.roster,
        given=state.given,
        seed=state.seed,
        survivors=state.survivors,
        dropped=state.sharers - state.survivors,
        self_checks={place: state.shares[place].self_check for place in state.survivors},
        answers=state.answers,
        uploads={state.roster[place].device: state.uploads[place] for place in sorted(state.survivors)},
    )
