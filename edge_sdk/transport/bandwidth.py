"""How fast chunks may go out: a rate in words, and a queue that keeps to it. No clock and no sleep inside.

    pacer = Pacer(read_bandwidth("512 KB/s"))
    pacer.put(name, payload)              a chunk wants to go out
    pacer.take(now)                       the next one whose turn has come, or None
    pacer.due(now)                        when to ask again

Only chunks go through it. Messages do not wait: they are small, and a transfer stops without them.
"""

from __future__ import annotations

import re

from edge_sdk.errors import ConfigurationError

_UNITS = {"B": 1, "KB": 1000, "KIB": 1024, "MB": 1000**2, "MIB": 1024**2, "GB": 1000**3, "GIB": 1024**3}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B)(?:/S|PS)?\s*", re.IGNORECASE)
_LEAST = 1024.0  # bytes per second: below, a chunk would take longer than anybody waits for one
_BURST = 0.25  # seconds' worth that may go at once after a pause, and the chunk that oversteps it
_ROOM = 256  # chunks that may wait
_AHEAD = 1.5  # seconds' worth of chunks that may be under way


def read_bandwidth(rate: str | float | None) -> float | None:
    """Bytes per second of "512 KB/s", "1.5 MiB/s" or a number of bytes per second; None: no limit.

    Raises:
        ConfigurationError: it is no rate, or less than 1 KiB/s.
    """
    if rate is None:
        return None
    if isinstance(rate, str):
        match = _RATE.fullmatch(rate)
        value = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    else:
        value = float(rate)
    if not _LEAST <= value < float("inf"):
        raise ConfigurationError(
            f"A bandwidth of {rate!r}: write a rate of at least 1 KiB/s, such as '512 KB/s' or '1.5 MiB/s'."
        )
    return value


def credit_for(rate: float | None, chunk: int, most: int) -> int:
    """How many chunks of so many bytes may be under way: one and a half seconds' worth, at least one, and `most`."""
    return most if rate is None else max(1, min(most, int(_AHEAD * rate / chunk)))


class Pacer:
    """Chunks that wait to go out, and when each may: a token bucket. What is asked for twice waits once.

    At most 256 wait; more are dropped, and whoever wants them asks again.

    Args:
        rate: bytes per second; None lets everything go at once.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._burst = _BURST * rate if rate else 0.0
        self._tokens = self._burst  # below zero after a chunk that was larger than what there was
        self._filled: float | None = None
        self._waiting: dict[bytes, bytes] = {}

    def put(self, name: bytes, payload: bytes) -> None:
        """A chunk of that name wants to go out."""
        if len(self._waiting) < _ROOM:
            self._waiting.setdefault(name, payload)

    def forget(self, prefix: bytes) -> None:
        """Nobody wants the chunks any more whose names begin like this."""
        self._waiting = {name: chunk for name, chunk in self._waiting.items() if not name.startswith(prefix)}

    def due(self, now: float) -> float | None:
        """When the next chunk may go; None if none waits."""
        if not self._waiting:
            return None
        if self._rate is None:
            return now
        self._fill(self._rate, now)
        return now + max(0.0, -self._tokens) / self._rate

    def rested(self, now: float) -> bool:
        """Whether it is as good as new: nothing waits, and the pause was long enough for a whole burst."""
        if self._rate is not None:
            self._fill(self._rate, now)
        return not self._waiting and self._tokens >= self._burst

    def take(self, now: float) -> bytes | None:
        """The next chunk, if it may go now."""
        due = self.due(now)
        if due is None or due > now:
            return None
        payload = self._waiting.pop(next(iter(self._waiting)))
        self._tokens -= len(payload)
        return payload

    def _fill(self, rate: float, now: float) -> None:
        since = 0.0 if self._filled is None else max(0.0, now - self._filled)
        self._filled = now
        self._tokens = min(self._burst, self._tokens + since * rate)
