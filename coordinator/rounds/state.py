"""The state of a federation that the coordinator saves, and the rules of its rounds."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator, Mapping
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import force_setattr

from coordinator.rounds.crowd import Crowd, Kind
from coordinator.rounds.table import Table
from edge_sdk.adapter import LayerSet, Share
from edge_sdk.wire import Manifest, Stage

V = TypeVar("V")
Phase = Literal["gathering", "clustering", "training", "aggregating", "finished"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the federation file about rounds; see `config.Federation` for meanings and units.

    Attributes:
        base_id: id of the base model.
        min_rank: smallest rank that a device may have.
        max_update: largest size of an update, in bytes.
        privacy: privacy level of prompt codes.
        basis: id of the public basis that they are made with; empty if the level needs none.
        code_size: bytes of a prompt code; None: the base model does not state it.
        keep_rest: true if devices train on top of the adapter's part beyond their rank.
        shares: factors that devices train and send in a stage's first, second, … round; the last one holds for all that
            follow.
    """

    base_id: str
    min_devices: int
    rounds: int
    root_rounds: int
    quorum: float
    deadline: float
    grace: float
    extensions: int
    rank: int
    min_rank: int
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    max_update: int
    privacy: str
    basis: bytes = b""
    code_size: int | None = None
    late: int = 0
    layers: LayerSet = "attention"
    keep_rest: bool = False
    shares: tuple[Share, ...] = (Share.BOTH,)


class Lineage(msgspec.Struct, frozen=True):
    """Learning result of the root or of a cluster so far.

    Attributes:
        start: the adapter that devices start from; None: a fresh initialisation.
        folded: the adapter that a method has folded under it; None: nothing.
        moments: hash of the server optimiser's moments; None: none.
    """

    start: Manifest | None = None
    folded: Manifest | None = None
    moments: str | None = None

    @property
    def adapters(self) -> list[Manifest]:
        """The adapters that a device needs."""
        return [manifest for manifest in (self.start, self.folded) if manifest]

    def blobs(self) -> Iterator[str]:
        """Yield the hashes of all its blobs."""
        yield from (manifest.sha256 for manifest in self.adapters)
        if self.moments:
            yield self.moments


class Member(msgspec.Struct, frozen=True):
    """A device's role in a round.

    Attributes:
        cluster: the cluster that it trains; None: the root.
        rank: rank of its adapter.
        start: the adapter that it starts from; None: the initialisation from `seed`.
        seed: seed of the common initialisation.
        share: factors that it trains and sends.
    """

    cluster: int | None
    rank: int
    start: Manifest | None
    seed: int
    share: Share


class Trace(msgspec.Struct, frozen=True):
    """A device's last counted update, as evidence for clustering.

    Attributes:
        update: hash of the update.
        member: the role that it was trained in.
    """

    update: str
    member: Member


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that has joined.

    Attributes:
        max_rank: largest rank that it trains.
        epoch: epoch of its last birth; None if it has never shown presence.
        former: epoch of the birth before.
        outlived: all other sessions up to this epoch are over, see `sessions`.
        until: time from which on nobody waits for it; None while its presence is online.
        away: true if its presence is offline and nothing was heard since.
        left: true if it has left or was shut out.
        cluster: its cluster; None if it has none yet.
        placed: true if it came after the last clustering and has its cluster by its prompt code alone.
        trace: its last counted update; None if there is none.
        served: true if it has stored all adapters that it is to keep.
    """

    max_rank: int
    epoch: int | None = None
    former: int | None = None
    outlived: int = 0
    until: float | None = None
    away: bool = False
    left: bool = False
    cluster: int | None = None
    placed: bool = False
    trace: Trace | None = None
    served: bool = False

    @property
    def seen(self) -> bool:
        """True if it has ever shown presence."""
        return self.epoch is not None

    @property
    def proven(self) -> bool:
        """True if one of its updates has ever counted."""
        return self.trace is not None

    def is_near(self, now: float) -> bool:
        """Return True if it is online, or was heard a moment ago."""
        return self.until is None or now < self.until

    def is_present(self, now: float) -> bool:
        """Return True if it is near, and takes part."""
        return not self.left and self.is_near(now)


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A counted update.

    Attributes:
        manifest: manifest of its content.
        member: the role that it was trained in.
        pictures: number of pictures, its weight.
        first_loss, last_loss: training losses at the beginning and the end.
        train_seconds: duration of the training.
        norm: Frobenius norm of the change by training.
        late: number of rounds between its own and the one that it counts in.
    """

    manifest: Manifest
    member: Member
    pictures: int
    first_loss: float
    last_loss: float
    train_seconds: float
    norm: float
    late: int = 0


class RoundHead(msgspec.Struct, frozen=True, kw_only=True):
    """The open round without its devices.

    Attributes:
        number: number of the round, from 1.
        attempt: number of this opening, counted over all rounds.
        stage: "root" or "cluster".
        deadline: time from which on it closes with its quorum, or is extended.
        opened: time of opening.
        probation: time until which it waits for devices without a counted update.
        pace: seconds from the opening to the last counted update that shows it, see `patience.sets_pace`; None if there
            is none.
        extended: number of extensions so far.
    """

    number: int
    attempt: int
    stage: Stage
    deadline: float
    opened: float = 0.0
    probation: float = math.inf
    pace: float | None = None
    extended: int = 0


class Round(RoundHead, frozen=True, kw_only=True):
    """The open round.

    Attributes:
        cohort: its members; the same object as long as nobody comes or goes.
        updates: counted updates, by device; any mapping becomes a `Table`.
        refused: devices whose update was refused for its content, with the name of the reason; nobody waits for them.
    """

    cohort: dict[str, Member]
    updates: Mapping[str, Update] = {}
    refused: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        _tabulate(self, "updates", self.updates)
        _tabulate(self, "refused", self.refused)

    def is_absent(self, name: str) -> bool:
        """Return True for a member that has delivered neither a good nor a refused update."""
        return name in self.cohort and name not in self.updates and name not in self.refused

    @property
    def absent(self) -> dict[str, Member]:
        """Members that have delivered neither a good nor a refused update."""
        return {n: member for n, member in self.cohort.items() if n not in self.updates and n not in self.refused}


class Past(msgspec.Struct, frozen=True):
    """A closed round.

    Attributes:
        attempt: number of its last opening.
        absent: members that did not deliver; any mapping becomes a `Table`.
    """

    attempt: int
    absent: Mapping[str, Member]

    def __post_init__(self) -> None:
        _tabulate(self, "absent", self.absent)


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
        ends: time until which devices may fetch their adapters after the last round.
        crowd: the devices, counted; not saved. It is made anew for other devices or another round than it was made of.
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
    crowd: Crowd | None = None

    def __post_init__(self) -> None:
        devices = _tabulate(self, "devices", self.devices)
        if self.crowd is None or not self.crowd.is_of(devices, self.current):
            force_setattr(self, "crowd", Crowd(devices, self.current))

    @property
    def table(self) -> Table[Device]:
        """The devices, as a table."""
        assert isinstance(self.devices, Table), "any mapping becomes one"
        return self.devices

    def at(self, now: float) -> Crowd:
        """Return the devices, counted at that time."""
        assert self.crowd is not None, "it was made with the state"
        return self.crowd.by(now)

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
                needed.add(device.trace.update)
                members.append(device.trace.member)
        if self.current:
            needed |= {update.manifest.sha256 for update in self.current.updates.values()}
            members += self.current.cohort.values()
            members += (update.member for update in self.current.updates.values())
        return needed | {member.start.sha256 for member in members if member.start}


def _tabulate(of: msgspec.Struct, name: str, entries: Mapping[str, V]) -> Table[V]:
    """Make an attribute of a new struct a table."""
    if isinstance(entries, Table):
        return entries
    made = Table(entries)
    force_setattr(of, name, made)
    return made
