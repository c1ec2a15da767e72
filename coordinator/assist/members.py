"""The devices that a helper serves: those that have joined the federation and are not shut out."""

from __future__ import annotations

import time

from coordinator.identity import Admissions, Refusal
from coordinator.store import Database

_FRESH = 10.0  # seconds for which the list of devices holds
_AGAIN = 1.0  # seconds after which an unknown device makes it be read again
UNKNOWN = Refusal(
    "UnknownDevice",
    "No device of this name has joined the federation: join first, with the same home (`impasto join`).",
)


class Members:
    """The devices of a federation, by the coordinator's database.

    Args:
        database: the coordinator's.
        admissions: its table of admissions.
    """

    def __init__(self, database: Database, admissions: Admissions) -> None:
        self._database = database
        self._admissions = admissions
        self._keys: dict[str, bytes] = {}
        self._read_at = float("-inf")

    def knows(self, device: str) -> bool:
        """Return True for a device that had joined when the list was read last. For any thread."""
        return device in self._keys

    def key(self, device: str, now: float) -> bytes | Refusal:
        """Return the public key of a device, or the reason why it is not served. now: seconds.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        if now >= self._read_at + (_FRESH if device in self._keys else _AGAIN):
            self._keys = {name: profile.key for name, profile in self._database.profiles().items()}
            self._read_at = now
        if device not in self._keys:
            return UNKNOWN
        return self._admissions.problem(device, now=time.time()) or self._keys[device]
