"""Birth and death of a device's session: a state machine without clock or transport.

    absent ──connected──> announcing ──said──> present
      ^                     │   ^──failed        │
      └────────lost─────────┴─────────lost───────┘        any ──close──> gone

Both carry the session's epoch, so that a late death (a will that the broker held back) does not bury a later session.
After every connection the birth is said again, as the broker may have published the will meanwhile, and repeated until
it has been handed over. Nothing follows the last word.
"""

from __future__ import annotations

from typing import Literal

from edge_sdk.transport import Will
from edge_sdk.wire import messages

# Seconds that a lost connection may take to come back before the others are told.
WILL_DELAY = 5.0
# Seconds after which a birth that could not be handed over is said again; doubles with each vain attempt.
_REPEAT = 1.0
_LONGEST = 60.0


class Session:
    """One session of a device, from the start of its process to the end.

    Args:
        epoch: grows with every session.
    """

    def __init__(self, epoch: int) -> None:
        self.state: Literal["absent", "announcing", "present", "gone"] = "absent"
        self.birth = messages.Presence(online=True, epoch=epoch)
        self.death = messages.Presence(online=False, epoch=epoch)
        self._due = 0.0
        self._repeat = _REPEAT

    def will(self, topic: str) -> Will:
        """What the broker says for this session if it ends without a word."""
        return Will(topic, messages.encode(self.death), delay=WILL_DELAY)

    @property
    def due(self) -> float | None:
        """When the birth shall be said; None if there is no need."""
        return self._due if self.state == "announcing" else None

    def connected(self, now: float) -> None:
        """The connection is there, or there again."""
        if self.state != "gone":
            self.state, self._due, self._repeat = "announcing", now, _REPEAT

    def said(self) -> None:
        """The birth was handed over."""
        if self.state == "announcing":
            self.state = "present"

    def failed(self, now: float) -> None:
        """The birth could not be handed over."""
        if self.state == "announcing":
            self._due = now + self._repeat
            self._repeat = min(2 * self._repeat, _LONGEST)

    def lost(self) -> None:
        """The connection is away: there is nobody to say anything to."""
        if self.state != "gone":
            self.state = "absent"

    def close(self) -> messages.Presence | None:
        """The session ends: its last word, None if that was spoken."""
        ended, self.state = self.state == "gone", "gone"
        return None if ended else self.death
