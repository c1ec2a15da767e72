"""Interruptions: a restart of the coordinator, and a lost connection to the broker."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.rounds.decisions import is_as_opened
from coordinator.rounds.machine import masks
from coordinator.rounds.machine.events import (
    Reconnected,
)
from coordinator.rounds.machine.phases import aggregating, clustering, training
from coordinator.rounds.machine.turn import Turn


def restarted(turn: Turn) -> None:
    """Start all clocks anew, and ask again for the answer that was being computed.

    Present devices will be heard: they send Join when they see the coordinator, and the broker has retained
    presence.
    """
    until = turn.now + turn.rules.grace
    devices = {
        name: replace(device, until=turn.now if device.left else until) for name, device in turn.state.devices.items()
    }
    turn.set(devices=devices)
    deadline = turn.now + turn.rules.deadline
    if current := turn.state.current:
        at_once = current.question or (current.counted and current.counted.has_slots)
        until = turn.now + (turn.rules.patience if at_once else turn.rules.deadline)
        turn.set(current=replace(current, opened=turn.now, deadline=until, probation=until))
    turn.set(resting=None)
    if turn.state.phase == "training" and turn.open_round().masking is not None:
        if is_as_opened(turn.rules, turn.state):
            masks.restarted(turn)
        else:
            training.abandon(turn, "the federation file was changed while its updates were being summed")
    if turn.state.phase == "finished":
        turn.set(ends=deadline)
    if turn.state.phase == "clustering":
        clustering.ask(turn)
    elif turn.state.phase == "aggregating":
        aggregating.ask(turn)


def reconnected(turn: Turn, event: Reconnected) -> None:
    """Give devices without presence since the reconnection `grace` seconds.

    A device that is alive shows presence again as soon as the broker is back, or the broker has retained it. The
    others may have died while nobody could report it.
    """
    until = turn.now + turn.rules.grace
    devices = {
        name: replace(device, until=until) if device.until is None and name not in event.shown else device
        for name, device in turn.state.devices.items()
    }
    turn.set(devices=devices)
