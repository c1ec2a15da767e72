"""Threads that check updates which came whole, and store them, while the coordinator's loop goes on.

Reading, checking and syncing an update takes longer than moving it. The loop hands each over, and takes back what came
of it; everything else stays with the loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coordinator import rounds
from coordinator.learning import Learning
from coordinator.store import StoredBlobs
from edge_sdk.wire.messages import Offer

# They wait for the disk most of the time.
_THREADS = 1


@dataclass(frozen=True)
class Arrival:
    """An update that came whole.

    Attributes:
        device: whose.
        offer: what it was announced as.
        member: what its device was asked for.
        data: the content; its hash is right.
        file: where it lies, not synced.
        devices: how many there are.
    """

    device: str
    offer: Offer
    member: rounds.Member
    data: bytes
    file: Path
    devices: int


@dataclass(frozen=True)
class Outcome:
    """What came of an arrival: the norm of its change if it is stored, or what was wrong."""

    arrival: Arrival
    norm: float = 0.0
    error: Exception | None = None


class Storing:
    """The threads; `close` them.

    Args:
        done: called on one of them with each outcome.
    """

    def __init__(self, learning: Learning, blobs: StoredBlobs, done: Callable[[Outcome], None]) -> None:
        self._learning = learning
        self._blobs = blobs
        self._done = done
        self._hashes: Counter[str] = Counter()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="impasto-storing")

    @property
    def hashes(self) -> set[str]:
        """Of what was put in and is not `finished`: their blobs are needed, though no state names them yet."""
        return set(self._hashes)

    def put(self, arrival: Arrival) -> None:
        """Hand an update over. As many as are pulled at once may wait."""
        self._hashes[arrival.offer.manifest.sha256] += 1
        self._pool.submit(self._store, arrival)

    def finished(self, outcome: Outcome) -> None:
        """The loop has taken an outcome in."""
        self._hashes -= Counter([outcome.arrival.offer.manifest.sha256])

    def close(self) -> None:
        """Drop what waits, and end after what is being stored. Nothing was promised of either."""
        self._pool.shutdown(cancel_futures=True)

    def _store(self, arrival: Arrival) -> None:
        try:
            outcome = Outcome(arrival, self._stored(arrival))
        except Exception as error:  # whose fault it is, the loop decides
            outcome = Outcome(arrival, error=error)
        self._done(outcome)

    def _stored(self, arrival: Arrival) -> float:
        sha256 = arrival.offer.manifest.sha256
        norm = self._learning.check_update(arrival.data, arrival.member)
        self._blobs.take(arrival.file, sha256)
        self._learning.remember(rounds.Trace(sha256, arrival.member), arrival.devices)
        return norm
