"""A turn: one step of the machine in progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from coordinator.rounds.machine.actions import Action, Report, Send
from coordinator.rounds.machine.challenges import Challenge
from coordinator.rounds.machine.moves import is_legal
from coordinator.rounds.state import Device, Round, Rules, State, Table
from edge_sdk.wire import (
    Message,
    Refused,
)


class Turn:
    """One step in progress. Every move between phases is asserted here.

    Args:
        rules: the rules of the rounds.
        state: the state before the step.
        now: the time of the step.

    Attributes:
        state: the state so far.
        actions: the actions so far.
    """

    def __init__(self, rules: Rules, state: State, now: float) -> None:
        self.rules = rules
        self.state = _at(state, now)
        self.now = now
        self.actions: list[Action] = []

    def open_round(self) -> Round:
        """Return the open round; there must be one."""
        assert self.state.current is not None, f"no round is open in phase {self.state.phase}"
        return self.state.current

    def set(self, **changes: Any) -> None:
        """Change the state. New devices, or another open round, are counted anew: for changes of many devices."""
        assert is_legal(self.state.phase, phase := changes.get("phase", self.state.phase)), f"moves to {phase}"
        self.state = _at(replace(self.state, **changes), self.now)

    def change(self, names: Iterable[str], **changes: Any) -> None:
        """Change the devices, or their parts in the open round, of these names only."""
        state = self.state
        devices, current = changes.get("devices", state.devices), changes.get("current", state.current)
        assert isinstance(devices, Table)
        self.state = replace(state, census=state.at(self.now).after(devices, current, names), **changes)

    def put_device(self, name: str, device: Device) -> None:
        """Add or replace a device."""
        if self.state.devices.get(name) != device:  # an unchanged device need not be saved
            self.change([name], devices=self.state.table.put(name, device))

    def send(self, name: str, message: Message) -> None:
        """Send a message to a device."""
        self.actions.append(Send(name, message))

    def refuse(self, name: str, code: str, reason: str, *, about: str) -> None:
        """Refuse a device's message by name."""
        self.send(name, Refused(code=code, reason=reason, about=about))
        self.report("refused", device=name, code=code, reason=reason)

    def challenge(self, name: str, said: Challenge) -> None:
        """Tell a device that it is taken for gone; if somebody else caused that, the device contradicts."""
        self.send(name, Refused(code=said.code, reason=said.reason, about=said.about))

    def report(self, event: str, **values: Any) -> None:
        """Report an event to people and programs."""
        self.actions.append(Report(event, values))


def _at(state: State, now: float) -> State:
    """Return the state with its devices counted at that time."""
    census = state.at(now)
    return state if census is state.census else replace(state, census=census)
