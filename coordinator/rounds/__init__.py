"""The rounds of a federation: a pure state machine, `step`, its state, what may happen and what is to be done."""

from __future__ import annotations

from coordinator.rounds.actions import Action, Aggregate, Cluster, Fetch, Place, Report, Send
from coordinator.rounds.events import (
    Aggregated,
    Clustered,
    Event,
    Failed,
    Joined,
    Left,
    Offered,
    Placed,
    Restarted,
    Seen,
    Spoiled,
    Stored,
    Tick,
)
from coordinator.rounds.machine import all_served, next_wake, step
from coordinator.rounds.offers import member_for, wants
from coordinator.rounds.outliers import OUTLIER, UPDATE_OUTLIER, outliers
from coordinator.rounds.state import Device, Lineage, Member, Past, Phase, Round, Rules, State, Trace, Update
from coordinator.rounds.waiting import Awaited, awaited

__all__ = [
    "OUTLIER",
    "UPDATE_OUTLIER",
    "Action",
    "Aggregate",
    "Aggregated",
    "Awaited",
    "Cluster",
    "Clustered",
    "Device",
    "Event",
    "Failed",
    "Fetch",
    "Joined",
    "Left",
    "Lineage",
    "Member",
    "Offered",
    "Past",
    "Phase",
    "Place",
    "Placed",
    "Report",
    "Restarted",
    "Round",
    "Rules",
    "Seen",
    "Send",
    "Spoiled",
    "State",
    "Stored",
    "Tick",
    "Trace",
    "Update",
    "all_served",
    "awaited",
    "member_for",
    "next_wake",
    "outliers",
    "step",
    "wants",
]
