"""The machine: `step` takes an event, its input, and returns the next state and actions, its output."""

from __future__ import annotations

from coordinator.secure_aggregation.machine.actions import Abandon, Action, Discard, Refuse, Send, Unmask
from coordinator.secure_aggregation.machine.events import (
    Event,
    Failed,
    Heard,
    Restarted,
    Summed,
    TimeUp,
    Uploaded,
)
from coordinator.secure_aggregation.machine.step import step

__all__ = [
    "Abandon",
    "Action",
    "Discard",
    "Event",
    "Failed",
    "Heard",
    "Refuse",
    "Restarted",
    "Send",
    "Summed",
    "TimeUp",
    "Unmask",
    "Uploaded",
    "step",
]
