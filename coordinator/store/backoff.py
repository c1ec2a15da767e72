"""Delays between repeated attempts at something that a store did not do."""

from __future__ import annotations

FIRST, MOST = 1.0, 60.0
"""Seconds before the first repetition, and the longest delay."""


class Backoff:
    """Delays that double: `FIRST`, twice that, and so on up to `MOST`; `reset` begins anew."""

    def __init__(self) -> None:
        self._next = FIRST

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay, self._next = self._next, min(2 * self._next, MOST)
        return delay

    def reset(self) -> None:
        """Note a success."""
        self._next = FIRST
