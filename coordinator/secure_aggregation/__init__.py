"""The coordinator's half of masked sums: a pure state machine (`machine`), and the unmasking that it calls for."""

from __future__ import annotations

from coordinator.secure_aggregation.machine import (
    Abandon,
    Action,
    Discard,
    Event,
    Failed,
    Heard,
    Phase,
    Refuse,
    Restarted,
    Send,
    State,
    Summed,
    TimeUp,
    Unmask,
    Uploaded,
    begin,
    record_of,
    restored,
    step,
)
from coordinator.secure_aggregation.unmasking import Leftover, Task, leftover, unmask

__all__ = [
    "Abandon",
    "Action",
    "Discard",
    "Event",
    "Failed",
    "Heard",
    "Leftover",
    "Phase",
    "Refuse",
    "Restarted",
    "Send",
    "State",
    "Summed",
    "Task",
    "TimeUp",
    "Unmask",
    "Uploaded",
    "begin",
    "leftover",
    "record_of",
    "restored",
    "step",
    "unmask",
]
