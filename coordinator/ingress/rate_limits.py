"""Limits of sending and storing for each device: token buckets, and one account a round. Pure: no clock, no network.

Times are seconds of a clock that does not jump back. A bucket holds one minute's allowance and fills up within a
minute: a sender that was silent may use the whole allowance at once, and from then on the same amount a minute.

Devices that have joined have buckets of their own. All other senders share one bucket, however many names they invent,
so that they take neither memory nor the others' share.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTE = 60.0
# A message costs at least the bytes of the smallest chunk, so that many small ones do not evade the limit of bytes.
LEAST = 1024
STRANGERS = ""
# Devices that have not joined send little, but a whole federation of them may arrive at once.
_STRANGERS_SHARE = 10

TOO_MANY_MESSAGES = "TooManyMessages"
TOO_MANY_BYTES = "TooManyBytes"
TOO_MANY_DOWNLOADS = "TooManyDownloads"
TOO_MUCH_STORAGE = "TooMuchStorage"
FEDERATION_FULL = "FederationFull"


@dataclass(frozen=True)
class Limits:
    """Limits of one federation.

    Attributes:
        messages: messages that a device may send in a minute, chunks not counted.
        bytes: bytes that a device may send in a minute, messages and chunks together.
        downloads: bytes of chunks that a device may request in a minute.
        storage: bytes that may be taken in for a device's updates in one round.
        devices: number of devices that may have joined.
    """

    messages: int
    bytes: int
    downloads: int
    storage: int
    devices: int

    def reason(self, code: str) -> str:
        """Return the text for a device whose message was refused with this code."""
        dropped = "in a minute: some were dropped. Say again what matters, more slowly."
        return {
            TOO_MANY_MESSAGES: f"More than {self.messages} messages {dropped}",
            TOO_MANY_BYTES: f"Messages of more than {self.bytes} bytes {dropped}",
            TOO_MANY_DOWNLOADS: f"Chunks of more than {self.downloads} bytes asked for {dropped}",
            TOO_MUCH_STORAGE: f"More than {self.storage} bytes of updates in one round: wait for the next round.",
            FEDERATION_FULL: f"This federation takes {self.devices} devices and has them: ask its operator for room "
            "(`impasto-coordinator revoke` of those that are gone, or a larger max_devices).",
        }[code]


@dataclass(frozen=True)
class Exceeded:
    """Messages of one sender that were dropped since the last report.

    Attributes:
        sender: a device, or STRANGERS.
        code: the limit that was exceeded first.
        messages, bytes: number and size of the dropped messages.
    """

    sender: str
    code: str
    messages: int
    bytes: int


class Bucket:
    """A token bucket that holds at most `a_minute` tokens and refills at that rate a minute."""

    def __init__(self, a_minute: float, now: float) -> None:
        self._size = self._level = float(a_minute)
        self._filled_at = now

    def has(self, amount: float, now: float) -> bool:
        """True if the bucket holds at least `amount` tokens."""
        self._level = min(self._size, self._level + (now - self._filled_at) * self._size / MINUTE)
        self._filled_at = now
        return self._level >= amount

    def take(self, amount: float) -> None:
        """Remove tokens that `has` has found."""
        self._level -= amount


@dataclass
class _Account:
    messages: Bucket
    bytes: Bucket
    code: str = ""
    dropped: list[int] = field(default_factory=lambda: [0, 0])  # messages, bytes
    told: float | None = None


class Rates:
    """Rate limits of all senders, or of all receivers.

    Args:
        messages: messages of one device in a minute.
        size: bytes of one device in a minute.
        over_size: code for messages over `size`.
    """

    def __init__(self, messages: int, size: int, over_size: str = TOO_MANY_BYTES) -> None:
        self._messages = messages
        self._size = size
        self._over_size = over_size
        self._accounts: dict[str, _Account] = {}
        self._owing: set[str] = set()  # accounts with drops that are not reported yet

    def admits(self, sender: str, size: int, now: float, *, chunk: bool = False) -> bool:
        """Return True if a message of `size` bytes is within its sender's limits; otherwise it is to be dropped.

        Args:
            sender: a device that has joined, or STRANGERS.
            size: bytes of topic and payload.
            now: seconds.
            chunk: True for a chunk, which does not count as a message.
        """
        account = self._accounts.get(sender)
        if account is None:
            share = _STRANGERS_SHARE if sender == STRANGERS else 1
            messages = share * self._messages
            account = self._accounts[sender] = _Account(Bucket(messages, now), Bucket(self._size, now))
        cost = max(size, LEAST)
        if not chunk and not account.messages.has(1, now):
            code = TOO_MANY_MESSAGES
        elif not account.bytes.has(cost, now):
            code = self._over_size
        else:
            account.bytes.take(cost)
            if not chunk:
                account.messages.take(1)
            return True
        account.code = account.code or code
        account.dropped[0] += 1
        account.dropped[1] += size
        self._owing.add(sender)
        return False

    def forget(self, sender: str) -> None:
        """Delete the account of a sender."""
        self._accounts.pop(sender, None)
        self._owing.discard(sender)

    def exceeded(self, now: float, *, all_of_it: bool = False) -> list[Exceeded]:
        """Return the drops to report: a sender's first one at once, then once a minute; all with `all_of_it`."""
        found = []
        for sender in sorted(self._owing):
            account = self._accounts[sender]
            if not all_of_it and account.told is not None and now - account.told < MINUTE:
                continue
            found.append(Exceeded(sender, account.code, *account.dropped))
            account.code, account.dropped, account.told = "", [0, 0], now
            self._owing.discard(sender)
        return found


class Storage:
    """Bytes taken in for each device's updates in its latest round. Devices have joined, so their number is bounded."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.storage
        self._used: dict[str, tuple[int, int]] = {}  # device -> round, bytes

    def has_room(self, device: str, number: int, size: int) -> bool:
        """True if `size` more bytes of a device may be taken in, in the round of this number."""
        return self._bytes(device, number) + size <= self._limit

    def add(self, device: str, number: int, size: int) -> None:
        """Count `size` more bytes of a device, whether or not they were useful."""
        self._used[device] = number, self._bytes(device, number) + size

    def forget(self, device: str) -> None:
        """Delete the account of a device that takes no part any more."""
        self._used.pop(device, None)

    def _bytes(self, device: str, number: int) -> int:
        latest, used = self._used.get(device, (number, 0))
        return used if latest == number else 0
