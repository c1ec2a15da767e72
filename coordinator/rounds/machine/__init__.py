"""The machine: `step` takes an event, its input, and returns the next state and actions, its output."""

from __future__ import annotations

from coordinator.rounds.machine.actions import Action, Aggregate, Cluster, Fetch, Place, Report, Send
from coordinator.rounds.machine.events import (
    Aggregated,
    Clustered,
    Event,
    Failed,
    Forgotten,
    Greeted,
    Heard,
    Joined,
    Left,
    Lost,
    Offered,
    Placed,
    Reconnected,
    Restarted,
    Said,
    Seen,
    Served,
    Spoiled,
    Stored,
    Tick,
)
from coordinator.rounds.machine.step import step

__all__ = [
    "Action",
    "Aggregate",
    "Aggregated",
    "Cluster",
    "Clustered",
    "Event",
    "Failed",
    "Fetch",
    "Forgotten",
    "Greeted",
    "Heard",
    "Joined",
    "Left",
    "Lost",
    "Offered",
    "Place",
    "Placed",
    "Reconnected",
    "Report",
    "Restarted",
    "Said",
    "Seen",
    "Send",
    "Served",
    "Spoiled",
    "Stored",
    "Tick",
    "step",
]
