"""The phases of a federation: every move is one of the table, and somebody looks at each when it is due."""

from __future__ import annotations

from typing import get_args

import pytest

from coordinator.rounds import Aggregated, Left, Phase, Spoiled, State, Tick, next_wake, step
from coordinator.rounds.machine.moves import LEGAL, is_legal
from tests.coordinator.federations import Machine, joined, offer, rules


def test_the_table_has_every_phase() -> None:
    phases = set(get_args(Phase))
    assert set(LEGAL) == phases == {phase for after in LEGAL.values() for phase in after}
    assert all(is_legal(phase, phase) for phase in phases)
    assert not is_legal("gathering", "training")


def test_a_move_that_is_not_in_the_table_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.rounds.machine.turn.is_legal", lambda before, after: before == after)
    with pytest.raises(AssertionError, match="clustering"):
        step(rules(min_devices=1), State(), joined("a"), 0.0)


def test_an_answer_that_nobody_asked_for_moves_nothing() -> None:
    for phase in get_args(Phase):
        if phase not in ("training", "aggregating"):
            state, _ = step(rules(), State(phase=phase), Aggregated(1), 0.0)
            assert state.phase == phase


def test_the_round_is_looked_at_when_its_last_member_has_left_even_if_its_update_was_refused() -> None:
    machine = Machine(rules(min_devices=1, rounds=1))
    machine(joined("a"))
    machine(Spoiled("a", offer("a", 1, attempt=1), "AdapterValueError", "NaN", True), Left("a"))
    wake = next_wake(machine.rules, machine.state, machine.now)
    assert machine.state.phase == "training"
    assert wake is not None
    assert wake < machine.rules.deadline
    machine.now = wake
    machine(Tick())
    assert machine.state.phase == "gathering"
