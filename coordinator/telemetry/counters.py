"""Counters of traffic: messages and bytes by kind and direction, and ignored messages by reason."""

from __future__ import annotations

from collections import Counter
from typing import Literal

Direction = Literal["up", "down"]

# Kinds beside those of messages: a chunk, the clearing of a retained topic, an undecodable message.
CHUNK, CLEARING, INVALID = "chunk", "clearing", "invalid"
# Harmless messages without an effect: not refused, but counted.
UNASKED_CHUNK, REPEATED_CHUNK, STALE_PRESENCE = "UnaskedChunk", "RepeatedChunk", "StalePresence"
REPEATED_HELLO = "RepeatedHello"
# From devices that have not joined: Pull, Committed or Refused; Leave; Presence, which most send before they join.
STRANGERS_TRANSFER, STRANGERS_LEAVE, STRANGERS_PRESENCE = "StrangersTransfer", "StrangersLeave", "StrangersPresence"
# From a coordinator that started before this one, and states that it is online.
STALE_COORDINATOR = "StaleCoordinator"


class Counters:
    """Counters of this process; the totals of bytes continue those of earlier processes.

    Args:
        up, down: payload bytes received and sent before.
    """

    def __init__(self, up: int, down: int) -> None:
        self._before = {"up": up, "down": down}
        self._messages: Counter[tuple[Direction, str]] = Counter()
        self._bytes: Counter[tuple[Direction, str]] = Counter()
        self._ignored: Counter[str] = Counter()

    def go_on_from(self, up: int, down: int) -> None:
        """Replace the totals of earlier processes."""
        self._before = {"up": up, "down": down}

    def add(self, direction: Direction, kind: str, size: int) -> None:
        """Count one message of a kind, with a payload of `size` bytes."""
        self._messages[direction, kind] += 1
        self._bytes[direction, kind] += size

    def ignore(self, reason: str) -> None:
        """Count one ignored message."""
        self._ignored[reason] += 1

    @property
    def totals(self) -> dict[str, int]:
        """Payload bytes since the federation began: {"up", "down"}."""
        return {
            direction: before + sum(size for (way, _), size in self._bytes.items() if way == direction)
            for direction, before in self._before.items()
        }

    def traffic(self) -> tuple[int, int]:
        """Return the payload bytes received and sent since the federation began."""
        totals = self.totals
        return totals["up"], totals["down"]

    @property
    def by_kind(self) -> dict[str, dict[str, list[int]]]:
        """Traffic of this process: {"up" or "down": {kind: [messages, bytes]}}."""
        found: dict[str, dict[str, list[int]]] = {"up": {}, "down": {}}
        for (direction, kind), count in sorted(self._messages.items()):
            found[direction][kind] = [count, self._bytes[direction, kind]]
        return found

    @property
    def ignored(self) -> dict[str, int]:
        """Ignored messages of this process: {reason: messages}."""
        return dict(sorted(self._ignored.items()))
