"""Lost blobs in the rounds: the federation goes on with the ones that are left."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from coordinator.rounds import (
    Aggregate,
    Cluster,
    Joined,
    Lineage,
    Lost,
    Report,
    Restarted,
    State,
    Tick,
    next_wake,
    step,
)
from coordinator.store import Database, newly_counted
from edge_sdk.wire.messages import Finished, Refused, RoundDone, RoundStart
from tests.coordinator.federations import (
    BASE_ID,
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


def told(machine: Machine) -> dict[str, dict[str, object]]:
    return {action.event: action.values for action in machine.actions if isinstance(action, Report)}


def lose(machine: Machine, *manifests: str) -> None:
    machine(Lost(frozenset(manifests)))


def in_round(number: int) -> Machine:
    machine = started()
    for past in range(1, number):
        deliver(machine, past, *DEVICES)
    return machine


def start_of(state: State, device: str) -> str:
    cluster = state.devices[device].cluster
    start = state.lineage(cluster).start
    assert start is not None
    return start.sha256


def test_what_nobody_needs_changes_nothing() -> None:
    machine = in_round(2)
    before = machine.state
    lose(machine, "e" * 64)
    assert (machine.state, machine.actions) == (before, [])


def test_an_adapter_that_is_lost_begins_anew_in_a_round_that_is_opened_anew() -> None:
    machine = in_round(3)
    other = machine.state.lineage(machine.state.devices["b1"].cluster)
    lose(machine, start_of(machine.state, "a1"))
    assert told(machine)["adapters_lost"] == {"names": ["cluster-0"], "anew": True}
    assert told(machine)["round_abandoned"]["round"] == 3
    (start,) = machine.sent("a1", RoundStart)
    assert (start.round, start.attempt, start.start) == (3, 4, None)
    assert [manifest.role for manifest in start.frozen] == ["root"]
    assert machine.state.lineage(machine.state.devices["b1"].cluster) == other
    (start,) = machine.sent("b1", RoundStart)
    assert start.start == other.start
    machine(*(stored(name, 3, attempt=4) for name in DEVICES))
    assert machine.state.phase == "finished"


def test_updates_that_were_counted_on_top_of_it_are_counted_once_and_no_more() -> None:
    machine = in_round(2)
    deliver(machine, 2, "a1")
    root = machine.state.root.start
    assert root is not None
    lose(machine, root.sha256)
    assert told(machine)["round_failed"]["code"] == "AdaptersLost"
    assert machine.state.round == 2, "its number is used up: rows with it are in the database"
    assert machine.sent("a1", RoundDone) == [RoundDone(round=2, accepted=False, updates=0)]
    (start,) = machine.sent("a1", RoundStart)
    assert (start.round, start.frozen) == (3, [])


def test_an_update_that_is_lost_does_not_count_and_its_device_is_told() -> None:
    machine = started()
    deliver(machine, 1, "a1", "a2")
    lose(machine, offer("a1", 1).manifest.sha256)
    (refused,) = machine.sent("a1", Refused)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.about) == ("UpdateLost", offer("a1", 1).manifest.sha256)
    machine(stored("a1", 1, 5))
    (again,) = machine.sent("a1", Refused)
    assert isinstance(again, Refused)
    assert again.code == "DuplicateUpdate"
    deliver(machine, 1, "b1", "b2")
    assert machine.state.round == 1, "nobody waits for it"
    assert machine.sent("a1", RoundDone) == [RoundDone(round=1, accepted=False, updates=3)]
    assert told(machine)["round_closed"]["refused"] == {"a1": "UpdateLost"}


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_round_whose_updates_are_all_lost_fails_as_its_number_is_used_up(rounds: int, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'coordinator.sqlite'}", "stickers", BASE_ID)
    machine = started(rounds=rounds)

    def feed(*events: object) -> None:
        before = machine.state
        machine(*events)
        database.save(machine.state, newly_counted(before, machine.state))

    feed(stored("a1", 1))
    feed(Lost(frozenset([offer("a1", 1).manifest.sha256])))
    failed: list[dict[str, object]] = []
    while machine.state.round == 0:
        machine.now = next_wake(machine.rules, machine.state, machine.now) or machine.now
        feed(Tick())
        failed += [told(machine)["round_failed"]] if "round_failed" in told(machine) else []
    assert [failure["code"] for failure in failed] == ["UpdateLost"]
    if rounds == 1:
        assert machine.state.phase == "finished"
    else:
        feed(*(joined(name) for name in DEVICES))
        feed(*(stored(name, 2) for name in DEVICES))
        assert machine.state.round == 2
    database.close()


def test_evidence_and_memory_that_are_lost_are_forgotten() -> None:
    machine = in_round(2)
    trace = machine.state.devices["a1"].trace
    assert trace is not None
    state = replace(machine.state, root=replace(machine.state.root, moments="d" * 64))
    machine = Machine(machine.rules, state)
    lose(machine, trace.update, "d" * 64)
    assert machine.state.devices["a1"].trace is None
    assert machine.state.devices["a2"].trace is not None
    assert machine.state.root == replace(state.root, moments=None)
    assert machine.state.current == state.current
    assert told(machine) == {}


def test_what_could_come_late_to_it_cannot_any_more() -> None:
    machine = started(late=2, rounds=5)
    for number in (1, 2):
        deliver(machine, number, *DEVICES)
    deliver(machine, 3, *DEVICES[:3])
    machine.now = 1000.0
    machine(Restarted())
    state = machine.state
    assert state.past or state.current is not None
    lose(machine, *state.blobs())
    assert not machine.state.blobs()


def test_all_is_lost_and_the_rounds_come_to_their_end() -> None:
    machine = in_round(3)
    lose(machine, *machine.state.blobs())
    assert told(machine)["adapters_lost"]["names"] == ["root", "cluster-0", "cluster-1"]
    assert (machine.state.root, set(machine.state.clusters.values())) == (Lineage(), {Lineage()})
    machine(*(stored(name, 3, attempt=4) for name in DEVICES))
    assert machine.state.phase == "finished"


def test_while_something_is_computed_it_is_asked_again() -> None:
    before = in_round(3).state
    clustering = replace(before, phase="clustering", current=None)
    lost = start_of(before, "a1")
    state, actions = step(rules(min_devices=4), clustering, Lost(frozenset([lost])), 0.0)
    (asked,) = [action for action in actions if isinstance(action, Cluster)]
    assert asked.clusters == state.clusters
    assert lost not in state.blobs()
    aggregating = replace(before, phase="aggregating")
    state, actions = step(rules(min_devices=4), aggregating, Lost(frozenset([lost])), 0.0)
    assert state.phase == "aggregating", "its answer says that nothing can be made of it"
    assert not [action for action in actions if isinstance(action, Aggregate)]


def test_a_loss_that_concerns_nobody_any_more_is_answered_by_the_same_question() -> None:
    clustering = replace(in_round(3).state, phase="clustering", current=None)
    _, actions = step(rules(min_devices=4), clustering, Lost(frozenset(["e" * 64])), 0.0)
    assert [action for action in actions if isinstance(action, Cluster)], "a thread has answered it, and no other will"


def test_after_the_end_all_stays_for_it_may_be_restored() -> None:
    machine = in_round(3)
    deliver(machine, 3, *DEVICES)
    before = machine.state
    lose(machine, *before.blobs())
    assert machine.state == before
    assert told(machine)["adapters_lost"]["anew"] is False
    machine(Joined("a1", profile()))
    assert machine.sent("a1", Finished)
