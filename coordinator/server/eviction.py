"""Eviction: in a full federation, an invented or abandoned name makes room for a newcomer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from coordinator import rounds
from coordinator.identity import Admissions
from coordinator.runner import Runner
from coordinator.server.performer import Performer


class Eviction:
    """Finds a device that may be replaced, and forgets it.

    Args:
        rules: the rules of the rounds.
        runner: is fed that the device is forgotten.
        performer: saves and acts first, as open actions may need the device.
        admissions: has the revoked devices, which go first.
        accounts: forget the device of that name; one for each part that keeps something of devices.
    """

    def __init__(
        self, rules: rounds.Rules, runner: Runner, performer: Performer, admissions: Admissions,
        accounts: Iterable[Callable[[str], None]],
    ) -> None:  # fmt: skip
        self._rules = rules
        self._runner = runner
        self._performer = performer
        self._admissions = admissions
        self._accounts = tuple(accounts)

    def candidate(self) -> str | None:
        """Return a device that a newcomer may replace, None if there is none.

        Raises:
            StoreUnavailable: the revoked devices cannot be read.
        """
        self._performer.settle()
        if not self._runner.settled:
            return None
        return rounds.replaceable(self._rules, self._runner.state, time.monotonic(), self._admissions.revoked)

    def evict(self, device: str) -> None:
        """Forget a device, unless open actions may need it and its profile."""
        self._performer.settle()
        if not self._runner.settled:
            return
        self._runner.feed(rounds.Forgotten(device))
        for forget in self._accounts:
            forget(device)
