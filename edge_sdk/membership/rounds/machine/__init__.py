"""The machine: `step` takes an event, its input, and returns the next state and actions, its output."""

from __future__ import annotations

from edge_sdk.membership.rounds.machine.step import next_wake, step

__all__ = ["next_wake", "step"]
