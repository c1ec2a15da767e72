"""For whom and how long a round waits, whatever is said in a device's name."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.rounds import (
    Fetch,
    Heard,
    Joined,
    Left,
    Offered,
    Reconnected,
    Seen,
    Spoiled,
    Tick,
    next_wake,
)
from edge_sdk.wire.messages import (
    Presence,
    Refused,
    RoundDone,
    RoundStart,
)
from tests.coordinator.federations import (
    DEVICES,
    Machine,
    deliver,
    joined,
    offer,
    profile,
    rules,
    started,
    stored,
)


class TestPatience:
    """The devices that a round waits for, and the times at which it is woken. The deadline is 100 s, grace 10."""

    def closes_at(self, machine: Machine) -> float:
        """Time at which the open round ends, if nothing happens and the machine is called only when it asks for it."""
        assert machine.state.current is not None
        attempt = machine.state.current.attempt
        while machine.state.current is not None and machine.state.current.attempt == attempt:
            wake = next_wake(machine.rules, machine.state, machine.now)
            assert wake is not None
            machine.now = wake
            machine(Tick())
        return machine.now

    def test_grace_ends_by_itself_whenever_it_began(self) -> None:
        """The sum of both times may be no exact float, and the machine may be called a little later."""
        for began in (20.0, 33.3, 71.07):
            machine = started()
            deliver(machine, 1, "a1", "a2", "b1")
            machine.now = began
            machine(Seen("b2", False, 5))
            assert next_wake(machine.rules, machine.state, machine.now) == began + 10.0
            assert next_wake(machine.rules, machine.state, began + 9.9) == began + 10.0
            machine.now = began + 10.003
            machine(Tick())
            assert machine.state.round == 1

    @pytest.mark.parametrize("names", [2, 200])
    def test_names_without_presence_hold_nothing_up(self, names: int) -> None:
        machine = Machine(rules(min_devices=names + 2, rounds=4, root_rounds=0, quorum=1.0))
        machine(joined("a1"), joined("a2"), *(Joined(f"n{i}", profile()) for i in range(names)))
        machine.rules = msgspec.structs.replace(machine.rules, min_devices=2)
        for number in (1, 2, 3):
            machine.now += 1.0
            assert machine.state.round == number - 1
            deliver(machine, number, "a1", "a2")
            if machine.state.round < number:
                assert self.closes_at(machine) == 10.0
        assert (machine.state.round, machine.now) == (3, 12.0)

    def test_names_that_say_join_again_and_again_do_not_either(self) -> None:
        machine = Machine(rules(min_devices=2, rounds=4, root_rounds=0))
        machine(joined("a1"), joined("a2"), Joined("n1", profile()))
        machine(stored("a1", 1), stored("a2", 1))
        for machine.now in (1.0, 5.0, 9.0):
            machine(Joined("n1", profile()))
        machine(stored("a1", 2), stored("a2", 2))
        assert self.closes_at(machine) == 10.0

    def test_names_that_come_first_keep_nobody_out(self) -> None:
        """The first round is theirs alone, until others are there who could take part."""
        machine = Machine(rules(min_devices=2, root_rounds=0))
        machine(Joined("n1", profile()), Joined("n2", profile()))
        machine.now = 2.0
        machine(joined("a1"), joined("a2"))
        assert self.closes_at(machine) == 10.0
        assert [start.attempt for start in machine.sent("a1", RoundStart)] == [2]  # type: ignore[union-attr]

    def test_presence_without_an_update_makes_no_quorum(self) -> None:
        """Two of four devices deliver. The first round waits one deadline for the others, as it would for any device;
        the next ones wait twice as long as the two that deliver take."""
        machine = Machine(rules(min_devices=4, rounds=4, root_rounds=0, quorum=0.6, grace=4.0))
        machine(joined("a1"), joined("a2"), joined("x1"), joined("x2"))
        machine.now = 8.0
        deliver(machine, 1, "a1", "a2")
        assert self.closes_at(machine) == 100.0
        assert machine.state.round == 1
        assert [start.deadline for start in machine.sent("x1", RoundStart)] == [16.0]
        assert [start.deadline for start in machine.sent("a1", RoundStart)] == [100.0]
        machine.now = 103.0
        deliver(machine, 2, "a1", "a2")
        assert self.closes_at(machine) == 116.0
        machine.now = 117.0
        deliver(machine, 3, "a1", "a2")
        assert self.closes_at(machine) == 116.0 + 6.0, "twice three seconds"

    def test_whoever_has_delivered_once_is_waited_for(self) -> None:
        machine = Machine(rules(min_devices=4, rounds=4, root_rounds=0, quorum=0.6))
        machine(*(joined(name) for name in DEVICES))
        machine(*(stored(name, 1) for name in DEVICES))
        machine.now = 1.0
        machine(*(stored(name, 2) for name in ("a1", "a2")))
        assert machine.state.round == 1
        assert self.closes_at(machine) == 200.0, "a quorum is three of four, for which it is extended once"

    def test_a_newcomer_that_was_too_slow_counts_from_its_first_update_on(self) -> None:
        machine = Machine(rules(min_devices=2, rounds=9, root_rounds=0, grace=4.0))
        machine(joined("a1"), joined("a2"))
        machine.now = 3.0
        deliver(machine, 1, "a1", "a2")
        machine(joined("b1"))
        machine(stored("a1", 2), stored("a2", 2))
        (start,) = machine.sent("b1", RoundStart)
        assert isinstance(start, RoundStart)
        assert (start.round, start.deadline) == (3, 4.0)
        machine.now = 6.0
        machine(*(stored(name, 3) for name in ("a1", "a2", "b1")))
        assert [start.deadline for start in machine.sent("b1", RoundStart)] == [100.0]

    def test_a_round_without_any_update_waits_for_everybody(self) -> None:
        machine = Machine(rules(min_devices=2, root_rounds=0))
        machine(joined("a1"), joined("a2"))
        machine.now = 100.0
        machine(Tick())
        assert [start.deadline for start in machine.sent("a1", RoundStart)] == [100.0]
        machine.now = 150.0
        deliver(machine, 1, "a1")
        assert machine.state.round == 0
        deliver(machine, 1, "a2")
        assert machine.state.round == 1


class TestWhatIsSaidInSomebodysName:
    """On a broker without rules everybody may say that a device is gone."""

    def test_a_death_is_told_to_the_device_whose_word_undoes_it(self) -> None:
        for word in (Heard("b2"), Joined("b2", profile()), Seen("b2", True, 1), Heard("b2", offers=True)):
            machine = started()
            machine(Seen("b2", False, 2**31 - 1))
            assert [(m.code, m.about) for m in machine.sent("b2", Refused)] == [("PresenceLost", "presence")]  # type: ignore[union-attr]
            machine(Seen("b2", False, 2**31 - 1))
            assert machine.sent("b2") == [], "once"
            machine.now = 9.0
            machine(word)
            deliver(machine, 1, "a1", "a2", "b1")
            machine.now = 18.0
            machine(Tick())
            assert machine.state.round == 0, "it is waited for again"
            deliver(machine, 1, "b2")
            assert machine.state.round == 1

    def test_a_birth_after_a_forged_death_is_believed_and_so_is_the_next_true_death(self) -> None:
        machine = started()
        machine(Seen("b2", False, 2**31 - 1), Seen("b2", True, 1))
        assert machine.state.devices["b2"].until is None
        machine(Seen("b2", False, 1))
        assert machine.state.devices["b2"].until == 10.0

    def test_one_that_is_presumed_dead_and_offers_is_heard(self) -> None:
        machine = started()
        machine(Seen("b2", False, 1))
        deliver(machine, 1, "a1")
        machine.now = 50.0
        machine(Heard("b2", offers=True), Offered("b2", offer("b2", 1)))
        assert Fetch("b2", offer("b2", 1)) in machine.actions
        assert machine.state.devices["b2"].is_present(machine.now)
        assert not machine.state.devices["b2"].away

    def test_a_leave_that_the_device_contradicts_costs_it_no_round(self) -> None:
        for word in (Joined("b2", profile()), Heard("b2", offers=True)):
            machine = started()
            machine(Left("b2"))
            deliver(machine, 1, "a1", "a2", "b1")
            machine.now = 4.0
            machine(word)
            assert not machine.state.devices["b2"].left
            deliver(machine, 1, "b2")
            assert machine.sent("b2", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]
            assert [start.round for start in machine.sent("b2", RoundStart)] == [2]  # type: ignore[union-attr]

    def test_other_words_of_one_that_has_left_do_not_bring_it_back(self) -> None:
        machine = started()
        machine(Left("b2"), Heard("b2"), Seen("b2", True, 9))
        assert machine.state.devices["b2"].left
        assert not machine.state.devices["b2"].is_present(machine.now)

    def test_a_device_whose_clock_was_ahead_is_not_taken_for_dead_for_ever(self) -> None:
        machine = started()
        machine(Seen("b2", True, 2_000_000_000), Seen("b2", False, 2_000_000_000))
        machine(Joined("b2", profile(), Presence(online=True, epoch=3)))
        assert machine.state.devices["b2"].until is None
        machine(Seen("b2", False, 3))
        assert machine.state.devices["b2"].until is not None


def test_who_died_while_the_broker_was_away_is_waited_for_as_one_that_is_gone() -> None:
    """Its will was lost with the broker, and every round waited for it until the deadline."""
    machine = started(grace=10)
    machine(Left("b1"))
    deliver(machine, 1, "a1", "a2")
    before = machine.state.devices["b1"]
    machine(Reconnected(frozenset({"a1", "a2"})))
    assert machine.state.devices["b2"].until == machine.now + 10
    assert machine.state.devices["a1"].until is None
    assert machine.state.devices["b1"] == before
    machine.now += 10
    machine(Tick())
    assert machine.state.round == 1
    machine(Seen("b2", True, 1))
    assert machine.state.devices["b2"].until is None


class TestPace:
    """Proven devices set the time that a round waits for devices on trial."""

    def test_a_newcomer_that_delivers_late_does_not_set_it(self) -> None:
        machine = Machine(rules(min_devices=2, rounds=4, root_rounds=4, extensions=0))
        machine(joined("a1"), joined("a2"))
        machine.now += 12
        machine(stored("a1", 1), stored("a2", 1), joined("c1"))
        assert machine.state.pace == 12
        machine(Tick())
        current = machine.state.current
        assert current is not None
        if "c1" not in current.cohort:  # it came after the round was opened
            machine.now += 12
            machine(stored("a1", 2), stored("a2", 2))
            current = machine.state.current
            assert current is not None
        number, opened = current.number, current.opened
        assert current.probation == opened + 24
        machine.now = opened + 12
        machine(stored("a1", number), stored("a2", number))
        machine.now = opened + 23
        machine(stored("c1", number))
        assert machine.state.round == number
        assert machine.state.pace == 12, "before, 23: the next round would have waited twice as long for newcomers"

    def test_where_nobody_is_proven_all_do(self) -> None:
        machine = Machine(rules(min_devices=2))
        machine(joined("a1"), joined("a2"))
        machine.now += 5
        machine(stored("a1", 1))
        machine.now += 5
        machine(stored("a2", 1))
        assert machine.state.pace == 10


def test_the_last_member_to_leave_may_be_one_whose_update_was_refused() -> None:
    machine = Machine(rules(min_devices=2))
    machine(joined("a1"), joined("a2"))
    machine(Spoiled("a1", offer("a1", 1), "AdapterValueError", "NaN", True))
    machine(Left("a2", shut_out=True), Left("a1"))
    wake = next_wake(machine.rules, machine.state, machine.now)
    assert wake is not None
    assert wake <= machine.now + 5.0
    machine.now = wake
    machine(Tick())
    assert machine.state.phase == "gathering"
