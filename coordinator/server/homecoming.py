"""Who has taken home what there is to take home."""

from __future__ import annotations

from collections.abc import Iterable


class Homecoming:
    """What devices still owe a `committed` for, of the adapters that their `finished` named."""

    def __init__(self) -> None:
        self._owed: dict[str, set[str]] = {}

    def begins(self, device: str, contents: Iterable[str]) -> bool:
        """A device is told what to take home, by hashes. Whether that is nothing."""
        self._owed[device] = set(contents)
        return self._is_served(device)

    def stored(self, device: str, sha256: str) -> bool:
        """A device has stored a content. Whether it has all now."""
        if device not in self._owed:
            return False
        self._owed[device].discard(sha256)
        return self._is_served(device)

    def forget(self, device: str) -> None:
        """There is no such device any more."""
        self._owed.pop(device, None)

    def _is_served(self, device: str) -> bool:
        if self._owed[device]:
            return False
        del self._owed[device]
        return True
