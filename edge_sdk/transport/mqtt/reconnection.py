"""Delays between attempts to connect: a state machine without clock, socket or thread.

    connecting ──connected──> online
      ^    └─────away────┐      │ away
      └─────(a delay)────┴──────┘

Delays double with every failed attempt and are spread at random, so that devices that lost a broker together do not
come back together. A connection that breaks soon after it was made counts as a failed attempt, so that a broker that
accepts us and disconnects us again is not flooded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

_STEADY = 5.0  # times the first delay: a connection that lasted so long was a good one


class Reconnection:
    """The attempts of one client to connect.

    Args:
        first, largest: seconds; delays grow from the one to the other, and each is shortened at random by up to half.
        random: function that returns numbers from 0 to 1.
    """

    def __init__(self, first: float, largest: float, random: Callable[[], float]) -> None:
        self.state: Literal["connecting", "online"] = "connecting"
        self._first = first
        self._largest = largest
        self._random = random
        self._vain = 0
        self._since = 0.0

    def connected(self, now: float) -> None:
        """Note that the broker has accepted us."""
        self.state, self._since = "online", now

    def away(self, now: float) -> float:
        """Note a lost connection or a failed attempt; return the seconds to wait before the next attempt."""
        if self.state == "online" and now - self._since >= _STEADY * self._first:
            self._vain = 0
        self.state = "connecting"
        longest = min(self._largest, self._first * 2.0 ** min(self._vain, 64))
        self._vain += 1
        return longest * (0.5 + 0.5 * self._random())
