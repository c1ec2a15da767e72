"""The coordinator's half of masked sums: a pure state machine (`machine`) over its `state`, the saved form of that
(`records`), and the unmasking that it calls for.
"""

from __future__ import annotations

from coordinator.secure_aggregation.machine import (
    Abandon,
    Action,
    Discard,
    Event,
    Failed,
    Heard,
    Refuse,
    Restarted,
    Send,
    Summed,
    TimeUp,
    Unmask,
    Uploaded,
    step,
)
from coordinator.secure_aggregation.records import Head, Part, head_of, parts_of, restored, touched
from coordinator.secure_aggregation.state import Phase, State, begin
from coordinator.secure_aggregation.unmasking import Leftover, Task, leftover, unmask

__all__ = [
    "Abandon",
    "Action",
    "Discard",
    "Event",
    "Failed",
    "Head",
    "Heard",
    "Leftover",
    "Part",
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
    "head_of",
    "leftover",
    "parts_of",
    "restored",
    "step",
    "touched",
    "unmask",
]
