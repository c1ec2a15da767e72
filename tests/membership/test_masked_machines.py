"""The same two machines under masks: what comes out is the exact sum, or nothing, whoever dies when.

A device gives its shares for one sum in a round, says one thing in an attempt, and hands in one vector, whatever it has
forgotten.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from msgspec.structs import replace

from coordinator import rounds as theirs
from coordinator import secure_aggregation as server
from edge_sdk.adapter import Share
from edge_sdk.membership import rounds as ours
from edge_sdk.membership.rounds import actions as act
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    Consent,
    UnmaskAnswer,
    decode,
    device,
    from_bytes,
    terms_of,
)
from edge_sdk.wire import Committed, Masking, Refused, RoundDone, RoundStart, Sum, make_manifest
from tests.coordinator.federations import manifest, rules, saved_and_loaded
from tests.membership.machines import FEDERATION, Content, Coordinator, Device, Packet, forged
from tests.membership.test_machines import World

WORDS = 6
NAMES = ("a1", "b1", "a2", "b2")
MASKING = Masking(
    epoch=0, largest_weight=64, largest_change=1.0, colluding=0.1, dropping=0.3, security_bits=40, failure_bits=20
)


def vector_of(name: str, plan: str) -> bytes:
    """The plain vector of a device's update."""
    return hashlib.shake_256(f"{name}/{plan}".encode()).digest(4 * WORDS)


@dataclass
class Line:
    """Messages and vectors that the line has seen, for the test."""

    vectors: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)  # hash -> device, plan, masked vector
    answers: dict[tuple[str, int], set[bytes]] = field(default_factory=dict)  # by device and round
    consents: dict[tuple[str, int, int, int], set[bytes]] = field(default_factory=dict)
    handed_in: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)


@dataclass
class MaskedDevice(Device):
    """A device that keeps its part in a masked sum on disk, as its journal does."""

    line: Line = field(default_factory=Line)
    sum: device.State = field(default_factory=device.State)
    drawn: int = 0

    def begin(self, now: float) -> None:
        self.rules = ours.Rules(federation=FEDERATION)
        super().begin(now)

    def feed(self, event: ours.Event, now: float) -> None:
        if isinstance(event, ours.Opened):  # a session begins
            identity = hashlib.sha256(self.name.encode()).digest()
            self.rules = replace(self.rules, masks=device.Rules(device=self.name, identity=identity))
            self.state = replace(self.state, sum=device.restored(device.record_of(self.sum)))
        super().feed(event, now)

    def hear(self, packet: Packet, now: float) -> None:
        if isinstance(packet, Sum) and not self.at_home:
            message = decode(packet.content)
            self.feed(ours.SumHeard(message), now)  # type: ignore[arg-type]
        else:
            super().hear(packet, now)

    def _carry_out(self, action: ours.Action) -> ours.Event | None:
        match action:
            case act.KeepSum(state):
                self.sum = state
            case act.Draw(plan, start):
                assert self.outbox is not None
                assert self.outbox.plan == plan
                self.drawn += 1
                random = hashlib.shake_256(f"{self.name} {self.drawn}".encode()).digest(RANDOM_BYTES)
                return ours.Drawn(plan, terms_of(FEDERATION, start, WORDS), random)
            case act.MakeVector(plan, start):
                assert isinstance(start, RoundStart)
                return ours.VectorMade(plan, vector_of(self.name, plan))
            case act.SaySum(message):
                self._note(decode(message.content))
                self.say(message)
            case act.HandInVector(data, offer):
                assert self.sum.masked == data, "kept before it is said"
                sha256 = offer.manifest.sha256
                assert sha256 == make_manifest(data, role="update", name="x").sha256
                assert self.outbox is not None
                self.line.vectors[sha256] = self.name, self.outbox.plan, data
                self.line.handed_in.setdefault((self.name, offer.round, offer.attempt), set()).add(sha256)
                self.serving.add(sha256)
                self.say(offer)
            case _:
                return super()._carry_out(action)
        return None

    def _note(self, message: object) -> None:
        assert self.sum.terms is not None, "kept before it is said"
        if isinstance(message, UnmaskAnswer):
            self.line.answers.setdefault((self.name, message.round), set()).add(message.shares)
        if isinstance(message, Consent):
            number = (self.name, message.epoch, message.round, message.attempt)
            self.line.consents.setdefault(number, set()).add(message.signature)


@dataclass
class MaskedCoordinator(Coordinator):
    """A coordinator of rounds under masks. Its database is read anew at every start."""

    line: Line = field(default_factory=Line)
    summed: dict[int, set[str]] = field(default_factory=dict)

    def begin(self, now: float) -> None:
        self.state = saved_and_loaded(self.state)
        self.rules = replace(self.rules, epoch=self.epoch + 1)
        super().begin(now)

    def hear(self, device: str, packet: Packet, now: float) -> None:
        if isinstance(packet, Sum):
            if device in self.state.devices:
                message = decode(packet.content)
                self.feed(theirs.Heard(device, offers=True), now)
                self.feed(theirs.Said(device, message), now)  # type: ignore[arg-type]
        elif isinstance(packet, Content) and (wanted := self.pulls.get(device)):
            if wanted.manifest.sha256 == packet.sha256:
                del self.pulls[device]
                self.feed(theirs.Stored(device, wanted, 0.0), now)
        else:
            super().hear(device, packet, now)

    def _carry_out(self, action: theirs.Action) -> list[theirs.Event]:
        if not isinstance(action, theirs.Aggregate):
            return super()._carry_out(action)
        closed = action.round
        for number in sorted(set(closed.summed.values())):
            self._unmask(closed.sums[number])
        names = set(closed.summed)
        assert names
        assert self.summed.setdefault(closed.number, names) == names, "asked for something else"
        self.aggregated.setdefault(closed.number, dict.fromkeys(names, f"{closed.number}"))
        return [theirs.Aggregated(closed.number, root=theirs.Lineage(manifest(f"root/{closed.number}", "root")))]

    def _unmask(self, masked: server.State) -> None:
        task = masked.task
        assert len(task.uploads) >= 3
        left = server.leftover(task)
        assert not left.liars
        parts = [self.line.vectors[sha256] for sha256 in task.uploads.values()]
        assert [name for name, _, _ in parts] == sorted(task.uploads)
        assert len({plan for _, plan, _ in parts}) == 1, "of one work"
        total = np.sum([from_bytes(data) for _, _, data in parts], axis=0, dtype=np.uint32)
        server.unmask(total, left)
        plain = [from_bytes(vector_of(name, plan)) for name, plan, _ in parts]
        assert (total == np.sum(plain, axis=0, dtype=np.uint32)).all(), "the exact sum, or nothing"


class MaskedWorld(World):
    """Four devices, which train the root."""

    names: ClassVar[tuple[str, ...]] = NAMES

    def __init__(self) -> None:
        self.line = Line()
        super().__init__()

    def make_coordinator(self) -> Coordinator:
        given = rules(
            min_devices=4, rounds=3, root_rounds=3, quorum=0.75, masking=MASKING, words={Share.BOTH: WORDS},
            name=FEDERATION, patience=30.0, **self.times,
        )  # fmt: skip
        return MaskedCoordinator(
            rules=given,
            say=lambda device, packet: self.down.append((device, packet)),
            show=self.retain,
            line=self.line,
        )

    def device(self, name: str) -> Device:
        return MaskedDevice(name=name, say=lambda packet: self.up.append((name, packet)), line=self.line)

    @rule(name=st.sampled_from(NAMES))
    def any_device_dies(self, name: str) -> None:
        self.device_dies(name)

    @rule(name=st.sampled_from(NAMES), actions=st.integers(0, 9))
    def any_device_dies_soon(self, name: str, actions: int) -> None:
        self.devices[name].left = actions

    @invariant()
    def nobody_answers_for_two_sums(self) -> None:
        assert all(len(shares) == 1 for shares in self.line.answers.values()), "two sums of one update"
        assert all(len(signed) == 1 for signed in self.line.consents.values())
        assert all(len(handed) == 1 for handed in self.line.handed_in.values())

    @invariant()
    def the_coordinator_wakes_when_time_alone_matters(self) -> None:
        given, state = self.coordinator.rules, self.coordinator.state
        wake = theirs.next_wake(given, state, self.now)
        assert wake is None or wake > self.now
        at = self.now + 0.999 * ((1e6 if wake is None else wake) - self.now)
        assert theirs.step(given, state, theirs.Tick(), at) == (state, []), "nobody would have looked"

    @invariant()
    def only_kept_updates_count_and_what_devices_believe_is_true(self) -> None:
        assert isinstance(self.coordinator, MaskedCoordinator)
        for name, one in self.devices.items():
            counted = [number for number, names in self.coordinator.summed.items() if name in names]
            assert len(one.believes) <= len(counted), "believed to count, and does not"

    def teardown(self) -> None:
        self.coordinator.left = None
        self.come_to_the_end()
        self.nobody_answers_for_two_sums()
        self.only_kept_updates_count_and_what_devices_believe_is_true()
        assert self.coordinator.state.phase == "finished"
        assert self.coordinator.state.round == 3


class Patient(MaskedWorld):
    """A world in which nobody is given up."""

    times: ClassVar[dict[str, float]] = {"deadline": 1e6, "grace": 1e6}
    pass_time = None
    owner_stops = None

    def make_coordinator(self) -> Coordinator:
        made = super().make_coordinator()
        made.rules = replace(made.rules, patience=1e6)
        return made


class PatientMaskedWorld(Patient):
    """Every round has the sum of all."""

    def teardown(self) -> None:
        super().teardown()
        assert isinstance(self.coordinator, MaskedCoordinator)
        assert self.coordinator.summed == {number: set(NAMES) for number in (1, 2, 3)}


class ForgersMaskedWorld(MaskedWorld):
    """Others write on the topics of devices, but can sign neither a step nor a message of a sum."""

    @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 30), up=st.booleans())
    def forge(self, name: str, seed: int, up: bool) -> None:
        down, others = forged(name, seed, self.coordinator.state)
        serving = sorted(self.devices[name].serving)
        down += [
            RoundDone(round=self.coordinator.state.round + 1, accepted=seed % 2 == 0, updates=4),
            Refused(code="AttemptMismatch", reason="", about="sum"),
            *(Committed(sha256=sha256) for sha256 in serving),
            *(Refused(code="NotInSum", reason="", about=sha256) for sha256 in serving),
        ]
        made = others if up else down
        (self.up if up else self.down).append((name, made[seed % len(made)]))

    @invariant()
    def only_kept_updates_count_and_what_devices_believe_is_true(self) -> None:
        """Devices may believe what others have said."""


SETTINGS = settings(max_examples=40, stateful_step_count=50, deadline=None)
TestMaskedWorld = MaskedWorld.TestCase
TestMaskedWorld.settings = SETTINGS
TestPatientMaskedWorld = PatientMaskedWorld.TestCase
TestPatientMaskedWorld.settings = SETTINGS
TestForgersMaskedWorld = ForgersMaskedWorld.TestCase
TestForgersMaskedWorld.settings = SETTINGS
