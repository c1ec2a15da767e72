"""What has come and gone, counted: messages and bytes by kind and direction, and what was ignored, by reason."""

from __future__ import annotations

from collections import Counter
from typing import Literal

Direction = Literal["up", "down"]

# Kinds beside those of messages: a chunk, the clearing of a retained topic, what cannot be decoded.
CHUNK, CLEARING, INVALID = "chunk", "clearing", "invalid"
# What does no harm and calls for nothing: it is no refusal, but worth counting.
UNASKED_CHUNK, REPEATED_CHUNK, STALE_PRESENCE = "UnaskedChunk", "RepeatedChunk", "StalePresence"
# Of those that have not joined: a Pull, Committed or Refused; a Leave; a Presence, which most say before they join.
STRANGERS_TRANSFER, STRANGERS_LEAVE, STRANGERS_PRESENCE = "StrangersTransfer", "StrangersLeave", "StrangersPresence"
# Of a coordinator that began before this one, and says that it is online.
STALE_COORDINATOR = "StaleCoordinator"


class Counters:
    """Counts of this process; the totals of bytes go on from what earlier ones have counted.

    Args:
        up, down: payload bytes received and sent before.
    """

    def __init__(self, up: int, down: int) -> None:
        self._before = {"up": up, "down": down}
        self._messages: Counter[tuple[Direction, str]] = Counter()
        self._bytes: Counter[tuple[Direction, str]] = Counter()
        self._ignored: Counter[str] = Counter()

    def go_on_from(self, up: int, down: int) -> None:
        """What earlier processes have counted turned out to be this."""
        self._before = {"up": up, "down": down}

    def add(self, direction: Direction, kind: str, size: int) -> None:
        """One message of a kind, with a payload of `size` bytes."""
        self._messages[direction, kind] += 1
        self._bytes[direction, kind] += size

    def ignore(self, reason: str) -> None:
        """One message that was ignored."""
        self._ignored[reason] += 1

    @property
    def totals(self) -> dict[str, int]:
        """Payload bytes since the federation began: {"up", "down"}."""
        return {
            direction: before + sum(size for (way, _), size in self._bytes.items() if way == direction)
            for direction, before in self._before.items()
        }

    @property
    def by_kind(self) -> dict[str, dict[str, list[int]]]:
        """{"up" or "down": {kind: [messages, bytes]}} of this process."""
        found: dict[str, dict[str, list[int]]] = {"up": {}, "down": {}}
        for (direction, kind), count in sorted(self._messages.items()):
            found[direction][kind] = [count, self._bytes[direction, kind]]
        return found

    @property
    def ignored(self) -> dict[str, int]:
        """{reason: messages} of this process."""
        return dict(sorted(self._ignored.items()))
