"""The rounds of a federation: a pure state machine `step`, its state, its events (input) and its actions (output)."""

from __future__ import annotations

from coordinator.rounds.actions import Action, Aggregate, Cluster, Fetch, Place, Report, Send
from coordinator.rounds.events import (
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
    Seen,
    Served,
    Spoiled,
    Stored,
    Tick,
)
from coordinator.rounds.greetings import has_all
from coordinator.rounds.losses import ADAPTERS_LOST, UPDATE_LOST
from coordinator.rounds.machine import step
from coordinator.rounds.offers import member_for, wants
from coordinator.rounds.outliers import OUTLIER, UPDATE_OUTLIER, outliers
from coordinator.rounds.patience import all_served, next_wake
from coordinator.rounds.places import replaceable
from coordinator.rounds.records import FORMAT, Head, Record, from_first_form, head_of, record_of, restored, touched
from coordinator.rounds.sessions import is_death
from coordinator.rounds.state import Device, Lineage, Member, Past, Phase, Round, Rules, State, Trace, Update
from coordinator.rounds.table import Table
from coordinator.rounds.waiting import Awaited, awaited

__all__ = [
    "ADAPTERS_LOST",
    "FORMAT",
    "OUTLIER",
    "UPDATE_LOST",
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
    "Forgotten",
    "Greeted",
    "Head",
    "Heard",
    "Joined",
    "Left",
    "Lineage",
    "Lost",
    "Member",
    "Offered",
    "Past",
    "Phase",
    "Place",
    "Placed",
    "Reconnected",
    "Record",
    "Report",
    "Restarted",
    "Round",
    "Rules",
    "Seen",
    "Send",
    "Served",
    "Spoiled",
    "State",
    "Stored",
    "Table",
    "Tick",
    "Trace",
    "Update",
    "all_served",
    "awaited",
    "from_first_form",
    "has_all",
    "head_of",
    "is_death",
    "member_for",
    "next_wake",
    "outliers",
    "record_of",
    "replaceable",
    "restored",
    "step",
    "touched",
    "wants",
]
