"""Times at which to report a wait, so that none is silent and none floods the log: a state machine without a clock."""

from __future__ import annotations

from collections.abc import Hashable


class Reminder:
    """Decides when to report a wait; ask `due` while something is waited for.

    Args:
        first: seconds of a wait before its first report.
        largest: largest number of seconds between two reports, which doubles from `first` on.
    """

    def __init__(self, first: float = 10.0, largest: float = 600.0) -> None:
        self._first = first
        self._largest = largest
        self._subject: Hashable = None
        self._since = 0.0
        self._due = 0.0
        self._pause = first

    def due(self, subject: Hashable, now: float) -> float | None:
        """Seconds that `subject` has been waited for, if a report is due now, else None.

        Another subject begins another wait; None stands for no wait.
        """
        if subject != self._subject:
            self._subject, self._since = subject, now
            self._due, self._pause = now + self._first, self._first
        if subject is None or now < self._due:
            return None
        self._due, self._pause = now + self._pause, min(2 * self._pause, self._largest)
        return now - self._since

    def may_be_due(self, now: float) -> bool:
        """True if `due` would return seconds for the subject that it was last asked about."""
        return self._subject is not None and now >= self._due
