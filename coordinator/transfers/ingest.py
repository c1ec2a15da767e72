"""A thread that checks updates which came whole, and stores them, while the coordinator's loop goes on.

Checking and syncing an update takes longer than moving it. The loop hands each over and leaves it alone until it takes
the outcome back; the thread writes nothing but the blob. One thread, as more of them would fight for the interpreter.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator import rounds
from coordinator.learning import Learning
from coordinator.methods.clustering import Sketch
from coordinator.store import StoredBlobs
from edge_sdk.errors import TransferError
from edge_sdk.wire import Offer


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

    @property
    def sha256(self) -> str:
        return self.offer.manifest.sha256

    @property
    def trace(self) -> rounds.Trace:
        """What clustering will ask for if it counts."""
        return rounds.Trace(self.sha256, self.member)


@dataclass(frozen=True)
class Outcome:
    """What came of an arrival: the norm of its change and perhaps its sketch if it is stored, or what was wrong."""

    arrival: Arrival
    norm: float = 0.0
    sketch: Sketch | None = None
    error: Exception | None = None


class IngestWorker:
    """The thread; `start` and `close` it.

    Args:
        done: called on the thread with each outcome, in the order of the arrivals.
    """

    def __init__(self, learning: Learning, blobs: StoredBlobs, done: Callable[[Outcome], None]) -> None:
        self._learning = learning
        self._blobs = blobs
        self._done = done
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._hashes: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._serve, name="impasto-storing", daemon=True)

    @property
    def hashes(self) -> set[str]:
        """Of what was put in and is not `finished`: their blobs are needed, though no state names them yet."""
        return set(self._hashes)

    def start(self) -> None:
        """Begin. At most once."""
        self._thread.start()

    def put(self, arrival: Arrival) -> None:
        """Hand an update over. As many as are pulled at once may wait."""
        self._hashes[arrival.sha256] += 1
        self._arrivals.put(arrival)

    def finished(self, outcome: Outcome) -> None:
        """The loop has taken an outcome in."""
        self._hashes -= Counter([outcome.arrival.sha256])

    def close(self, seconds: float) -> None:
        """Leave what waits, and wait so long for what is being stored. Nothing was promised of either."""
        self._closed.set()
        self._arrivals.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _serve(self) -> None:
        while (arrival := self._arrivals.get()) is not None and not self._closed.is_set():
            try:
                outcome = self._store(arrival)
            except Exception as error:  # whose fault it is, the loop decides
                outcome = Outcome(arrival, error=error)
            self._done(outcome)

    def _store(self, arrival: Arrival) -> Outcome:
        norm = self._learning.check_update(arrival.data, arrival.member)
        if arrival.file.stat().st_size != len(arrival.data):
            raise TransferError(f"{arrival.file} was changed by somebody else.")
        self._blobs.take(arrival.file, arrival.sha256)
        return Outcome(arrival, norm, self._learning.sketch(arrival.trace, arrival.devices))
