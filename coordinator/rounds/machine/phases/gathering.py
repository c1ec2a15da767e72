"""Phase `gathering`: devices come until there are enough to begin."""

from __future__ import annotations

from coordinator.rounds.decisions import (
    enough_to_begin,
    present,
)
from coordinator.rounds.machine.phases import clustering
from coordinator.rounds.machine.turn import Turn


def settle(turn: Turn) -> None:
    """Ask for clusters as soon as enough devices are present."""
    if turn.state.resting is not None:
        if turn.now < turn.state.resting:
            return
        turn.set(resting=None)
    if present(turn.state, turn.now) >= enough_to_begin(turn.rules, turn.state):
        turn.set(phase="clustering")
        clustering.ask(turn)
