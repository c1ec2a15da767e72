"""Check of incoming messages against our announced limit, which not every broker enforces."""

from __future__ import annotations

import logging
import threading
import time

_LOG = logging.getLogger(__name__)
_SILENCE = 60.0  # least seconds between two warnings


class Arrivals:
    """Refuses messages larger than `max_payload` bytes. Any thread may ask."""

    def __init__(self, max_payload: int) -> None:
        self._max = max_payload
        self._lock = threading.Lock()
        self._untold = 0
        self._told = float("-inf")

    def admits(self, topic: str, payload: bytes | bytearray) -> bool:
        """True if a message may be handed on. A refused one is logged, at most once a minute."""
        if len(payload) <= self._max:
            return True
        with self._lock:
            self._untold += 1
            now = time.monotonic()
            if now - self._told >= _SILENCE:
                _LOG.warning(
                    "PayloadTooLarge: %d messages dropped, the last of %d bytes on %.300s; at most %d are taken.",
                    self._untold,
                    len(payload),
                    topic,
                    self._max,
                )
                self._untold, self._told = 0, now
        return False
