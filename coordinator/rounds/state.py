"""What the coordinator must not forget of a federation, and the rules that it goes by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from edge_sdk.adapter import Share
from edge_sdk.wire import Manifest, Stage

Phase = Literal["gathering", "clustering", "training", "aggregating", "finished"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the federation file decides about rounds; see `config.Federation` for the meaning and the units.

    code_dimensions: numbers in a prompt code; None: the base model does not say. shares: what devices train and send in
    a stage's first, second, … round; the last one holds for all that follow.
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
    code_dimensions: int | None = None
    late: int = 0
    keep_rest: bool = False
    shares: tuple[Share, ...] = (Share.BOTH,)


class Lineage(msgspec.Struct, frozen=True):
    """What the root or a cluster has learnt so far.

    start: the adapter that devices go on from, None: from a fresh initialisation; folded: what a method has laid under
    it while it is trained; moments: the hash of what a server optimiser remembers.
    """

    start: Manifest | None = None
    folded: Manifest | None = None
    moments: str | None = None

    @property
    def adapters(self) -> list[Manifest]:
        """What a device needs of it."""
        return [manifest for manifest in (self.start, self.folded) if manifest]

    def blobs(self) -> Iterator[str]:
        """The hashes of all blobs that it consists of."""
        yield from (manifest.sha256 for manifest in self.adapters)
        if self.moments:
            yield self.moments


class Member(msgspec.Struct, frozen=True):
    """A device's part in a round: the cluster that it works for (None: the root), its rank, where it starts (None: the
    common initialisation of `seed`), what it trains and sends."""

    cluster: int | None
    rank: int
    start: Manifest | None
    seed: int
    share: Share


class Trace(msgspec.Struct, frozen=True):
    """Where a device's last counted update lies, and how it was trained: evidence for clustering."""

    update: str
    member: Member


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that has joined.

    epoch: of its last birth, None if it has never shown presence; former: of the birth before; outlived: up to which
    all other sessions are over, see `sessions`; until: from when on nobody waits for it, None while its presence says
    that it is there; away: its presence says that it is gone, and nothing was heard since; left: said goodbye, or was
    shut out; placed: it came after the last clustering and has its cluster by its prompt code alone; served: it has all
    adapters that it takes home.
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
        """Whether it has ever shown presence."""
        return self.epoch is not None

    @property
    def proven(self) -> bool:
        """Whether an update of it has ever counted."""
        return self.trace is not None

    def is_near(self, now: float) -> bool:
        """Whether it is there, or was heard a moment ago."""
        return self.until is None or now < self.until

    def is_present(self, now: float) -> bool:
        """The same, and it takes part."""
        return not self.left and self.is_near(now)


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """An update that counts. `pictures` is its weight; `member`: how it was trained; `late`: how many rounds ago;
    `norm`: of what training changed."""

    manifest: Manifest
    member: Member
    pictures: int
    first_loss: float
    last_loss: float
    train_seconds: float
    norm: float
    late: int = 0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """The round that is open.

    attempt: which opening this is, of all rounds; opened: when it was; probation: until when it waits for devices of
    which no update has ever counted; pace: seconds until the last update that counts; refused: devices whose update was
    refused for what it holds, and the name of the reason; nobody waits for them.
    """

    number: int
    attempt: int
    stage: Stage
    deadline: float
    opened: float = 0.0
    probation: float = math.inf
    pace: float | None = None
    extended: int = 0
    cohort: dict[str, Member]
    updates: dict[str, Update] = {}
    refused: dict[str, str] = {}

    @property
    def absent(self) -> dict[str, Member]:
        """Who has delivered nothing, neither good nor bad."""
        return {n: member for n, member in self.cohort.items() if n not in self.updates and n not in self.refused}


class Past(msgspec.Struct, frozen=True):
    """Of a closed round: which opening it was, and the devices that did not deliver."""

    attempt: int
    absent: dict[str, Member]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the coordinator must not forget. `round` is the last round that was closed.

    attempt: openings of rounds so far; one that is abandoned is opened anew, with the same number, perhaps other
    clusters, and the next attempt; past: the last rounds, as long as updates may still come late to them;
    next_cluster: the next identity to give out; margin: how well the clusters fitted when they were found, None if not
    known; pace: seconds from the opening of the last round to its last update; ends: until when devices may fetch what
    they take home, once the last round is closed.
    """

    phase: Phase = "gathering"
    round: int = 0
    attempt: int = 0
    devices: dict[str, Device] = {}
    current: Round | None = None
    past: dict[int, Past] = {}
    root: Lineage = Lineage()
    clusters: dict[int, Lineage] = {}
    next_cluster: int = 0
    margin: float | None = None
    pace: float | None = None
    ends: float | None = None

    def lineage(self, cluster: int | None) -> Lineage:
        """The cluster's, the root's for None."""
        return self.root if cluster is None else self.clusters[cluster]

    def blobs(self) -> set[str]:
        """The hashes of all blobs that may still be needed."""
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
