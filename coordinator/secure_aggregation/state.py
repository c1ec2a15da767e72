"""The state of an attempt at a masked sum, as the coordinator has it."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Literal, TypeAlias

import msgspec

from coordinator.secure_aggregation.unmasking import Task
from edge_sdk.errors import ConfigurationError
from edge_sdk.secure_aggregation import (
    FEWEST_DEVICES,
    MOST_DEVICES,
    Advertisement,
    Parameters,
    Shares,
    Terms,
)

Phase: TypeAlias = Literal[
    "advertising",
    "revealing",
    "sharing",
    "uploading",
    "consenting",
    "unmasking",
    "summing",
    "done",
    "abandoned",
]  # fmt: skip


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an attempt.

    Attributes:
        terms: its terms.
        cohort: names of the devices that are asked.
        phase: its phase.
        advertised: advertisements by the devices' names, before the roster is fixed.
        roster: the devices of the sum, in the order of their names.
        given: the parameters of the sum.
        digest: hash of both.
        numbers: revealed numbers by place in the roster.
        seed: the seed of the graph; empty in a complete one.
        shares: encrypted shares by place.
        sharers: places of those who take part in masking, from "uploading" on.
        ready: signatures of those who take part, by place.
        uploads: hashes of masked vectors by place.
        survivors: places of those in the sum, from "consenting" on.
        consents: signatures of those who agree to the sum, by place.
        answers: answers to the unmask request by place.
        reason: why it was abandoned.
    """

    terms: Terms
    cohort: frozenset[str]
    phase: Phase = "advertising"
    advertised: dict[str, Advertisement] = {}
    roster: tuple[Advertisement, ...] = ()
    given: Parameters = Parameters(0, 0)
    digest: bytes = b""
    numbers: dict[int, bytes] = {}
    seed: bytes = b""
    shares: dict[int, Shares] = {}
    sharers: frozenset[int] = frozenset()
    ready: dict[int, bytes] = {}
    uploads: dict[int, str] = {}
    survivors: frozenset[int] = frozenset()
    consents: dict[int, bytes] = {}
    answers: dict[int, bytes] = {}
    reason: str = ""

    def __repr__(self) -> str:
        """Phase and numbers, so that no log shows a share."""
        return f"State({self.phase!r}, {self.terms.numbers}, {len(self.cohort)} devices)"

    def has(self, device: str) -> bool:
        """Return True if a device has advertised itself; once the roster is fixed, if it is in it."""
        return device in self.advertised or any(entry.device == device for entry in self.roster)

    @property
    def there(self) -> int:
        """Number of devices that have advertised themselves."""
        return len(self.advertised) + len(self.roster)

    def upload_of(self, device: str) -> str | None:
        """Return the hash of a device's masked vector; None if it is not there."""
        place = next((place for place, entry in enumerate(self.roster) if entry.device == device), None)
        return None if place is None else self.uploads.get(place)

    def wants_upload(self, device: str) -> bool:
        """Return True if the masked vector of a device would be in the sum."""
        if self.phase != "uploading":
            return False
        return any(
            place in self.sharers and place not in self.uploads
            for place, entry in enumerate(self.roster)
            if entry.device == device
        )

    @property
    def summed(self) -> frozenset[str]:
        """Names of the devices in the sum, from "consenting" on."""
        return frozenset(self.roster[place].device for place in self.survivors)

    @property
    def task(self) -> Task:
        """The unmasking to be done, in phase "summing"."""
        assert self.phase == "summing", f"nothing is unmasked in phase {self.phase}"
        return Task(
            terms=self.terms,
            roster=self.roster,
            given=self.given,
            seed=self.seed,
            survivors=self.survivors,
            dropped=self.sharers - self.survivors,
            self_checks={place: self.shares[place].self_check for place in self.survivors},
            answers=self.answers,
            uploads={self.roster[place].device: self.uploads[place] for place in sorted(self.survivors)},
        )

    @property
    def awaited(self) -> frozenset[str]:
        """Names of the devices that the present phase waits for."""
        if self.phase == "advertising":
            return self.cohort - self.advertised.keys()
        asked, answered = self._asked
        return frozenset(self.roster[place].device for place in asked - answered)

    @property
    def answered(self) -> int:
        """Number of devices that have answered in the present phase."""
        return len(self.advertised) if self.phase == "advertising" else len(self._asked[1])

    @property
    def enough(self) -> int:
        """Number of answers with which the present phase goes on when its time is up; 0 if it waits for none.

        While the sum is unmasked, it is the fewest that can suffice: it takes as many around each device.
        """
        devices, policy = len(self.roster), self.terms.policy
        match self.phase:
            case "advertising":
                return FEWEST_DEVICES
            case "revealing":
                return devices
            case "sharing" | "uploading":
                return self.terms.fewest(devices, self.given)
            case "consenting":
                return policy.quorum(devices)
            case "unmasking":
                return self.given.threshold
        return 0

    @property
    def _asked(self) -> tuple[Set[int], Set[int]]:
        """Places of the devices that the present phase asks, and of those that have answered."""
        everybody = frozenset(range(len(self.roster)))
        match self.phase:
            case "revealing":
                return everybody, self.numbers.keys()
            case "sharing":
                return everybody, self.shares.keys()
            case "uploading":
                return self.sharers, self.uploads.keys() & self.ready.keys()
            case "consenting":
                return self.survivors, self.consents.keys()
            case "unmasking":
                return self.survivors, self.answers.keys()
        return frozenset(), frozenset()


def begin(terms: Terms, cohort: Iterable[str]) -> State:
    """The state of a new attempt with these devices.

    Raises:
        ConfigurationError: they are too many for one sum.
    """
    names = frozenset(cohort)
    if len(names) > MOST_DEVICES:
        raise ConfigurationError(f"{len(names)} devices in one masked sum, which holds {MOST_DEVICES}: divide them.")
    return State(terms=terms, cohort=names)
