"""A device that has joined, its role in a round, and its update."""

from __future__ import annotations

import msgspec

from edge_sdk.adapter import Share
from edge_sdk.wire import Manifest, TrainingStats


class Member(msgspec.Struct, frozen=True):
    """A device's role in a round.

    Attributes:
        cluster: the cluster that it trains; None: the root.
        rank: rank of its adapter.
        start: the adapter that it starts from; None: the initialisation from `seed`.
        seed: seed of the common initialisation.
        share: factors that it trains and sends.
        sum: number of the masked sum that it takes part in; None if it sends its update by itself.
    """

    cluster: int | None
    rank: int
    start: Manifest | None
    seed: int
    share: Share
    sum: int | None = None


class Trace(msgspec.Struct, frozen=True):
    """A device's last counted update, as evidence for clustering.

    Attributes:
        update: hash of the update; empty if it was summed under masks, so that nobody has seen it.
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
        outlived: all other sessions up to this epoch are over, see `decisions.sessions`.
        until: time from which on nobody waits for it; None while its presence is online.
        away: true if its presence is offline and nothing was heard since.
        left: true if it has left or was shut out.
        cluster: its cluster; None if it has none yet.
        placed: true if it came after the last clustering and has its cluster by its prompt code alone.
        trace: its last counted update; None if there is none.
        served: true if it has stored all adapters that it is to keep.
        erased: true if its owner asked that nothing of it is kept, and only its name is, until the end of the open
            round: others hold shares of its keys in a masked sum.
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
    erased: bool = False

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


class Update(TrainingStats, frozen=True, kw_only=True):
    """A counted update, with the figures of its training.

    Attributes:
        manifest: manifest of its content.
        member: the role that it was trained in.
        norm: Frobenius norm of the change by training.
        late: number of rounds between its own and the one that it counts in.
    """

    manifest: Manifest
    member: Member
    norm: float
    late: int = 0
