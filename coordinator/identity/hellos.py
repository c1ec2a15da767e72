"""The devices' keys and profiles, as far as their hellos are checked by them.

A hello is signed by the key in the device's profile, over the profile's hash. So a good one shows that the device is
there, and that the profile which the coordinator has is its own: of a Join that somebody else has sent in its name, key
or profile differ. Hellos of a session are numbered, so that an old one that is sent again shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.identity.admission import Refusal
from edge_sdk.wire import DeviceProfile, Hello, greets, profile_hash

JOIN_NEEDED = Refusal("JoinNeeded", "This federation does not know this device, or not as it is: say Join.")


class Greetings:
    """The keys and the hashes of the profiles of all devices that have joined, some hundred bytes each.

    Args:
        federation: name of the federation.
    """

    def __init__(self, federation: str) -> None:
        self._federation = federation
        self._known: dict[str, tuple[bytes, bytes]] = {}  # device -> key, hash of the profile
        self._last: dict[str, tuple[int, int]] = {}  # device -> epoch and number of its last good hello

    def load(self, profiles: Mapping[str, DeviceProfile]) -> None:
        """Take the profiles of all devices that have joined in earlier starts."""
        for device, profile in profiles.items():
            self.joined(device, profile)

    def joined(self, device: str, profile: DeviceProfile) -> None:
        """Take the profile of a device's Join. With another key or profile, its numbers begin anew."""
        known = profile.key, profile_hash(profile)
        if self._known.get(device) != known:
            self._known[device] = known
            self._last.pop(device, None)

    def forget(self, device: str) -> None:
        """Delete what is known of a device that takes no part any more."""
        self._known.pop(device, None)
        self._last.pop(device, None)

    def is_repeated(self, device: str, hello: Hello) -> bool:
        """Return True for a hello that is not newer than the last good one of the device."""
        return (hello.epoch, hello.number) <= self._last.get(device, (-1, 0))

    def accept(self, device: str, hello: Hello) -> bool:
        """Return True if a hello is signed by the device as it is known; False if it has to say Join."""
        key, profile = self._known.get(device, (b"", b""))
        if not greets(hello, key, profile, self._federation, device):
            return False
        self._last[device] = hello.epoch, hello.number
        return True
