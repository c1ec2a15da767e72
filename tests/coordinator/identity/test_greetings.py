"""Hellos: the coordinator's half."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from msgspec.structs import replace

from coordinator.identity import Greetings
from coordinator.rounds import Greeted, Joined, Left, Seen, Served, has_all
from edge_sdk.wire import (
    DeviceProfile,
    Finished,
    Greeter,
    Hello,
    Join,
    Leave,
    Presence,
    Refused,
    RoundStart,
    Welcome,
    encode,
)
from tests.coordinator.federations import Machine, joined, rules, stored
from tests.coordinator.federations import profile as simple_profile
from tests.coordinator.played import TOPICS, Devices, federation
from tests.integration.coordinators import Coordinator
from tests.integration.devices import profile

SECRET = bytes(range(32))


def keyed(greeter: Greeter, number: int = 0, **changes: object) -> DeviceProfile:
    return replace(profile("apples", number), key=greeter.public, **changes)


class TestGoodOnes:
    greeter = Greeter(SECRET, "tastes", "a")
    own = keyed(greeter)

    def known(self) -> Greetings:
        greetings = Greetings("tastes")
        greetings.load({"a": self.own})
        return greetings

    def test_show_that_the_device_is_there_with_this_profile(self) -> None:
        greetings = self.known()
        hello = self.greeter.hello(self.own, 7, 1)
        assert greetings.accept("a", hello)
        assert greetings.is_repeated("a", hello)
        assert not greetings.is_repeated("a", self.greeter.hello(self.own, 7, 2))
        assert not greetings.is_repeated("a", self.greeter.hello(self.own, 8, 1))
        assert greetings.is_repeated("a", self.greeter.hello(self.own, 6, 5))

    OTHERS: ClassVar[dict[str, Hello]] = {
        "another profile": greeter.hello(replace(own, pictures=11), 7, 1),
        "another key": Greeter(bytes(32), "tastes", "a").hello(own, 7, 1),
        "another device": Greeter(SECRET, "tastes", "b").hello(own, 7, 1),
        "another federation": Greeter(SECRET, "paintings", "a").hello(own, 7, 1),
        "another number": replace(greeter.hello(own, 7, 1), number=2),
        "another session": replace(greeter.hello(own, 7, 1), epoch=8),
        "no signature": Hello(epoch=7, number=1, signature=bytes(64)),
    }

    @pytest.mark.parametrize("hello", OTHERS.values(), ids=OTHERS)
    def test_are_no_others(self, hello: Hello) -> None:
        greetings = self.known()
        assert not greetings.accept("a", hello)
        assert not greetings.is_repeated("a", self.greeter.hello(self.own, 1, 1)), "a bad one changes nothing"

    def test_need_a_key_and_a_device_that_has_joined(self) -> None:
        greetings = self.known()
        assert not greetings.accept("b", self.greeter.hello(self.own, 7, 1))
        greetings.joined("a", profile("apples", 0))
        assert not greetings.accept("a", self.greeter.hello(self.own, 7, 1))
        greetings.joined("a", self.own)
        assert greetings.accept("a", self.greeter.hello(self.own, 7, 1))
        greetings.forget("a")
        assert not greetings.accept("a", self.greeter.hello(self.own, 7, 2))

    def test_begin_anew_with_a_new_key_whatever_the_clock_says(self) -> None:
        """A device that has lost its home has another key, and its clock may be slow."""
        greetings = self.known()
        assert greetings.accept("a", self.greeter.hello(self.own, 2**40, 9))
        anew = Greeter(bytes(32), "tastes", "a")
        greetings.joined("a", keyed(anew))
        hello = anew.hello(keyed(anew), 3, 1)
        assert not greetings.is_repeated("a", hello)
        assert greetings.accept("a", hello)


class TestTheMachine:
    def opened(self) -> Machine:
        machine = Machine(rules(min_devices=2, rounds=1, root_rounds=1, quorum=1.0))
        machine(joined("a1"), joined("a2"))
        return machine

    def test_tells_a_device_again_what_it_has_missed(self) -> None:
        machine = self.opened()
        assert not has_all(machine.state, "a1")
        machine(Greeted("a1"))
        assert [type(message) for message in machine.sent("a1")] == [Welcome, RoundStart]
        machine(stored("a1", 1))
        assert has_all(machine.state, "a1")
        before = machine.state
        machine(Greeted("a1"))
        assert [type(message) for message in machine.sent("a1")] == [Welcome]
        assert machine.state == before, "nothing to be saved"
        machine(stored("a2", 1))
        assert not has_all(machine.state, "a1")
        machine(Greeted("a1"))
        assert [type(message) for message in machine.sent("a1")] == [Welcome, Finished]
        machine(Served("a1"))
        assert has_all(machine.state, "a1")

    def test_brings_a_device_back_that_was_said_to_be_gone(self) -> None:
        machine = self.opened()
        machine(Seen("a1", False, 1))
        machine.now += machine.rules.grace / 2
        assert not has_all(machine.state, "a1")
        machine(Greeted("a1"))
        assert [m.code for m in machine.sent("a1", Refused)] == ["PresenceLost"]  # type: ignore[attr-defined]
        assert machine.state.devices["a1"].until == machine.now + machine.rules.grace
        assert not machine.state.devices["a1"].away

    def test_says_nothing_to_one_that_has_left_or_never_came(self) -> None:
        machine = self.opened()
        machine(Left("a1", shut_out=True))
        before = machine.state
        assert machine(Greeted("a1")) == machine(Greeted("nobody")) == []
        assert machine.state == before
        assert not has_all(machine.state, "a1")

    def test_also_one_without_presence(self) -> None:
        machine = Machine(rules())
        machine(Joined("a1", simple_profile()))
        machine.now += 5.0
        machine(Greeted("a1"))
        assert machine.state.devices["a1"].until == machine.now + machine.rules.grace


class TestTheService:
    def refusals(self, devices: Devices, name: str) -> list[tuple[str, str]]:
        return [(m.code, m.about) for device, m in devices.said if device == name and isinstance(m, Refused)]

    def test_answers_a_hello_shortly_and_asks_for_a_join_where_it_must(self, url: str, tmp_path: Path) -> None:
        """Also after a restart, which has the profiles in its database."""
        path = federation(tmp_path, url, 3)
        coordinator, devices = Coordinator(path), Devices(url)
        coordinator.wait_for("coordinator_started")
        greeter = Greeter(SECRET, "tastes", "a")
        own = keyed(greeter)
        devices.say("a", greeter.hello(own, 7, 1))
        devices.hear(Refused, {"a"})
        assert self.refusals(devices, "a") == [("JoinNeeded", "hello")]
        devices.say("a", Join(profile=own))
        devices.hear(Welcome, {"a"})
        devices.say("a", greeter.hello(own, 7, 2))
        assert devices.hear(Welcome, {"a"}) == [Welcome(round=0, rounds=2)]
        devices.say("a", greeter.hello(own, 7, 2))
        devices.say("a", Join(profile=keyed(greeter, 1)))  # somebody else, in its name
        devices.hear(Welcome, {"a"})
        devices.say("a", greeter.hello(own, 7, 3))
        devices.hear(Refused, {"a"})
        devices.say("a", Join(profile=own))
        devices.hear(Welcome, {"a"})
        coordinator.stop()
        again = Coordinator(path)
        again.wait_for("coordinator_started")
        devices.say("a", greeter.hello(own, 7, 4))
        devices.hear(Welcome, {"a"})
        devices.say("a", Leave())
        assert [m.code for m in devices.hear(Refused, {"a"})] == ["HasLeft"]
        devices.say("a", greeter.hello(own, 7, 5))
        devices.hear(Refused, {"a"})
        assert self.refusals(devices, "a")[1:] == [
            ("JoinNeeded", "hello"), ("HasLeft", "leave"), ("JoinNeeded", "hello"),
        ]  # fmt: skip
        assert coordinator.service._counters.ignored["RepeatedHello"] == 1
        again.stop()

    def test_changes_and_saves_nothing_for_a_device_that_has_all(self, url: str, tmp_path: Path) -> None:
        coordinator, devices = Coordinator(federation(tmp_path, url, 2)), Devices(url)
        coordinator.wait_for("coordinator_started")
        greeter = Greeter(SECRET, "tastes", "a")
        devices.transport.publish(TOPICS.presence("a"), encode(Presence(online=True, epoch=7)), retain=True)
        devices.say("a", Join(profile=keyed(greeter)))
        devices.hear(Welcome, {"a"})
        before = coordinator.service.state
        devices.say("a", greeter.hello(keyed(greeter), 7, 1))
        devices.hear(Welcome, {"a"})
        assert coordinator.service.state is before
        coordinator.stop()

    def test_repeats_what_was_lost(self, url: str, tmp_path: Path) -> None:
        coordinator, devices = Coordinator(federation(tmp_path, url, 1)), Devices(url)
        coordinator.wait_for("coordinator_started")
        greeter = Greeter(SECRET, "tastes", "a")
        devices.say("a", Join(profile=keyed(greeter)))
        (start,) = devices.hear(RoundStart, {"a"})
        devices.say("a", greeter.hello(keyed(greeter), 7, 1))
        (again,) = devices.hear(RoundStart, {"a"})
        assert replace(again, deadline=0.0) == replace(start, deadline=0.0)
        coordinator.stop()
