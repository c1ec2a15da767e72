"""The ingest thread: it checks and stores complete updates while the coordinator's loop goes on.

Checking and syncing an update takes longer than transferring it. The loop hands each update over and does not touch it
until it takes the outcome back; the thread writes nothing but the blob. There is one thread, because more would compete
for the interpreter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator import rounds
from coordinator.learning import Learning
from coordinator.methods.clustering import Sketch
from coordinator.store import Backoff, StoredBlobs
from coordinator.worker_thread import WorkerThread
from edge_sdk.errors import StoreUnavailable, TransferError
from edge_sdk.wire import Offer

# Attempts at storing an update, in some seconds; after that its device offers it again.
_ATTEMPTS = 4


@dataclass(frozen=True)
class Arrival:
    """A complete update.

    Attributes:
        device: name of the device.
        offer: its offer of the update.
        member: the device's role in the round.
        data: the content; its hash is verified.
        file: file of the content, not synced.
        devices: number of devices in the federation.
    """

    device: str
    offer: Offer
    member: rounds.Member
    data: bytes
    file: Path
    devices: int

    @property
    def sha256(self) -> str:
        """Hash of the content."""
        return self.offer.manifest.sha256

    @property
    def trace(self) -> rounds.Trace:
        """Trace of the update, as clustering will ask for it."""
        return rounds.Trace(self.sha256, self.member)


@dataclass(frozen=True)
class Outcome:
    """Outcome of an arrival.

    Attributes:
        arrival: the arrival.
        norm: Frobenius norm of the change by training.
        sketch: sketch of the update; None if clustering needs none.
        error: the error that kept it from being stored; None if it is stored.
    """

    arrival: Arrival
    norm: float = 0.0
    sketch: Sketch | None = None
    error: Exception | None = None


class IngestWorker:
    """The ingest thread; `start` and `close` it.

    Args:
        learning: checks and sketches updates.
        blobs: stores them.
        done: called on the thread with each outcome, in the order of the arrivals.
        troubled: called on the thread with the reason whenever the blob store does not work; it is tried again with
            growing delays, `_ATTEMPTS` times in all.
    """

    def __init__(
        self,
        learning: Learning,
        blobs: StoredBlobs,
        done: Callable[[Outcome], None],
        troubled: Callable[[str], None],
    ) -> None:
        self._troubled = troubled
        self._learning = learning
        self._blobs = blobs
        self._done = done
        self._hashes: Counter[str] = Counter()
        self._thread: WorkerThread[Arrival] = WorkerThread("impasto-storing", self._work)

    @property
    def hashes(self) -> set[str]:
        """Hashes of updates handed over and not `finished`: their blobs are needed, though no state names them yet."""
        return set(self._hashes)

    def start(self) -> None:
        """Start the thread. At most once."""
        self._thread.start()

    def put(self, arrival: Arrival) -> None:
        """Hand an update over. As many may wait as are pulled at once."""
        self._hashes[arrival.sha256] += 1
        self._thread.put(arrival)

    def finished(self, outcome: Outcome) -> None:
        """Note that the loop has taken an outcome."""
        self._hashes -= Counter([outcome.arrival.sha256])

    def close(self, seconds: float) -> None:
        """Drop waiting updates, and wait up to `seconds` for the one being stored; neither was acknowledged."""
        self._thread.close(seconds)

    def _work(self, arrival: Arrival) -> None:
        backoff = Backoff()
        for attempt in range(_ATTEMPTS):
            outcome = self._outcome(arrival)
            if not isinstance(outcome.error, StoreUnavailable) or attempt == _ATTEMPTS - 1:
                break
            self._troubled(str(outcome.error))
            if self._thread.pause(backoff.next()):
                break
        self._done(outcome)

    def _outcome(self, arrival: Arrival) -> Outcome:
        try:
            return self._store(arrival)
        except Exception as error:  # the loop decides about it
            return Outcome(arrival, error=error)

    def _store(self, arrival: Arrival) -> Outcome:
        if arrival.member.sum is not None:  # a masked vector is noise, of which the offer has stated the length
            self._keep(arrival)
            return Outcome(arrival)
        update, norm = self._learning.check_update(arrival.data, arrival.member, arrival.sha256)
        self._keep(arrival)
        return Outcome(arrival, norm, self._learning.sketch(arrival.trace, arrival.devices, update))

    def _keep(self, arrival: Arrival) -> None:
        if arrival.file.stat().st_size != len(arrival.data):
            raise TransferError(f"{arrival.file} was changed by somebody else.")
        self._blobs.take(arrival.file, arrival.sha256)
