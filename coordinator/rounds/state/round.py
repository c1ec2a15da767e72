"""The open round, and closed ones that late updates may still count for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Literal

import msgspec

from coordinator import secure_aggregation
from coordinator.rounds.state.alone import Counted
from coordinator.rounds.state.device import Member, Update
from coordinator.rounds.state.table import tabulate
from edge_sdk.wire import Masking, Stage


class Exchange(msgspec.Struct, frozen=True):
    """The present exchange of a masked sum with its devices.

    Attributes:
        until: time at which it goes on without those that have not answered.
        again: time at which these are asked again.
    """

    until: float
    again: float


class RoundHead(msgspec.Struct, frozen=True, kw_only=True):
    """The open round without its devices.

    Attributes:
        number: number of the round, from 1; 0 for a question of a clustering.
        attempt: number of this opening, counted over all rounds.
        stage: "root" or "cluster"; "clustering" for a question.
        deadline: time from which on it closes with its quorum, or is extended.
        opened: time of opening.
        probation: time until which it waits for devices without a counted update.
        pace: seconds from the opening to the last counted update that shows it, see `decisions.sets_pace`; None if
            there is none.
        extended: number of extensions so far.
        masking: the terms under which the updates are summed; None: each update is sent by itself.
        exchanges: the present exchange of each masked sum that has a roster, by its number.
        spent: true if devices may have answered for a masked sum that was abandoned: they take part in no other sum of
            this round.
        question: the question that devices answer, encoded; empty: they train.
        centroids: those of the clusters among which devices choose alone; empty: the coordinator knows each one's.
        counted: where devices choose their clusters alone, those of each slot, once they are counted; None before, and
            elsewhere.
    """

    number: int
    attempt: int
    stage: Stage | Literal["clustering"]
    deadline: float
    opened: float = 0.0
    probation: float = math.inf
    pace: float | None = None
    extended: int = 0
    masking: Masking | None = None
    exchanges: dict[int, Exchange] = {}
    spent: bool = False
    question: bytes = b""
    centroids: bytes = b""
    counted: Counted | None = None

    @property
    def is_count(self) -> bool:
        """True if the devices of each cluster are counted, before their updates are summed."""
        return bool(self.centroids) and self.counted is None


class Round(RoundHead, frozen=True, kw_only=True):
    """The open round.

    Attributes:
        cohort: its members; the same object as long as nobody comes or goes.
        updates: counted updates, by device; any mapping becomes a `Table`.
        refused: devices whose update was refused for its content, with the name of the reason; nobody waits for them.
        sums: masked sums, by their numbers: one a cluster, or several of a large one.
    """

    cohort: dict[str, Member]
    updates: Mapping[str, Update] = {}
    refused: Mapping[str, str] = {}
    sums: dict[int, secure_aggregation.State] = {}

    def __post_init__(self) -> None:
        tabulate(self, "updates", self.updates)
        tabulate(self, "refused", self.refused)

    def has_delivered(self, name: str) -> bool:
        """Return True if an update of a device counts; under masks, if it is trained and stands ready for the sum."""
        masked = self.sum_of(name)
        return name in self.updates if masked is None else masked.has(name)

    @property
    def delivered(self) -> int:
        """Number of devices that have delivered."""
        return len(self.updates) + sum(masked.there for masked in self.sums.values())

    def sum_of(self, name: str) -> secure_aggregation.State | None:
        """Return the masked sum that a device is to take part in; None if there is none."""
        member = self.cohort.get(name)
        return None if member is None or member.sum is None else self.sums[member.sum]

    def is_out(self, name: str) -> bool:
        """Return True for a member of which nothing can come any more.

        Its update was refused, or its masked sum goes on, or has ended, without it.
        """
        if name in self.refused:
            return True
        masked = self.sum_of(name)
        return masked is not None and masked.phase != "advertising" and not masked.has(name)

    def is_absent(self, name: str) -> bool:
        """Return True for a member that has not delivered, and still may."""
        return name in self.cohort and not self.has_delivered(name) and not self.is_out(name)

    @property
    def absent(self) -> dict[str, Member]:
        """Members that have not delivered, and still may."""
        return {n: member for n, member in self.cohort.items() if self.is_absent(n)}

    @property
    def is_gathering(self) -> bool:
        """True if a masked sum still waits for devices to be trained."""
        return any(masked.phase == "advertising" for masked in self.sums.values())

    @property
    def summed(self) -> dict[str, int]:
        """Devices that are in a masked sum which is to be unmasked, and the number of the sum."""
        ready = ((number, masked) for number, masked in sorted(self.sums.items()) if masked.phase == "summing")
        return {name: number for number, masked in ready for name in sorted(masked.summed)}

    @property
    def median_losses(self) -> dict[str, float]:
        """Medians of the counted updates' `first_loss` and `last_loss`."""
        updates = self.updates.values()
        return {
            "first_loss": statistics.median(update.first_loss for update in updates),
            "last_loss": statistics.median(update.last_loss for update in updates),
        }


class Past(msgspec.Struct, frozen=True):
    """A closed round.

    Attributes:
        attempt: number of its last opening.
        absent: members that did not deliver; any mapping becomes a `Table`.
    """

    attempt: int
    absent: Mapping[str, Member]

    def __post_init__(self) -> None:
        tabulate(self, "absent", self.absent)
