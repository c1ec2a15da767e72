"""The state of a federation that the coordinator saves."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from coordinator.rounds.state.alone import Alone
from coordinator.rounds.state.census import Census, Kind
from coordinator.rounds.state.device import Device
from coordinator.rounds.state.lineage import Lineage
from coordinator.rounds.state.round import Past, Round
from coordinator.rounds.state.table import Table, tabulate

Phase: TypeAlias = Literal["gathering", "clustering", "training", "aggregating", "finished"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The whole saved state of a federation. `records` has the form in which it is saved.

    Attributes:
        phase: phase of the machine.
        round: number of the last closed round; 0 before the first.
        attempt: number of openings so far. An abandoned round is opened again with the same number, perhaps other
            clusters, and the next attempt.
        devices: all devices that have joined, by name; any mapping becomes a `Table`.
        current: the open round; None if there is none.
        past: the last closed rounds, as long as late updates of them may count.
        root: the root.
        clusters: the clusters, by number.
        next_cluster: the first cluster number never used.
        margin: margin of the clusters when they were found; None if it is not known.
        pace: pace of the last round that had one; None if it is not known.
        alone: clusters that devices choose alone.
        resting: time until which no round is opened, as a masked one has just failed for want of devices; None if one
            may be.
        ends: time until which devices may fetch their adapters after the last round.
        census: the devices, counted; not saved. It is made anew for other devices or another round than it was made of.
    """

    phase: Phase = "gathering"
    round: int = 0
    attempt: int = 0
    devices: Mapping[str, Device] = {}
    current: Round | None = None
    past: dict[int, Past] = {}
    root: Lineage = Lineage()
    clusters: dict[int, Lineage] = {}
    next_cluster: int = 0
    margin: float | None = None
    pace: float | None = None
    ends: float | None = None
    alone: Alone = Alone()
    resting: float | None = None
    census: Census | None = None

    def __post_init__(self) -> None:
        devices = tabulate(self, "devices", self.devices)
        if self.census is None or not self.census.is_of(devices, self.current):
            force_setattr(self, "census", Census(devices, self.current))

    @property
    def table(self) -> Table[Device]:
        """The devices, as a table."""
        assert isinstance(self.devices, Table), "any mapping becomes one"
        return self.devices

    def at(self, now: float) -> Census:
        """Return the devices, counted at that time."""
        assert self.census is not None, "it was made with the state"
        return self.census.by(now)

    def kinds(self, now: float) -> ItemsView[Kind, int]:
        """Return the kinds of devices at that time, each with the number of its devices."""
        return self.at(now).kinds.items()

    def lineage(self, cluster: int | None) -> Lineage:
        """Return the lineage of a cluster, or the root for None."""
        return self.root if cluster is None else self.clusters[cluster]

    def blobs(self) -> set[str]:
        """Return the hashes of all blobs that may still be needed."""
        needed = {sha256 for lineage in (self.root, *self.clusters.values()) for sha256 in lineage.blobs()}
        members = [member for past in self.past.values() for member in past.absent.values()]
        for device in self.devices.values():
            if device.trace:
                needed |= {device.trace.update} - {""}
                members.append(device.trace.member)
        if self.current:
            needed |= {update.manifest.sha256 for update in self.current.updates.values()}
            needed |= {sha256 for masked in self.current.sums.values() for sha256 in masked.uploads.values()}
            members += self.current.cohort.values()
            members += (update.member for update in self.current.updates.values())
        return needed | {member.start.sha256 for member in members if member.start}
