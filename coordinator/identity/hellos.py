"""The devices' keys and profiles, as far as their hellos are checked by them.

A hello is signed by the key in the device's profile, over the profile's hash. So a good one shows that the device is
there, and that the profile which the coordinator has is its own: of a Join that somebody else has sent in its name, key
or profile differ. Hellos of a session are numbered, so that an old one that is sent again shows nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from coordinator.identity.admission import Refusal
from edge_sdk.wire import DeviceProfile, Forget, Hello, asks_to_forget, greets, key_hash, profile_hash

JOIN_NEEDED = Refusal("JoinNeeded", "This federation does not know this device, or not as it is: say Join.")
ERASED = Refusal(
    "Forgotten", "The owner of this device has asked to be forgotten: it can take part again from a new home."
)
_NOT_SIGNED = Refusal("SignatureInvalid", "A Forget has to be signed by the key that it names, for this device.")
_NOT_ITS_KEY = Refusal(
    "SignatureInvalid",
    "The federation knows a device of this name with another key: that one is not forgotten. If it is yours, join once "
    "more from this home, then ask again; or ask the operator (`impasto-coordinator revoke`).",
)


class Greetings:
    """The keys and the hashes of the profiles of all devices that have joined, some hundred bytes each.

    Args:
        federation: name of the federation.
    """

    def __init__(self, federation: str) -> None:
        self._federation = federation
        self._known: dict[str, tuple[bytes, bytes]] = {}  # device -> key, hash of the profile
        self._last: dict[str, tuple[int, int]] = {}  # device -> epoch and number of its last good hello
        self._erased: set[str] = set()  # hashes of keys

    def load(self, profiles: Mapping[str, DeviceProfile], erased: Collection[str] = ()) -> None:
        """Take the profiles of all devices that have joined in earlier starts, and the hashes of erased ones' keys."""
        self._erased.update(erased)
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

    def problem_with(self, device: str, forget: Forget) -> Refusal | None:
        """Return the reason why a device is not to be forgotten, or None if it is, or is not known."""
        if not asks_to_forget(forget, self._federation, device):
            return _NOT_SIGNED
        known = self._known.get(device)
        return _NOT_ITS_KEY if known is not None and known[0] != forget.key else None

    def erase(self, device: str, key: bytes) -> None:
        """Forget a device; nobody joins with its key any more."""
        if device in self._known:
            self._erased.add(key_hash(key))
        self.forget(device)

    def is_erased(self, key: bytes) -> bool:
        """Return True for the key of a device that was erased."""
        return bool(key) and key_hash(key) in self._erased

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
