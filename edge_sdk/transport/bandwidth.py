"""Bandwidth limit for chunks: a rate in words, and a queue that keeps to it. No clock and no sleep inside.

    pacer = Pacer(read_bandwidth("512 KB/s"))
    pacer.put(chunk, to)                  queue a chunk for a receiver
    pacer.take(now)                       the next chunk that may go and its receiver, or None
    pacer.due(now)                        time at which to ask again

Only chunks go through it. They take no memory while they wait: their bytes are made when they are sent. Messages do not
wait: they are small, and a transfer stops without them.
"""

from __future__ import annotations

import re
from typing import Generic, Protocol, TypeVar

from edge_sdk.errors import ConfigurationError

_UNITS = {"B": 1, "KB": 1000, "KIB": 1024, "MB": 1000**2, "MIB": 1024**2, "GB": 1000**3, "GIB": 1024**3}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B)(?:/S|PS)?\s*", re.IGNORECASE)
_LEAST = 1024.0  # bytes per second: at a lower rate, a chunk would take longer than anybody waits for it
_BURST = 0.25  # seconds' worth that may go at once after a pause, with the chunk that oversteps it
_ROOM = 256  # chunks that may wait for each receiver
_AHEAD = 1.5  # seconds' worth of chunks that may be under way


def read_bandwidth(rate: str | float | None) -> float | None:
    """Bytes per second of "512 KB/s", "1.5 MiB/s" or a number of bytes per second; None is no limit.

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
    """Number of chunks of so many bytes that may be under way: 1.5 seconds' worth, at least one, at most `most`."""
    return most if rate is None else max(1, min(most, int(_AHEAD * rate / chunk)))


class Waiting(Protocol):
    """A chunk that may have to wait: its content's hash, its index, and its size in bytes on the wire."""

    @property
    def sha256(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def size(self) -> int: ...


Chunk = TypeVar("Chunk", bound=Waiting)


class Pacer(Generic[Chunk]):
    """Queue of chunks to send, with one token bucket for all receivers, which take turns.

    A chunk that a receiver asks for twice waits once. At most 256 wait for each receiver; more are dropped, and the
    receiver asks again.

    Args:
        rate: bytes per second of all chunks together; None sets no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._burst = _BURST * rate if rate else 0.0
        self._tokens = self._burst  # below zero after a chunk that was larger than the rest
        self._filled: float | None = None
        self._waiting: dict[str, dict[tuple[str, int], Chunk]] = {}  # the first receiver has the next turn

    def takes(self, chunk: Chunk, to: str = "") -> bool:
        """True if `put` would queue the chunk: there is room, and it does not wait already."""
        waiting = self._waiting.get(to, {})
        return len(waiting) < _ROOM and (chunk.sha256, chunk.index) not in waiting

    def put(self, chunk: Chunk, to: str = "") -> None:
        """Queue a chunk for a receiver, if `takes` it."""
        if self.takes(chunk, to):
            self._waiting.setdefault(to, {})[chunk.sha256, chunk.index] = chunk

    def forget(self, sha256: str | None = None, to: str = "") -> None:
        """Drop a receiver's waiting chunks of a content; None drops those of all contents."""
        kept = {name: chunk for name, chunk in self._waiting.get(to, {}).items() if sha256 not in (None, name[0])}
        if kept:
            self._waiting[to] = kept
        else:
            self._waiting.pop(to, None)

    def due(self, now: float) -> float | None:
        """Time at which the next chunk may go; None if none waits."""
        if not self._waiting:
            return None
        if self._rate is None:
            return now
        self._fill(self._rate, now)
        return now + max(0.0, -self._tokens) / self._rate

    def take(self, now: float) -> tuple[str, Chunk] | None:
        """Remove and return the receiver and the chunk whose turn it is; None if none may go now."""
        due = self.due(now)
        if due is None or due > now:
            return None
        to = next(iter(self._waiting))
        waiting = self._waiting.pop(to)
        chunk = waiting.pop(next(iter(waiting)))
        if waiting:
            self._waiting[to] = waiting  # behind the others
        self._tokens -= chunk.size
        return to, chunk

    def _fill(self, rate: float, now: float) -> None:
        since = 0.0 if self._filled is None else max(0.0, now - self._filled)
        self._filled = now
        self._tokens = min(self._burst, self._tokens + since * rate)
