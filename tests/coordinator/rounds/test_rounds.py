"""Rounds one after the other: how they open, close, fail and are opened anew."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.rounds import (
    Cluster,
    Clustered,
    Failed,
    Forgotten,
    Heard,
    Joined,
    Left,
    Lineage,
    Offered,
    Report,
    Restarted,
    Round,
    Seen,
    Served,
    Spoiled,
    State,
    Table,
    Tick,
    all_served,
    awaited,
    next_wake,
    replaceable,
    step,
)
from edge_sdk.wire.messages import (
    Committed,
    Finished,
    Refused,
    RoundDone,
    RoundStart,
)
from tests.coordinator.federations import (
    DEVICES,
    Machine,
    deliver,
    joined,
    manifest,
    offer,
    profile,
    refusals,
    rules,
    started,
    stored,
)


class TestRounds:
    def test_root_then_clusters(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        root = manifest("root/1", "root")
        (start,) = machine.sent("b1", RoundStart)
        assert (start.round, start.stage, start.cluster, start.frozen, start.start) == (2, "cluster", 1, [root], None)
        assert start.seed != 7
        deliver(machine, 2, *DEVICES)
        (start,) = machine.sent("b1", RoundStart)
        assert (start.round, start.start) == (3, manifest("1/2", "cluster"))
        deliver(machine, 3, *DEVICES)
        assert machine.sent("b1", RoundDone) == [RoundDone(round=3, accepted=True, updates=4)]
        assert machine.sent("b1", Finished) == [
            Finished(rounds=3, cluster=1, adapters=[root, manifest("1/3", "cluster"), manifest("0/3", "cluster")])
        ]

    def test_without_root_rounds(self) -> None:
        machine = started(root_rounds=0)
        (start,) = machine.sent("a1", RoundStart)
        assert (start.stage, start.cluster, start.frozen) == ("cluster", 0, [])

    def test_quorum_is_not_enough_before_the_deadline(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine.now = 99.0
        machine(Tick())
        assert machine.state.round == 0
        assert next_wake(machine.rules, machine.state, machine.now) == 100.0

    def test_the_deadline_closes_a_round_with_quorum(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "b1")
        machine.now = 100.0
        machine(Tick())
        assert machine.state.round == 1
        assert machine.sent("a1", RoundDone) == [RoundDone(round=1, accepted=True, updates=2)]
        assert machine.sent("a2", RoundDone) == [RoundDone(round=1, accepted=False, updates=2)]

    def test_a_round_without_quorum_is_extended_then_closed_with_what_there_is(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        deliver(machine, 2, "a1")
        machine.now = 100.0
        machine(Tick())
        assert machine.state.round == 1
        assert [start.deadline for start in machine.sent("b2", RoundStart)] == [100.0]
        assert machine.sent("a1") == []
        machine.now = 200.0
        machine(Tick())
        assert machine.state.round == 2

    def test_a_round_in_which_nobody_delivers_begins_again(self) -> None:
        machine = started()
        for machine.now in (100.0, 200.0):
            machine(Tick())
        assert "round_abandoned" in [action.event for action in machine.actions if isinstance(action, Report)]
        (start,) = machine.sent("a1", RoundStart)
        assert isinstance(start, RoundStart)
        assert (start.round, start.attempt) == (1, 2)
        machine(*(stored(name, 1, attempt=2) for name in DEVICES))
        assert (machine.state.round, machine.state.attempt) == (1, 3)

    def test_an_update_for_a_round_that_was_abandoned_is_not_one_for_the_next_opening(self) -> None:
        """A device has changed its cluster meanwhile: what it trained is of no use there."""
        machine = started(root_rounds=0)
        for machine.now in (100.0, 200.0):
            machine(Tick())
        for event in (Offered("a1", offer("a1", 1)), stored("a1", 1)):
            before = machine.state
            machine(event)
            assert refusals(machine, "a1") == ["OtherAttempt"]
            assert machine.state == before
        machine(Spoiled("a1", offer("a1", 1), "AdapterValueError", "NaN", final=True))
        assert machine.state == before, "nor does it stand in the way of another one"
        machine(stored("a1", 1, 1, attempt=2))
        assert machine.sent("a1") == [Committed(sha256=offer("a1", 1, 1).manifest.sha256)]

    def test_while_a_round_is_being_opened_anew_nothing_counts_for_it(self) -> None:
        machine = started()
        machine.now = 100.0
        machine(Tick())
        machine.state, _ = step(machine.rules, machine.state, Tick(), 200.0)
        assert machine.state.phase == "clustering"
        machine(Offered("a1", offer("a1", 1)))
        assert refusals(machine, "a1") == ["OtherAttempt"]

    def test_late_is_what_was_trained_for_the_opening_that_was_closed(self) -> None:
        machine = started(root_rounds=0, rounds=5, late=1)
        for machine.now in (100.0, 200.0):
            machine(Tick())
        machine(*(stored(name, 1, attempt=2) for name in ("a1", "a2", "b1")))
        machine.now = 300.0
        machine(Tick())
        assert machine.state.round == 1
        machine(Offered("b2", offer("b2", 1, attempt=1)))
        assert refusals(machine, "b2") == ["OtherAttempt"]
        machine(stored("b2", 1, attempt=2))
        assert machine.sent("b2") == [Committed(sha256=offer("b2", 1).manifest.sha256)]

    def test_a_device_that_leaves_is_not_waited_for(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Left("b2", "battery"))
        assert machine.state.round == 0, "it may not have been the device that said so"
        assert [refused.about for refused in machine.sent("b2", Refused)] == ["leave"]
        wake = next_wake(machine.rules, machine.state, machine.now)
        assert wake == 5.0
        machine.now = wake
        machine(Tick())
        assert machine.state.round == 1
        assert machine.sent("b2", RoundStart) == []

    def test_one_that_was_shut_out_is_not_waited_for_at_all(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        machine(Left("b2", "Revoked", shut_out=True))
        assert machine.state.round == 1
        assert machine.sent("b2", Refused) == []

    def test_an_update_of_a_device_that_left_still_counts(self) -> None:
        machine = started()
        deliver(machine, 1, "a1")
        machine(Left("a1"))
        deliver(machine, 1, "a2", "b1", "b2")
        assert machine.sent("a2", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]

    def test_a_device_that_is_offline_is_waited_for_during_its_grace(self) -> None:
        machine = started()
        machine(Seen("b2", True, 5))
        deliver(machine, 1, "a1", "a2", "b1")
        machine.now = 20.0
        machine(Seen("b2", False, 5))
        assert next_wake(machine.rules, machine.state, machine.now) == 30.0
        machine.now = 29.0
        machine(Tick())
        assert machine.state.round == 0
        machine.now = 30.0
        machine(Tick())
        assert machine.state.round == 1

    def test_a_device_that_was_given_up_wakes_nobody(self) -> None:
        machine = started()
        machine(Seen("b2", False, 5))
        machine.now = 50.0
        assert next_wake(machine.rules, machine.state, machine.now) == 100.0

    def test_the_late_death_of_an_old_session_is_void(self) -> None:
        machine = started()
        machine(Seen("b2", True, 6), Seen("b2", False, 5))
        assert machine.state.devices["b2"].until is None

    def test_everybody_leaves_and_comes_back(self) -> None:
        machine = started()
        machine(*(Left(name) for name in DEVICES))
        machine.now = 5.0
        machine(Tick())
        assert machine.state.phase == "gathering"
        machine(*(Joined(name, profile()) for name in DEVICES))
        assert machine.state.phase == "training"
        assert machine.state.round == 0

    def test_a_federation_under_way_goes_on_with_quorum(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        machine(Left("a1"))
        deliver(machine, 2, "a2", "b1", "b2")
        machine.now = 5.0
        machine(Tick())
        assert [start.round for start in machine.sent("a2", RoundStart)] == [3]

    def test_repeated_joins_and_births_change_nothing(self) -> None:
        """Nothing is saved anew for them."""
        machine = started()
        machine(Seen("a1", True, 5))
        before = machine.state
        machine(Joined("a1", profile()), Seen("a1", True, 5), Left("nobody"), Heard("a1"), Heard("nobody", offers=True))
        assert machine.state is before

    def test_a_round_that_makes_nothing_is_used_up_and_told(self) -> None:
        """If it began again with the updates that devices have kept, it would fail for ever, restarts or not."""
        given = rules(min_devices=1)
        machine = Machine(given)
        machine(Joined("a1", profile()))
        asked, _ = step(given, machine.state, stored("a1", 1), 0.0)
        unmade = Failed(1, "AdapterValueError", "huge numbers")
        state, actions = step(given, asked, unmade, 0.0)
        assert (state.round, state.root, state.devices["a1"].trace) == (1, Lineage(), None)
        values = {"round": 1, "code": "AdapterValueError", "reason": "huge numbers"}
        assert actions[0] == Report("round_failed", values)
        machine.state, machine.actions = state, actions
        assert machine.sent("a1") == [RoundDone(round=1, accepted=False, updates=0)]
        (question,) = [action for action in actions if isinstance(action, Cluster)]
        assert step(given, state, Restarted(), 0.0)[1] == [question]
        assert step(given, state, unmade, 0.0) == (state, [])

    def test_the_last_round_may_make_nothing(self) -> None:
        given = rules(min_devices=1, rounds=1, root_rounds=0)
        machine = Machine(given)
        machine(Joined("a1", profile()))
        state, _ = step(given, machine.state, stored("a1", 1), 0.0)
        state, actions = step(given, state, Failed(1, "AdapterValueError", "huge numbers"), 0.0)
        machine.state, machine.actions = state, actions
        assert machine.sent("a1", Finished) == [Finished(rounds=1, cluster=0, adapters=[])]

    def test_what_was_folded_before_a_failed_last_root_round_is_not_lost(self) -> None:
        given = rules(min_devices=1, rounds=2)
        root, under = manifest("root", "root"), manifest("under", "root")
        machine = Machine(given, State(root=Lineage(root, under)))
        machine(Joined("a1", profile()))
        asked, _ = step(given, machine.state, stored("a1", 1), 0.0)
        machine.state, _ = step(given, asked, Failed(1, "AdapterValueError", "huge numbers"), 0.0)
        machine(Clustered({"a1": 0}))
        assert [message.frozen for message in machine.sent("a1", RoundStart)] == [[root, under]]
        deliver(machine, 2, "a1")
        assert [message.adapters[:2] for message in machine.sent("a1", Finished)] == [[root, under]]

    def test_without_a_new_clustering_devices_stay_where_they_are(self) -> None:
        given = rules(min_devices=1)
        failed = Failed(1, "LinAlgError", "no convergence")
        state, _ = step(given, State(), Joined("a1", profile()), 0.0)
        first, _ = step(given, state, failed, 0.0)
        assert (first.phase, first.devices["a1"].cluster) == ("training", 0)
        devices = {**state.devices, "b1": state.devices["a1"], "b2": state.devices["a1"]}
        devices["b1"], devices["b2"] = (msgspec.structs.replace(devices["b1"], cluster=c) for c in (4, 7))
        later = State(phase="clustering", devices=devices, next_cluster=8)
        state, actions = step(given, later, failed, 0.0)
        assert {name: device.cluster for name, device in state.devices.items()} == {"a1": 4, "b1": 4, "b2": 7}
        assert "clustering_failed" in [action.event for action in actions if isinstance(action, Report)]

    def test_a_cluster_that_splits_goes_on_from_its_parents_adapter(self) -> None:
        given = rules(root_rounds=0)
        state = State(clusters={0: Lineage(manifest("0/1", "cluster"))}, round=1, next_cluster=1, phase="clustering")
        state, _ = step(given, state, Joined("a1", profile()), 0.0)
        state, _ = step(given, state, Joined("b1", profile()), 0.0)
        state, _ = step(given, state, Clustered({"a1": 0, "b1": 1}, {1: 0}), 0.0)
        assert state.clusters == {0: Lineage(manifest("0/1", "cluster")), 1: Lineage(manifest("0/1", "cluster"))}
        assert state.next_cluster == 2


def test_an_event_of_one_device_looks_through_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It scanned and copied the whole state: 3.7 ms with 10,000 devices. benchmarks.clustering measures it."""
    names = [f"d{number:03}" for number in range(300)]
    machine = Machine(rules(min_devices=300, rounds=9, late=1, grace=10.0))
    machine(*(joined(name) for name in names))
    machine(*(stored(name, 1) for name in names[:-1]))
    machine.now += 200
    machine(Tick(), *(Joined(name, profile()) for name in ("n1", "n2")))
    assert machine.state.round == 1
    assert machine.state.phase == "training"

    def scan(*_: object) -> None:
        raise AssertionError("looks through the devices")

    monkeypatch.setattr(Table, "__iter__", scan)
    monkeypatch.setattr(Round, "absent", property(scan))
    number, attempt, one, other = 2, machine.state.attempt, names[0], names[1]
    for event in (
        joined(one, 2), Seen(one, False, 2), Heard(one), Seen(one, True, 3), Left(other), Heard(other, offers=True),
        Offered(one, offer(one, number, attempt=attempt)), stored(one, number, attempt=attempt),
        stored(one, number, attempt=attempt), Offered(names[-1], offer(names[-1], 1)), stored("nobody", number),
        Spoiled(other, offer(other, number, attempt=attempt), "AdapterValueError", "NaN", True),
        Joined("n3", profile()), Served(one), Tick(), Forgotten("n3"),
    ):  # fmt: skip
        machine.now += 0.1
        machine(event)
        next_wake(machine.rules, machine.state, machine.now)
        all_served(machine.rules, machine.state, machine.now)
        replaceable(machine.rules, machine.state, machine.now, frozenset())
        awaited(machine.rules, machine.state, machine.now, named=False)
    assert machine.state.phase == "training"
    current = machine.state.current
    assert current is not None
    assert one in current.updates
    assert other in current.refused
    assert "n3" not in machine.state.devices
