"""A device's half of a masked sum: `step` takes an event, its input, and returns the next state and actions."""

from __future__ import annotations

from edge_sdk.secure_aggregation.device.actions import Action, HandIn, Refuse, Say
from edge_sdk.secure_aggregation.device.events import Begin, Event, Restarted, Vector
from edge_sdk.secure_aggregation.device.state import Phase, Rules, State, record_of, restored
from edge_sdk.secure_aggregation.device.step import step

__all__ = [
    "Action",
    "Begin",
    "Event",
    "HandIn",
    "Phase",
    "Refuse",
    "Restarted",
    "Rules",
    "Say",
    "State",
    "Vector",
    "record_of",
    "restored",
    "step",
]
