"""The end of the last round, and a restart of the coordinator."""

from __future__ import annotations

import msgspec

from coordinator.rounds import (
    Aggregate,
    Aggregated,
    Cluster,
    Joined,
    Left,
    Lineage,
    Offered,
    Place,
    Placed,
    Restarted,
    Seen,
    Served,
    State,
    all_served,
    next_wake,
    step,
)
from edge_sdk.wire.messages import (
    Finished,
    RoundDone,
    RoundStart,
    decode,
    encode,
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
    saved_and_loaded,
    started,
    stored,
)


class TestTheEnd:
    def finished(self) -> Machine:
        machine = started(rounds=2)
        for number in (1, 2):
            deliver(machine, number, *DEVICES)
        return machine

    def test_served_when_everybody_has_said_goodbye(self) -> None:
        machine = self.finished()
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(*(Left(name) for name in DEVICES[:3]), Seen("b2", False, 1))
        assert not all_served(machine.rules, machine.state, machine.now)
        assert all_served(machine.rules, machine.state, machine.now + 10)

    def test_served_when_everybody_has_everything_though_nobody_says_goodbye(self) -> None:
        machine = self.finished()
        machine(*(Served(name) for name in DEVICES[:3]))
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(Served("b2"))
        assert all_served(machine.rules, machine.state, machine.now)

    def test_who_says_join_again_is_waited_for_again(self) -> None:
        machine = self.finished()
        machine(*(Served(name) for name in DEVICES))
        machine(joined("b2", 2))  # its home was lost
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(Served("b2"))
        assert all_served(machine.rules, machine.state, machine.now)

    def test_served_after_a_whole_deadline_at_the_latest(self) -> None:
        machine = self.finished()
        wake = next_wake(machine.rules, machine.state, machine.now)
        assert wake == machine.now + 100.0
        assert not all_served(machine.rules, machine.state, wake - 1)
        assert all_served(machine.rules, machine.state, wake)
        again = Machine(machine.rules, machine.state)
        again.now = 5000.0
        again(Restarted())
        assert not all_served(again.rules, again.state, 5001.0)
        assert all_served(again.rules, again.state, 5010.0), "nobody has shown himself"

    def test_a_newcomer_gets_the_adapters_of_the_nearest_cluster(self) -> None:
        machine = self.finished()
        machine(Joined("c9", profile()))
        (question,) = [action for action in machine.actions if isinstance(action, Place)]
        assert question.assignment == {"a1": 0, "a2": 0, "b1": 1, "b2": 1}
        machine(Placed("c9", 1))
        assert [message.cluster for message in machine.sent("c9", Finished)] == [1]
        machine(Joined("c9", profile()))
        assert [message.cluster for message in machine.sent("c9", Finished)] == [1]

    def test_nothing_can_be_offered_any_more(self) -> None:
        machine = self.finished()
        machine(Offered("a1", offer("a1", 2, variant=1)), Offered("a1", offer("a1", 3)))
        assert refusals(machine, "a1") == ["StaleUpdate", "StaleUpdate"]

    def test_more_adapters_than_a_message_holds_are_cut_after_the_own(self) -> None:
        clusters = {number: Lineage(manifest(f"{number}", "cluster")) for number in range(300)}
        machine = self.finished()
        machine.state = msgspec.structs.replace(machine.state, clusters=clusters)
        machine(Joined("b1", profile()))
        (message,) = machine.sent("b1", Finished)
        assert isinstance(message, Finished)
        assert decode(encode(message)) == message
        assert message.adapters[1] == clusters[1].start


class TestRestart:
    def restarted(self, machine: Machine) -> Machine:
        return Machine(machine.rules, saved_and_loaded(machine.state))

    def test_the_state_survives_msgpack(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        deliver(machine, 2, "a1")
        assert self.restarted(machine).state == machine.state

    def test_a_round_goes_on_with_a_fresh_deadline(self) -> None:
        machine = started()
        deliver(machine, 1, "a1", "a2", "b1")
        again = self.restarted(machine)
        again.now = 5000.0
        again(Restarted())
        assert again.state.round == 0
        again(Joined("b2", profile()))
        assert [start.deadline for start in again.sent("b2", RoundStart)] == [100.0]
        deliver(again, 1, "b2")
        assert again.sent("a1", RoundDone) == [RoundDone(round=1, accepted=True, updates=4)]

    def test_an_aggregation_that_was_cut_short_is_asked_for_again(self) -> None:
        given = rules(min_devices=1)
        machine = Machine(given)
        machine(Joined("a1", profile()))
        state, actions = step(given, machine.state, stored("a1", 1), 0.0)
        (question,) = [action for action in actions if isinstance(action, Aggregate)]
        state, actions = step(given, state, Restarted(), 0.0)
        assert actions == [question]
        state, _ = step(given, state, Aggregated(1, root=Lineage(manifest("r", "root"))), 0.0)
        assert state.round == 1
        late, actions = step(given, state, Aggregated(1, root=Lineage(manifest("other", "root"))), 0.0)
        assert (late, actions) == (state, [])

    def test_a_clustering_that_was_cut_short_is_asked_for_again(self) -> None:
        given = rules(min_devices=1)
        state, actions = step(given, State(), Joined("a1", profile()), 0.0)
        (question,) = [action for action in actions if isinstance(action, Cluster)]
        assert step(given, state, Restarted(), 0.0)[1] == [question]
