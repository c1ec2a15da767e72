"""What is to be done: the answers of the round machine."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from coordinator.rounds.state import Device, Lineage, Round
from edge_sdk.wire import Message, Offer


class Send(msgspec.Struct, frozen=True):
    device: str
    message: Message


class Fetch(msgspec.Struct, frozen=True):
    """Pull and check the offered update, then say Stored or Spoiled."""

    device: str
    offer: Offer


class Cluster(msgspec.Struct, frozen=True):
    """Group these devices, then say Clustered or Failed. `round` is the round that will use it; `clusters`: those there
    are, with what they have learnt; `margin`: what the last Clustered said."""

    round: int
    devices: dict[str, Device]
    next_cluster: int
    margin: float | None = None
    clusters: dict[int, Lineage] = {}


class Place(msgspec.Struct, frozen=True):
    """Find the nearest cluster for a device, then say Placed."""

    device: str
    assignment: dict[str, int]


class Aggregate(msgspec.Struct, frozen=True):
    """Aggregate the updates of a closed round, then say Aggregated or Failed.

    `last`: nobody goes on training what comes out, so it shall be one whole adapter with nothing folded away.
    """

    round: Round
    last: bool
    root: Lineage
    clusters: dict[int, Lineage]


class Report(msgspec.Struct, frozen=True):
    """Something worth telling people: a name and plain values."""

    event: str
    values: dict[str, Any]


Action: TypeAlias = Send | Fetch | Cluster | Place | Aggregate | Report
