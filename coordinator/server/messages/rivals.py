"""Messages on the coordinator's own topic: other instances of it, and rivals that have no right to be there.

An older instance's will may come late, a newer instance may have started elsewhere, and others may publish there
without right; all but the newer instance's state is overwritten.
"""

from __future__ import annotations

import time

from coordinator.identity import Leadership
from coordinator.ingress import Reaction
from coordinator.server.ending import Ending
from coordinator.server.messages.reading import decode_counted, nothing
from coordinator.telemetry import CLEARING, STALE_COORDINATOR, Counters
from edge_sdk.errors import ImpastoError, MessageInvalid
from edge_sdk.wire import CoordinatorState


class Rivals:
    """Handles states of other coordinators.

    Args:
        leadership: the claim of this instance.
        epoch: its epoch.
        ending: gives way to a newer instance.
        counters: count the messages.
    """

    def __init__(self, leadership: Leadership, epoch: int, ending: Ending, counters: Counters) -> None:
        self._leadership = leadership
        self._epoch = epoch
        self._ending = ending
        self._counters = counters

    def read(self, payload: bytes) -> Reaction:
        """Read a state; return the reaction. Raises MessageInvalid, and as `Leadership.read`."""
        now = time.monotonic()
        try:
            if not payload:
                self._counters.add("up", CLEARING, 0)
                self._leadership.contested(now)
                return nothing
            state = decode_counted(payload, self._counters)
            if not isinstance(state, CoordinatorState):
                raise MessageInvalid(f"A {type(state).__name__} does not belong on the coordinator's topic.")
            later = self._leadership.read(state, now)
        except ImpastoError:
            self._leadership.contested(now)
            raise
        if later is not None:
            return lambda: self._ending.give_way(later)
        return (lambda: self._counters.ignore(STALE_COORDINATOR)) if state.epoch < self._epoch else nothing
