"""Actions: the output of the round machine."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from coordinator.rounds.state import Device, Lineage, Round
from edge_sdk.wire import Message, Offer


class Send(msgspec.Struct, frozen=True):
    """Send a message to a device."""

    device: str
    message: Message


class Fetch(msgspec.Struct, frozen=True):
    """Pull and check the offered update, then feed Stored or Spoiled."""

    device: str
    offer: Offer


class Cluster(msgspec.Struct, frozen=True):
    """Cluster these devices, then feed Clustered or Failed.

    Attributes:
        round: number of the round that will use the clusters.
        devices: the devices, by name.
        next_cluster: the first cluster number never used.
        margin: margin of the last Clustered; None if there is none.
        clusters: the present clusters, with their adapters.
        clustering: where devices choose their clusters alone, the number of the clustering to be begun, to be answered
            by Inquired; 0 elsewhere.
        epoch: the coordinator's start in which it is begun.
    """

    round: int
    devices: dict[str, Device]
    next_cluster: int
    margin: float | None = None
    clusters: dict[int, Lineage] = {}
    clustering: int = 0
    epoch: int = 0


class Place(msgspec.Struct, frozen=True):
    """Find the nearest cluster for a device, then feed Placed.

    Attributes:
        device: name of the device.
        assignment: the cluster of every other device.
    """

    device: str
    assignment: dict[str, int]


class Aggregate(msgspec.Struct, frozen=True):
    """Aggregate the updates of a closed round, then feed Aggregated or Failed.

    The sum of answers to a question is followed by Inquired or Grouped, that of counted devices by Numbered.

    Attributes:
        round: the closed round.
        last: true if nobody trains the result further, so that it is to be one whole adapter with nothing folded.
        root: the root before the round.
        clusters: the clusters before the round.
        asking: the state of the clustering that the question is of; empty for a round.
    """

    round: Round
    last: bool
    root: Lineage
    clusters: dict[int, Lineage]
    asking: bytes = b""


class Erased(msgspec.Struct, frozen=True):
    """Delete what is kept of a device outside of the state, then confirm it to the device.

    Attributes:
        device: name of the device.
        key: its public key.
    """

    device: str
    key: bytes


class Report(msgspec.Struct, frozen=True):
    """Report an event to people and programs: a name and plain values."""

    event: str
    values: dict[str, Any]


Action: TypeAlias = Send | Fetch | Cluster | Place | Aggregate | Erased | Report
