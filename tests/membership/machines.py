"""The device's machine and the coordinator's, with their disks and a line between them, without clock or network.

Each side has what its surroundings give it in the real programs: a disk, which outlives it, and memory, which does not.
Transfers are shortened to one message each way; `tests/property` has them in full.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from coordinator import rounds as theirs
from edge_sdk.errors import TransferError
from edge_sdk.membership import rounds as ours
from edge_sdk.membership.rounds import actions as act
from edge_sdk.wire import (
    Committed,
    CoordinatorState,
    DeviceProfile,
    Finished,
    Hello,
    Join,
    Leave,
    Manifest,
    Message,
    Offer,
    Presence,
    Refused,
    Step,
    Welcome,
)
from tests.coordinator.federations import aggregate_by_name, cluster_by_name, manifest, offer, profile

FEDERATION = "tastes"
NOT_OFFERED = "NotOffered"


class Pull(msgspec.Struct, frozen=True):
    """A receiver asks for a content."""

    sha256: str


class Content(msgspec.Struct, frozen=True):
    """A content comes."""

    sha256: str


class Signed(msgspec.Struct, frozen=True):
    """A step under the coordinator's signature."""

    epoch: int
    step: Step


Packet = Message | Pull | Content | Signed


class PowerCutError(Exception):
    """A side has died in the middle of what it was doing, or has given up."""


@dataclass
class Mortal:
    """A side that may die after so many more of its actions; None: it lives."""

    left: int | None = None

    def act(self) -> None:
        if self.left is not None:
            if self.left == 0:
                self.left = None
                raise PowerCutError
            self.left -= 1


@dataclass
class Device(Mortal):
    """A device: the journal's facts, its session, and the link's memory."""

    name: str = ""
    say: Callable[[Packet], None] = lambda packet: None
    # On disk.
    outbox: ours.Work | None = None
    received: set[str] = field(default_factory=set)
    heard: tuple[int, int] = (0, 0)
    session: int = 0
    # In memory.
    rules: ours.Rules = field(default_factory=lambda: ours.Rules(federation=FEDERATION))
    state: ours.State = field(default_factory=ours.State)
    order: act.Train | None = None
    serving: set[str] = field(default_factory=set)
    fetching: dict[str, Manifest] = field(default_factory=dict)
    joined: bool = False
    # For the test: what has happened.
    at_home: bool = False
    given_up: list[act.GiveUp] = field(default_factory=list)
    believes: set[str] = field(default_factory=set)

    @property
    def profile(self) -> DeviceProfile:
        return profile()

    def begin(self, now: float) -> None:
        """A new session, with what is on disk."""
        self.session += 1
        self.left, self.order, self.serving, self.fetching, self.joined = None, None, set(), {}, False
        self.at_home = False
        # A run has less than 10,000 seconds: nobody has a reason to give up.
        self.rules = ours.Rules(federation=FEDERATION, deadline=1000.0, answer=1e4, spread=0.37 * self.session % 1)
        self.state = ours.State(outbox=self.outbox)
        self.say(Presence(online=True, epoch=self.session))
        self.feed(ours.Opened(), now)

    def feed(self, event: ours.Event, now: float) -> None:
        events = deque([event])
        while events:
            self.state, actions = ours.step(self.rules, self.state, events.popleft(), now)
            for action in actions:
                self.act()
                if (following := self._carry_out(action)) is not None:
                    events.append(following)

    def hear(self, packet: Packet, now: float) -> None:
        """Feed a packet to the machine, as the link and the trust in the coordinator do."""
        if self.at_home:
            return
        match packet:
            case CoordinatorState(epoch=epoch):
                if epoch >= self.heard[0]:
                    self.heard = max(self.heard, (epoch, 0))
                    self.feed(packet, now)
            case Signed(epoch, step):
                place = (epoch, 2**31 - 1 if isinstance(step, Finished) else getattr(step, "round", 0))
                if place >= self.heard:
                    self.heard = place
                    self.feed(step, now)
            case Pull(sha256):
                known = sha256 in self.serving
                self.say(Content(sha256) if known else Refused(code=NOT_OFFERED, reason="", about=sha256))
            case Content(sha256) if sha256 in self.fetching:
                del self.fetching[sha256]
                self.received.add(sha256)
                self.say(Committed(sha256=sha256))
                self.feed(ours.Stored(sha256), now)
            case Committed(sha256=sha256) if sha256 in self.serving:
                self.serving.discard(sha256)
                self.feed(ours.Delivered(sha256), now)
            case Refused(about="presence"):
                self.say(Presence(online=True, epoch=self.session))
            case Refused(about="leave"):
                if self.joined:
                    self.say(Join(profile=self.profile))
            case Refused():
                self.feed(packet, now)
                self._end_of_transfer(packet, now)
            case Content() | Committed():
                pass
            case _:
                self.feed(packet, now)  # type: ignore[arg-type]

    def _end_of_transfer(self, refused: Refused, now: float) -> None:
        error = TransferError(refused.code)
        if refused.code != NOT_OFFERED and refused.about in self.serving:
            self.serving.discard(refused.about)
            self.feed(ours.Failed(refused.about, error), now)
        elif self.fetching.pop(refused.about, None):
            self.feed(ours.Failed(refused.about, error), now)

    def tick(self, now: float) -> None:
        for sha256 in self.fetching:
            self.say(Pull(sha256))
        for _ in range(100):
            if self.at_home or ours.next_wake(self.state) > now:
                return
            self.feed(ours.Tick(), now)
        raise AssertionError("it asks for the time again and again")

    def train(self, now: float) -> None:
        """Do what it was ordered to last, unless something newer came."""
        order, self.order = self.order, None
        if order is None or self.state.phase != "training" or self.at_home:
            return
        assert self.outbox is None or self.outbox.plan != order.plan, "trained again what it has"
        start = order.start
        content = manifest(f"{self.name}/{order.plan}")
        made = offer(self.name, start.round, attempt=start.attempt, manifest=content)
        self.act()
        self.outbox = ours.Work(order.plan, start.round, "trained", made)
        self.act()
        self.feed(ours.Trained(order.plan, made), now)

    def _carry_out(self, action: ours.Action) -> ours.Event | None:
        match action:
            case act.SayJoin():
                self.joined = True
                self.say(Join(profile=self.profile))
            case act.SayHello(number):
                self.say(Hello(epoch=self.session, number=number, signature=bytes(64)))
            case act.SayOffer(said):
                self.say(said)
            case act.SayLeave(reason):
                self.joined, self.at_home = False, True
                self.say(Leave(reason=reason))
                self.say(Presence(online=False, epoch=self.session))
            case act.HandIn(plan, said):
                assert self.outbox is not None, "nothing is offered that is not kept"
                assert (self.outbox.plan, self.outbox.offer) == (plan, said), "something else is kept"
                self.serving.add(said.manifest.sha256)
                self.say(said)
            case act.Withdraw(sha256):
                self.serving.discard(sha256)
            case act.Bring(wanted):
                if wanted.sha256 in self.received:
                    self.say(Committed(sha256=wanted.sha256))
                    return ours.Stored(wanted.sha256, anew=False)
                self.fetching[wanted.sha256] = wanted
                self.say(Pull(wanted.sha256))
            case act.Prepare(step):
                self.received &= {wanted.sha256 for wanted in step.manifests}
            case act.Note(plan, progress):
                assert self.outbox is not None, "there is an update"
                assert self.outbox.plan == plan, "of the last plan"
                self.outbox = replace(self.outbox, progress=progress)
                if progress == "committed":
                    assert self.outbox.offer is not None, "it was trained"
                    self.believes.add(self.outbox.offer.manifest.sha256)
            case act.Restate(plan, said):
                assert self.outbox is not None, "there is an update"
                self.outbox = replace(self.outbox, offer=said)
            case act.Train():
                self.order = action
            case act.PutInPlace(step):
                assert all(wanted.sha256 in self.received for wanted in step.manifests), "not all of them have come"
                return ours.InPlace()
            case act.NobodyThere() | act.Silent() | act.TurnedAway() | act.Stuck():
                self.given_up.append(action)
                raise PowerCutError
        return None


@dataclass
class Coordinator(Mortal):
    """A coordinator: its database and the service's memory."""

    rules: theirs.Rules = field(default_factory=lambda: theirs.Rules)  # type: ignore[arg-type]
    say: Callable[[str, Packet], None] = lambda device, packet: None
    show: Callable[[CoordinatorState], None] = lambda state: None
    # On disk.
    state: theirs.State = field(default_factory=theirs.State)
    profiles: dict[str, DeviceProfile] = field(default_factory=dict)
    epoch: int = 0
    # In memory.
    pulls: dict[str, Offer] = field(default_factory=dict)  # device -> the offer that is pulled
    owed: dict[str, set[str]] = field(default_factory=dict)
    presences: dict[str, Presence] = field(default_factory=dict)
    shown: dict[str, Presence] = field(default_factory=dict)  # retained by the broker
    hellos: dict[str, tuple[int, int]] = field(default_factory=dict)
    profile: DeviceProfile = field(default_factory=profile)
    # For the test: device and hash of all updates that have counted, by round.
    aggregated: dict[int, dict[str, str]] = field(default_factory=dict)

    def begin(self, now: float) -> None:
        """A new start, with what is on disk and on the broker."""
        self.left, self.pulls, self.owed, self.hellos = None, {}, {}, {}
        self.epoch += 1
        self.presences = dict(self.shown)
        shown = CoordinatorState(
            online=True,
            epoch=self.epoch,
            federation=FEDERATION,
            base_id="b",
            level="plain",
            key=bytes(32),
            signature=bytes(64),
        )
        self.show(shown)
        self.feed(theirs.Restarted(), now)
        for device, presence in self.shown.items():
            self.feed(theirs.Seen(device, presence.online, presence.epoch), now)

    def feed(self, event: theirs.Event, now: float) -> None:
        events = deque([event])
        while events:
            following = events.popleft()
            self.state, actions = theirs.step(self.rules, self.state, following, now)
            for action in actions:
                self.act()
                events += self._carry_out(action)

    def hear(self, device: str, packet: Packet, now: float) -> None:
        known = self.state.devices.get(device)
        match packet:
            case Presence():
                self.presences[device] = packet
                self.feed(theirs.Seen(device, packet.online, packet.epoch), now)
            case Join(profile=given):
                self.feed(theirs.Joined(device, given, self.presences.get(device)), now)
                self.profiles[device] = given
            case Hello():
                self._greeted(device, packet, now)
            case Leave(reason=reason):
                self.feed(theirs.Left(device, reason), now)
            case Offer():
                self.feed(theirs.Heard(device, offers=True), now)
                self.feed(theirs.Offered(device, packet), now)
            case Pull(sha256) if known:
                served = sha256 in self.state.blobs() and not known.left
                answer = Content(sha256) if served else Refused(code=NOT_OFFERED, reason="", about=sha256)
                self.say(device, answer)
            case Content(sha256) if (wanted := self.pulls.get(device)) and wanted.manifest.sha256 == sha256:
                del self.pulls[device]
                self.feed(theirs.Stored(device, wanted, 1.0), now)
            case Refused(about=sha256) if (wanted := self.pulls.get(device)) and wanted.manifest.sha256 == sha256:
                del self.pulls[device]
            case Committed(sha256=sha256) if device in self.owed:
                self.owed[device].discard(sha256)
                if not self.owed[device]:
                    del self.owed[device]
                    self.feed(theirs.Served(device), now)

    def _greeted(self, device: str, hello: Hello, now: float) -> None:
        known, number = self.state.devices.get(device), (hello.epoch, hello.number)
        if number <= self.hellos.get(device, (0, 0)):
            return
        if known is None or known.left or self.profiles.get(device) != self.profile:
            self.say(device, Refused(code="JoinNeeded", reason="", about="hello"))
            return
        self.hellos[device] = number
        if theirs.has_all(self.state, device):
            self.say(device, Welcome(round=self.state.round, rounds=self.rules.rounds))
        else:
            self.feed(theirs.Greeted(device), now)

    def tick(self, now: float) -> None:
        for device, wanted in list(self.pulls.items()):
            if theirs.wants(self.rules, self.state, device, wanted):
                self.say(device, Pull(wanted.manifest.sha256))
            else:
                del self.pulls[device]
        self.feed(theirs.Tick(), now)

    def counted(self) -> Iterator[tuple[str, str]]:
        """Device and hash of all updates that count, or are about to."""
        for content in self.aggregated.values():
            yield from content.items()
        if self.state.current:
            yield from ((name, update.manifest.sha256) for name, update in self.state.current.updates.items())

    def _carry_out(self, action: theirs.Action) -> list[theirs.Event]:
        match action:
            case theirs.Send(device, message):
                step = isinstance(message, Step)
                self.say(device, Signed(self.epoch, message) if step else message)  # type: ignore[arg-type]
                if isinstance(message, Finished):
                    self.owed[device] = {wanted.sha256 for wanted in message.manifests}
                    if not self.owed[device]:
                        del self.owed[device]
                        return [theirs.Served(device)]
            case theirs.Fetch(device, wanted):
                self.pulls[device] = wanted
                self.say(device, Pull(wanted.manifest.sha256))
            case theirs.Cluster():
                return [cluster_by_name(action)]
            case theirs.Aggregate():
                content = {name: update.manifest.sha256 for name, update in action.round.updates.items()}
                assert self.aggregated.setdefault(action.round.number, content) == content, "asked for something else"
                return [aggregate_by_name(action)]
            case theirs.Place(device):
                return [theirs.Placed(device, 0)]
        return []


def forged(device: str, seed: int, state: theirs.State) -> tuple[list[Packet], list[Packet]]:
    """Messages that need no signature, to a device and to the coordinator in the device's name."""
    number = max(1, state.round + seed % 2)
    updates = state.current.updates if state.current else {}
    sha256 = updates[device].manifest.sha256 if device in updates else hashlib.sha256(device.encode()).hexdigest()
    stranger = replace(profile(), pictures=99)
    down: list[Packet] = [
        Welcome(round=0, rounds=1),
        Committed(sha256=sha256),
        Refused(code="StaleUpdate", reason="", about=sha256),
        Refused(code="JoinNeeded", reason="", about="hello"),
        Refused(code="HasLeft", reason="", about="leave"),
    ]
    up: list[Packet] = [
        Join(profile=stranger),
        Leave(),
        Presence(online=False, epoch=seed),
        Presence(online=True, epoch=seed),
        Hello(epoch=seed, number=number, signature=bytes(64)),
        Committed(sha256=sha256),
    ]
    return down, up
