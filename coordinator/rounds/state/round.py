"""The open round, and closed ones that late updates may still count for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import msgspec

from coordinator.rounds.state.device import Member, Update
from coordinator.rounds.state.table import tabulate
from edge_sdk.wire import Stage


class RoundHead(msgspec.Struct, frozen=True, kw_only=True):
    """The open round without its devices.

    Attributes:
        number: number of the round, from 1.
        attempt: number of this opening, counted over all rounds.
        stage: "root" or "cluster".
        deadline: time from which on it closes with its quorum, or is extended.
        opened: time of opening.
        probation: time until which it waits for devices without a counted update.
        pace: seconds from the opening to the last counted update that shows it, see `decisions.sets_pace`; None if
            there is none.
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
        tabulate(self, "updates", self.updates)
        tabulate(self, "refused", self.refused)

    def is_absent(self, name: str) -> bool:
        """Return True for a member that has delivered neither a good nor a refused update."""
        return name in self.cohort and name not in self.updates and name not in self.refused

    @property
    def absent(self) -> dict[str, Member]:
        """Members that have delivered neither a good nor a refused update."""
        return {n: member for n, member in self.cohort.items() if n not in self.updates and n not in self.refused}

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
