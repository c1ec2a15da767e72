"""What presence topics have said last: most devices show themselves before they join."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from edge_sdk.wire import Presence


class Presences:
    """The last presence of each name, of at most `limit` names: whoever makes names up pushes out the oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: OrderedDict[str, Presence] = OrderedDict()

    def note(self, device: str, presence: Presence) -> None:
        """This is what its topic says now."""
        self._last[device] = presence
        self._last.move_to_end(device)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)

    def online_but(self, known: Container[str]) -> int:
        """How many say that they are there, but for those that are known."""
        return sum(said.online and device not in known for device, said in self._last.items())

    def last(self, device: str) -> Presence | None:
        """What its topic has said last, None if that is not known."""
        return self._last.get(device)
