"""When to say what is waited for, so that no wait is silent and none is a flood: a state machine without a clock."""

from __future__ import annotations

from collections.abc import Hashable


class Reminder:
    """Ask it while something is waited for.

    Args:
        first, largest: seconds of a wait before it is told, and between one telling and the next, which double from one
            to the other.
    """

    def __init__(self, first: float = 10.0, largest: float = 600.0) -> None:
        self._first = first
        self._largest = largest
        self._subject: Hashable = None
        self._since = 0.0
        self._due = 0.0
        self._pause = first

    def due(self, subject: Hashable, now: float) -> float | None:
        """Seconds that this has been waited for, if it is to be told now, else None. Another subject, or None for
        nothing, is another wait."""
        if subject != self._subject:
            self._subject, self._since = subject, now
            self._due, self._pause = now + self._first, self._first
        if subject is None or now < self._due:
            return None
        self._due, self._pause = now + self._pause, min(2 * self._pause, self._largest)
        return now - self._since

    def may_be_due(self, now: float) -> bool:
        """Whether `due` would have something to tell of the subject that it was asked about last."""
        return self._subject is not None and now >= self._due
