"""Device machines against the coordinator's machine, over a line that loses, repeats and reorders, and with crashes.

Any side may die between any two of its actions. What it has on disk is all that is left to its next life. In the end
the line is good and nobody dies any more.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator import rounds as theirs
from edge_sdk.membership.rounds import LEGAL, Stop, moves
from edge_sdk.wire import CoordinatorState, Presence, RoundDone
from tests.coordinator.federations import rules
from tests.membership.machines import Coordinator, Device, Packet, PowerCutError, forged

NAMES = ("a1", "b1")
DEVICES = st.sampled_from(NAMES)
_FAIR = 30.0  # seconds of patience that a device needs: nothing that it says again then may be lost


class World(RuleBasedStateMachine):
    """Two devices, each of a cluster of its own, and their coordinator."""

    names: ClassVar[tuple[str, ...]] = NAMES
    late = 0
    times: ClassVar[dict[str, float]] = {}
    believed = True  # what a device believes of its updates is true

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.up: list[tuple[str, Packet]] = []
        self.down: list[tuple[str, Packet]] = []
        self.state: CoordinatorState | None = None  # retained
        self.coordinator = self.make_coordinator()
        self.devices = {name: self.device(name) for name in self.names}
        self.kept: dict[str, set[str]] = {name: set() for name in self.names}  # updates that were ever in the journal

    def make_coordinator(self) -> Coordinator:
        given = rules(min_devices=2, rounds=3, root_rounds=1, quorum=1.0, late=self.late, **self.times)
        return Coordinator(rules=given, say=lambda device, packet: self.down.append((device, packet)), show=self.retain)

    def device(self, name: str) -> Device:
        return Device(name=name, say=lambda packet: self.up.append((name, packet)))

    def retain(self, state: CoordinatorState) -> None:
        self.state = state
        self.down += [(name, state) for name in self.names]

    @initialize()
    def begin(self) -> None:
        self.coordinator.begin(self.now)
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        """A new session, which is shown what the broker has retained."""
        self.down = [(other, packet) for other, packet in self.down if other != name]
        self.devices[name].begin(self.now)
        if self.state is not None:
            self.down.append((name, self.state))

    # what happens to a side -----------------------------------------------------------------------------------------

    def at_coordinator(self, what: str, *given: object) -> None:
        try:
            getattr(self.coordinator, what)(*given, self.now)
        except PowerCutError:
            self.coordinator_dies()

    def at_device(self, name: str, what: str, *given: object) -> None:
        device = self.devices[name]
        try:
            getattr(device, what)(*given, self.now)
        except PowerCutError:
            self.device_dies(name)
        if device.outbox and device.outbox.offer:
            self.kept[name].add(device.outbox.offer.manifest.sha256)

    def take_up(self, position: int) -> None:
        name, packet = self.up.pop(position)
        if isinstance(packet, Presence):
            self.coordinator.shown[name] = packet
        self.at_coordinator("hear", name, packet)

    def take_down(self, position: int) -> None:
        name, packet = self.down.pop(position)
        self.at_device(name, "hear", packet)

    @rule()
    def coordinator_dies(self) -> None:
        self.up = [(name, packet) for name, packet in self.up if isinstance(packet, Presence)]
        self.coordinator.begin(self.now)

    @rule(name=DEVICES)
    def device_dies(self, name: str) -> None:
        """The broker publishes its will."""
        device = self.devices[name]
        if not device.at_home:
            self.up.append((name, Presence(online=False, epoch=device.session)))
        self.start(name)

    @rule(name=DEVICES)
    def owner_stops(self, name: str) -> None:
        """The owner stops the membership, and begins another one."""
        if not self.devices[name].at_home:
            self.at_device(name, "feed", Stop())
            self.start(name)

    @rule(actions=st.integers(0, 4))
    def coordinator_dies_soon(self, actions: int) -> None:
        self.coordinator.left = actions

    @rule(name=DEVICES, actions=st.integers(0, 4))
    def device_dies_soon(self, name: str, actions: int) -> None:
        self.devices[name].left = actions

    @rule(name=DEVICES)
    def train(self, name: str) -> None:
        """After all that has come, as the real one does."""
        while position := next((i for i, (other, _) in enumerate(self.down, 1) if other == name), 0):
            self.take_down(position - 1)
        self.at_device(name, "train")

    # what happens to the line ---------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 20), up=st.booleans(), again=st.booleans())
    def deliver(self, which: int, up: bool, again: bool) -> None:
        """In any order, perhaps not for the last time."""
        line = self.up if up else self.down
        if line:
            position = which % len(line)
            if again:
                line.append(line[position])
            self.take_up(position) if up else self.take_down(position)

    @rule(count=st.integers(1, 30), every=st.integers(2, 9))
    def deliver_in_order(self, count: int, every: int = 0) -> None:
        """All but every so many."""
        for number in range(1, count + 1):
            lost = every and number % every == 0
            if self.up and not (lost and self.lose(0, up=True)):
                self.take_up(0)
            if self.down and not (lost and self.lose(0, up=False)):
                self.take_down(0)

    def lose(self, position: int, *, up: bool) -> bool:
        """Lose a message, unless the broker retains it; return True if it is lost."""
        line = self.up if up else self.down
        if isinstance(line[position][1], CoordinatorState | Presence):
            return False
        del line[position]
        return True

    @rule()
    def the_line_breaks(self) -> None:
        """Only what the broker retains is left."""
        for up in (True, False):
            for position in reversed(range(len(self.up if up else self.down))):
                self.lose(position, up=up)

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0, 31.0, 101.0]))
    def pass_time(self, seconds: float) -> None:
        self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.at_coordinator("tick")
        for name in self.names:
            self.at_device(name, "tick")

    @rule(messages=st.integers(1, 60))
    def go_on(self, messages: int) -> None:
        """A good moment, so that some runs come far."""
        for number in range(messages):
            self.deliver_in_order(1)
            self.train(self.names[number % len(self.names)])

    # what must hold -------------------------------------------------------------------------------------------------

    @invariant()
    def no_update_counts_twice(self) -> None:
        counted = list(self.coordinator.counted())
        assert len(counted) == len(set(counted))

    @invariant()
    def only_kept_updates_count_and_what_devices_believe_is_true(self) -> None:
        counted = set(self.coordinator.counted())
        for name, device in self.devices.items():
            mine = {sha256 for other, sha256 in counted if other == name}
            assert mine <= self.kept[name], "counts, and was lost by its device"
            if self.believed:
                assert device.believes <= mine, "believed to count, and does not"

    def teardown(self) -> None:
        self.coordinator.left = None
        self.come_to_the_end()
        self.only_kept_updates_count_and_what_devices_believe_is_true()
        assert self.coordinator.state.phase == "finished"
        assert sorted(self.coordinator.aggregated) == [1, 2, 3]

    def come_to_the_end(self) -> None:
        """From wherever they stand, devices come home in one session: nobody waits for ever, or gives up."""
        for name, device in self.devices.items():
            device.left, device.given_up = None, []
            if not device.at_home and device.state.until - self.now < _FAIR:  # it has waited in vain for long
                self.device_dies(name)
        self.the_line_breaks()
        for _ in range(300):
            while self.up or self.down:
                self.deliver_in_order(1)
            for name in self.names:
                self.train(name)
            if self.up or self.down:
                continue
            if all(device.at_home for device in self.devices.values()):
                break
            self.time_passes(5.0)
        for device in self.devices.values():
            assert device.at_home, f"waits for ever, {device.state.phase}, {self.coordinator.state.phase}"
            assert device.given_up == []


class PatientWorld(World):
    """No round closes for the lack of time: every update that was ever kept counts, each once."""

    times: ClassVar[dict[str, float]] = {"deadline": 1e6, "grace": 1e6}
    pass_time = None
    owner_stops = None  # nobody waits for a device that has left

    def teardown(self) -> None:
        super().teardown()
        assert all(set(content) == set(NAMES) for content in self.coordinator.aggregated.values())
        counted = set(self.coordinator.counted())
        for name in NAMES:
            assert {sha256 for other, sha256 in counted if other == name} == self.kept[name]


class LateWorld(World):
    """The same where updates may come late."""

    late = 1


class ForgersWorld(World):
    """Others write on the topics of devices, but cannot sign a step: nobody waits for ever because of them."""

    believed = False

    @rule(name=DEVICES, seed=st.integers(0, 30), up=st.booleans())
    def forge(self, name: str, seed: int, up: bool) -> None:
        down, others = forged(name, seed, self.coordinator.state)
        made = others if up else down
        (self.up if up else self.down).append((name, made[seed % len(made)]))

    @rule(name=DEVICES, accepted=st.booleans())
    def forge_the_end_of_a_round(self, name: str, accepted: bool) -> None:
        number = self.coordinator.state.round + 1
        self.down.append((name, RoundDone(round=number, accepted=accepted, updates=1)))

    @rule(name=DEVICES)
    def forge_a_commitment(self, name: str) -> None:
        device = self.devices[name]
        if device.outbox and device.outbox.offer:
            for packet in forged(name, 1, self.coordinator.state)[0][1:2]:
                self.down.append((name, type(packet)(sha256=device.outbox.offer.manifest.sha256)))

    def teardown(self) -> None:
        self.coordinator.left = None
        self.come_to_the_end()


class AmnesiaWorld(World):
    """The coordinator may lose its disk, but for its key. Its devices are run again, even if they were home."""

    believed = False

    def teardown(self) -> None:
        for name in NAMES:
            if self.devices[name].at_home:
                self.start(name)
        self.coordinator.left = None
        self.come_to_the_end()

    @rule()
    def coordinator_forgets_all(self) -> None:
        self.coordinator.state = theirs.State()
        self.coordinator.profiles, self.coordinator.aggregated = {}, {}
        self.coordinator_dies()


SETTINGS = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestWorld = World.TestCase
TestWorld.settings = SETTINGS
TestPatientWorld = PatientWorld.TestCase
TestPatientWorld.settings = SETTINGS
TestLateWorld = LateWorld.TestCase
TestLateWorld.settings = SETTINGS
TestForgersWorld = ForgersWorld.TestCase
TestForgersWorld.settings = SETTINGS
TestAmnesiaWorld = AmnesiaWorld.TestCase
TestAmnesiaWorld.settings = SETTINGS


def test_the_table_has_every_phase_and_all_but_home_lead_home() -> None:
    reached, before = {"home"}, set()
    while reached != before:
        before = set(reached)
        reached |= {phase for phase, after in LEGAL.items() if after & reached}
    assert reached == set(LEGAL) == {phase for after in LEGAL.values() for phase in after} | {"seeking"}


def test_the_drawing_names_every_phase() -> None:
    drawing = moves.__doc__ or ""
    assert all(phase in drawing for phase in LEGAL)


def test_a_move_that_is_not_in_the_table_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.turn.is_legal", lambda before, after: before == after)
    world = World()
    world.begin()
    with pytest.raises(AssertionError, match="no move from seeking to joining"):
        world.deliver_in_order(10)
