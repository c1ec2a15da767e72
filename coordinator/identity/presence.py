"""The latest presence messages: most devices show presence before they join."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from edge_sdk.wire import Presence


class Presences:
    """The last presence of each name, for at most `limit` names; a sender of invented names displaces the oldest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: OrderedDict[str, Presence] = OrderedDict()

    def note(self, device: str, presence: Presence) -> None:
        """Store the latest presence of a device."""
        self._last[device] = presence
        self._last.move_to_end(device)
        if len(self._last) > self._limit:
            self._last.popitem(last=False)

    def forget(self, device: str) -> None:
        """Forget a device."""
        self._last.pop(device, None)

    def online_but(self, known: Container[str]) -> int:
        """Return the number of names that are online, apart from the known ones."""
        return sum(said.online and device not in known for device, said in self._last.items())

    def last(self, device: str) -> Presence | None:
        """Return the last presence of a device; None if there is none."""
        return self._last.get(device)
