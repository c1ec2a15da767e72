"""Birth and death messages of a device's session: a state machine without clock or transport.

    absent ──connected──> announcing ──said──> present
      ^                     │   ^──failed        │
      └────────lost─────────┴─────────lost───────┘        any ──close──> gone

Both carry the session's epoch, so that a late death (a will that the broker delayed) does not end a later session.
After every connection the birth is sent again, as the broker may have published the will meanwhile, and repeated until
the transport has taken it. Nothing is sent after the death.
"""

from __future__ import annotations

from typing import Literal

from edge_sdk.transport import Will
from edge_sdk.wire import messages

# Seconds that a lost connection may take to come back before the broker publishes the will.
WILL_DELAY = 5.0
# Seconds after which a birth that could not be sent is sent again; doubles with each failed attempt.
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
        """The will: the death message that the broker publishes if this session ends without one."""
        return Will(topic, messages.encode(self.death), delay=WILL_DELAY)

    @property
    def due(self) -> float | None:
        """Time at which to send the birth; None if there is no need."""
        return self._due if self.state == "announcing" else None

    def connected(self, now: float) -> None:
        """Note that the connection was made, for the first time or again."""
        if self.state != "gone":
            self.state, self._due, self._repeat = "announcing", now, _REPEAT

    def said(self) -> None:
        """Note that the birth was sent."""
        if self.state == "announcing":
            self.state = "present"

    def failed(self, now: float) -> None:
        """Note that the birth could not be sent."""
        if self.state == "announcing":
            self._due = now + self._repeat
            self._repeat = min(2 * self._repeat, _LONGEST)

    def lost(self) -> None:
        """Note that the connection was lost; nothing is due until it is back."""
        if self.state != "gone":
            self.state = "absent"

    def close(self) -> messages.Presence | None:
        """End the session and return its death message; None if it has ended before."""
        ended, self.state = self.state == "gone", "gone"
        return None if ended else self.death
