"""Devices whose owners ask that nothing of them is kept: no state has anything of them, and no round waits for them."""

from __future__ import annotations

import pytest

from coordinator.rounds import (
    Aggregate,
    Aggregated,
    Cluster,
    Erase,
    Erased,
    Greeted,
    Heard,
    Left,
    Offered,
    Report,
    Restarted,
    Seen,
    Tick,
    head_of,
    records_of,
    step,
    touched,
)
from edge_sdk.wire import RoundDone, RoundStart, Welcome
from tests.coordinator.federations import DEVICES, Machine, deliver, joined, offer, rules, saved_and_loaded, started
from tests.coordinator.rounds.test_masks import FOUR, opened

KEY = bytes(32)


def erase(machine: Machine, name: str) -> None:
    machine(Erase(name, KEY))
    assert Erased(name, KEY) in machine.actions


def is_named(machine: Machine, name: str) -> bool:
    """True if anything that would be saved names the device."""
    records = records_of(machine.state, {*touched(None, machine.state), name})
    return records[name] is not None or name in str(head_of(machine.state))


def reports(machine: Machine) -> list[str]:
    return [action.event for action in machine.actions if isinstance(action, Report)]


def test_a_member_of_the_open_round_is_waited_for_no_longer() -> None:
    machine = started(quorum=1.0)
    deliver(machine, 1, "a1", "a2", "b1")
    erase(machine, "b2")
    assert reports(machine)[0] == "device_erased"
    assert machine.state.round == 1, "the round closed with the others' updates"
    assert [message.updates for message in machine.sent("a1", RoundDone)] == [3]  # type: ignore[attr-defined]
    assert not is_named(machine, "b2")


def test_its_update_does_not_count_any_more() -> None:
    machine = started()
    deliver(machine, 1, "a1")
    erase(machine, "a1")
    assert machine.state.round == 0
    assert not is_named(machine, "a1")
    deliver(machine, 1, "a2", "b1", "b2")
    assert [message.updates for message in machine.sent("b2", RoundDone)] == [3]  # type: ignore[attr-defined]
    assert machine.sent("a1") == []


def test_a_round_that_is_aggregated_is_aggregated_anew_without_it() -> None:
    machine = started()
    machine.answers = False
    deliver(machine, 1, *DEVICES)
    (first,) = [action for action in machine.actions if isinstance(action, Aggregate)]
    assert "a1" in first.round.updates
    erase(machine, "a1")
    (again,) = [action for action in machine.actions if isinstance(action, Aggregate)]
    assert sorted(again.round.updates) == ["a2", "b1", "b2"]
    machine(Aggregated(1))
    assert machine.state.round == 1
    assert not is_named(machine, "a1")


def test_a_round_whose_only_updates_are_erased_is_opened_anew() -> None:
    machine = started(quorum=0.25)
    machine.answers = False
    for name in ("b1", "b2", "a2"):
        machine(Left(name, shut_out=True))
    deliver(machine, 1, "a1")
    assert machine.state.phase == "aggregating"
    erase(machine, "a1")
    assert "round_abandoned" in reports(machine)
    assert (machine.state.phase, machine.state.round) == ("gathering", 0)
    machine(*(joined(name, epoch=2) for name in ("b1", "b2", "a2", "a3")))
    assert machine.sent("b1", RoundStart)


def test_a_round_of_it_alone_is_abandoned() -> None:
    machine = Machine(rules(min_devices=1))
    machine(joined("a1"))
    erase(machine, "a1")
    assert (machine.state.current, machine.state.phase) == (None, "gathering")
    assert not is_named(machine, "a1")


def test_a_late_update_in_a_round_of_it_alone_counts() -> None:
    machine = Machine(rules(min_devices=2, late=2, root_rounds=2))
    machine(joined("a1"), joined("a2"))
    machine(Restarted())
    deliver(machine, 1, "a1")
    machine.now += machine.rules.deadline
    machine(Tick(), joined("b1"))
    assert (machine.state.round, list(machine.state.current.cohort)) == (1, ["b1"])  # type: ignore[union-attr]
    deliver(machine, 1, "a2")
    assert list(machine.state.current.updates) == ["a2"]  # type: ignore[union-attr]
    machine.answers = False
    erase(machine, "b1")
    (asked,) = [action for action in machine.actions if isinstance(action, Aggregate)]
    assert list(asked.round.updates) == ["a2"]


def test_clusters_are_asked_for_anew_without_it() -> None:
    machine = Machine(rules(min_devices=4, rounds=4))
    machine(*(joined(name) for name in DEVICES))
    deliver(machine, 1, *DEVICES)
    machine.answers = False
    for name in DEVICES[:-1]:
        deliver(machine, 2, name)
    state, actions = step(machine.rules, machine.state, Erase("b2", KEY), machine.now)
    closing = [action for action in actions if isinstance(action, Aggregate)]
    assert closing
    state, actions = step(machine.rules, state, Aggregated(2), machine.now)
    (asked,) = [action for action in actions if isinstance(action, Cluster)]
    assert sorted(asked.devices) == ["a1", "a2", "b1"]
    state, actions = step(machine.rules, state, Erase("b1", KEY), machine.now)
    (anew,) = [action for action in actions if isinstance(action, Cluster)]
    assert sorted(anew.devices) == ["a1", "a2"]


def test_a_late_update_of_it_does_not_count() -> None:
    machine = started(late=2, quorum=0.5)
    deliver(machine, 1, "a1", "a2", "b1")
    machine.now += 200
    machine(Tick())
    assert "b2" in machine.state.past[1].absent
    erase(machine, "b2")
    assert not is_named(machine, "b2")
    machine(Heard("b2", offers=True), Offered("b2", offer("b2", 1)))
    assert [message.code for message in machine.sent("b2")] == ["UnknownDevice"]  # type: ignore[attr-defined]


def test_an_unknown_device_is_confirmed_and_changes_nothing() -> None:
    machine = started()
    before = machine.state
    erase(machine, "nobody")
    assert machine.state == before
    assert reports(machine) == []


def test_nothing_of_it_comes_back_with_a_restart() -> None:
    machine = started()
    deliver(machine, 1, "a1")
    erase(machine, "a1")
    machine.state = saved_and_loaded(machine.state)
    machine(Restarted(), Seen("a1", True, 9), Greeted("a1"), Heard("a1", offers=True))
    assert not is_named(machine, "a1")
    assert machine.sent("a1") == []


def test_it_may_come_back_as_another_device() -> None:
    machine = started()
    deliver(machine, 1, "a1")
    erase(machine, "a1")
    machine(joined("a1", epoch=5))
    device = machine.state.devices["a1"]
    assert (device.trace, device.cluster, device.left, device.erased) == (None, None, False, False)
    assert machine.sent("a1", Welcome)


class TestUnderMasks:
    """A sum cannot give a vector back: the name of its device stays until the round is over."""

    @pytest.fixture
    def machine(self) -> Machine:
        return opened(*FOUR)[0]

    def test_its_name_goes_with_the_round(self, machine: Machine) -> None:
        current = machine.state.current
        assert current is not None
        name = sorted(current.cohort)[0]
        erase(machine, name)
        device = machine.state.devices[name]
        assert (device.left, device.erased, device.trace, device.epoch) == (True, True, None, None)
        machine.state = saved_and_loaded(machine.state)
        assert machine.state.devices[name].erased
        machine(Seen(name, True, 9), Heard(name, offers=True), Greeted(name))
        assert machine.state.devices[name].erased, "what comes late is not its own"
        machine.now += 1000
        for _ in range(4):
            machine(Tick())
            machine.now += 1000
        assert machine.state.current is None or name not in machine.state.current.cohort
        assert not is_named(machine, name)

    def test_it_may_come_back_before(self, machine: Machine) -> None:
        current = machine.state.current
        assert current is not None
        name = sorted(current.cohort)[0]
        erase(machine, name)
        machine(joined(name, epoch=5))
        assert not machine.state.devices[name].erased
        assert "device_joined" in reports(machine)
