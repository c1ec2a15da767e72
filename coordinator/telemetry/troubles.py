"""Faults of the coordinator's stores, reported when they begin, from time to time, and when they are over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from coordinator.telemetry.events import Reports
from edge_sdk.errors import StoreUnavailable

Work: TypeAlias = Literal["state", "updates", "learning"]
"""Work that a store keeps from being done: saving the state and carrying out actions, storing updates, learning."""

# Seconds after which the same fault is reported again.
_TELL_AGAIN = 60.0


class Troubles:
    """Work that waits for a store. For one thread.

    Args:
        report: reports `store_unavailable` and `store_back`.
    """

    def __init__(self, report: Reports) -> None:
        self._report = report
        self._since: dict[Work, float] = {}
        self._told: dict[Work, tuple[str, float]] = {}

    def note(self, work: Work, reason: str) -> None:
        """Note that work has failed and will be tried again."""
        now = time.monotonic()
        self._since.setdefault(work, now)
        told, at = self._told.get(work, ("", float("-inf")))
        if reason != told or now - at >= _TELL_AGAIN:
            self._told[work] = (reason, now)
            self._report("store_unavailable", work=work, reason=reason)

    @contextmanager
    def enduring(self, work: Work) -> Iterator[None]:
        """Note a store that fails in a `with` block, whose work is tried again later; it ends no federation."""
        try:
            yield
        except StoreUnavailable as error:
            self.note(work, str(error))

    def over(self, work: Work) -> None:
        """Note that work was done."""
        since = self._since.pop(work, None)
        if since is not None:
            self._told.pop(work, None)
            self._report("store_back", work=work, seconds=time.monotonic() - since)
