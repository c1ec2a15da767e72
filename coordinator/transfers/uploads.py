"""Updates on their way in: the queue, the transfers, and the outcomes.

Runs on the loop's thread, except for checking and storing complete updates. No update is acknowledged before the
machine has counted it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from coordinator import rounds
from coordinator.ingress import TOO_MUCH_STORAGE, Inbox, Item, Limits, Storage
from coordinator.learning import Learning
from coordinator.runner import Runner
from coordinator.store import StoredBlobs
from coordinator.telemetry import Troubles
from coordinator.transfers.deliveries import Deliveries
from coordinator.transfers.ingest import Arrival, IngestWorker, Outcome
from coordinator.transfers.publisher import Publisher
from coordinator.transfers.queue import PLACES, UploadQueue
from coordinator.transfers.sessions import UPDATE, Sessions
from edge_sdk.errors import AdapterError, BlobLost, ImpastoError, StoreUnavailable, TransferError
from edge_sdk.wire import Manifest, Offer, exchange

# Seconds of silence after which a device may lose its place to another one.
_PATIENCE = 30.0
# Seconds to wait at the end for the update that is being stored.
_END = 30.0
# Seconds that a deadline is postponed for updates that arrived in time and are being stored.
_GRACE = 10.0


class Uploads:
    """Uploads of one federation; `start` and `close` it.

    Args:
        rules: the rules of the rounds.
        runner: is fed the outcomes of updates.
        sessions: transfers with devices.
        publisher: sends messages and chunks of transfers.
        deliveries: is told of adapters that devices have stored, as their transfers share the sessions.
        learning: checks and sketches updates.
        blobs: stores them.
        limits: the limits of one device.
        inbox: the loop's inbox, for outcomes of the ingest thread.
        troubles: is told of updates that cannot be stored.
    """

    def __init__(
        self,
        rules: rounds.Rules,
        runner: Runner,
        sessions: Sessions,
        publisher: Publisher,
        deliveries: Deliveries,
        learning: Learning,
        blobs: StoredBlobs,
        limits: Limits,
        inbox: Inbox[Item],
        troubles: Troubles,
    ) -> None:
        self._rules = rules
        self._runner = runner
        self._sessions = sessions
        self._learning = learning
        self._limits = limits
        self._inbox = inbox
        self._publisher = publisher
        self._deliveries = deliveries
        self._troubles = troubles
        self._storage = Storage(limits)
        self._queue = UploadQueue(PLACES, _PATIENCE)
        self._ingest = IngestWorker(
            learning, blobs, self._was_stored, lambda reason: inbox.put(lambda: troubles.note("updates", reason), 0)
        )

    def start(self) -> None:
        """Start the ingest thread. At most once."""
        self._ingest.start()

    def close(self) -> None:
        """Stop, and leave unfinished updates to the next start."""
        self._ingest.close(_END)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of updates being pulled and waiting: {"pulled", "waiting"}."""
        return self._queue.counts

    @property
    def needed(self) -> set[str]:
        """Blobs that are needed though no state names them yet."""
        return self._ingest.hashes

    def postponed(self, wake: float | None) -> float | None:
        """Return the time of the machine's next Tick, if it asks for `wake`: later while an update is being stored."""
        return wake + _GRACE if wake is not None and self._ingest.hashes else wake

    # calls of the machine --------------------------------------------------------------------------------------------

    def offered(self, device: str, offer: Offer) -> rounds.Event | None:
        """Queue an offered update that would count; return Spoiled if it has no room in the device's storage."""
        sha256 = offer.manifest.sha256
        pulled = self._queue.pulled(device) == sha256  # then its room was checked before
        if pulled and self._has_other_chunks(device, offer):
            self._sessions.cancel(device, sha256)
            self._queue.end(device, sha256)
            pulled = False
        if not pulled and not self._storage.has_room(device, self._number, offer.manifest.size):
            reason = self._limits.reason(TOO_MUCH_STORAGE)
            return rounds.Spoiled(device, offer, TOO_MUCH_STORAGE, reason, final=True)
        self._queue.add(device, offer)
        if pulled:
            session = self._session(device)
            self.consume(device, self._sessions.offered_again(device, sha256, time.monotonic(), session))
        return None

    def pull(self) -> None:
        """Cancel pulls that are no longer wanted or lose their place, and begin those that have a place."""
        self._stop()
        now = time.monotonic()
        while begun := self._queue.begin(self._wants, self._is_present, now):
            self._fetch(*begun)

    def forget_device(self, device: str) -> None:
        """Forget a device and its offers."""
        self._queue.forget(self._wants)
        self._stop()
        self._storage.forget(device)

    def forget(self) -> None:
        """Forget all that is no longer wanted after a round."""
        self._queue.forget(self._wants)
        self._stop()
        self._sessions.settle_all_but(self._queue.contents)

    # messages of devices ---------------------------------------------------------------------------------------------

    def chunk(self, device: str, payload: bytes) -> list[exchange.Effect]:
        """Take in a chunk and return its effects. Raises as `Exchange.on_chunk`."""
        now, sha256 = time.monotonic(), self._queue.pulled(device)
        effects = self._sessions.on_chunk(device, payload, now)
        if any(isinstance(effect, exchange.Arrived) for effect in effects):
            self._storage.add(device, self._number, len(payload))
        if sha256 and (received := self._sessions.progress(device, sha256)):
            self._queue.progress(device, received[0], now)
        return effects

    def consume(self, device: str, effects: Iterable[exchange.Effect]) -> None:
        """Carry out the effects of a transfer with a device."""
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    self._publisher.send(device, message)
                case exchange.SendChunk(payload):
                    self._publisher.chunk(device, payload)
                case exchange.Received(manifest, data):
                    self._received(device, manifest, data)
                case exchange.Delivered(manifest):
                    self._deliveries.stored(device, manifest)
                case exchange.Failed(manifest) if manifest.role == UPDATE:
                    self._failed(device, effect)

    # inside ---------------------------------------------------------------------------------------------------------

    def _received(self, device: str, manifest: Manifest, data: bytes) -> None:
        """Hand a complete update over to the ingest thread."""
        if self._queue.pulled(device) != manifest.sha256:
            return
        offer, state = self._queue.offer(device), self._runner.state
        member = rounds.member_for(self._rules, state, device, offer)
        if member is None:  # the round has closed meanwhile; the machine refuses the update
            self._runner.feed(rounds.Stored(device, offer, 0.0))
            self._end(device, offer)
            return
        try:
            file = self._sessions.whole(device, manifest)
        except OSError as error:
            self._put_off(device, offer, error)
            return
        self._queue.hold(device)
        self._ingest.put(Arrival(device, offer, member, data, file, len(state.devices)))

    def _failed(self, device: str, failure: exchange.Failed) -> None:
        """Handle a failed pull. A device that no longer offers the update has restarted, and will offer its own."""
        offer, error = self._queue.end(device, failure.manifest.sha256), failure.error
        if offer and not failure.by_peer:
            self._runner.feed(rounds.Spoiled(device, offer, type(error).__name__, str(error), final=False))

    def _wants(self, device: str, offer: Offer) -> bool:
        return rounds.wants(self._rules, self._runner.state, device, offer)

    def _has_other_chunks(self, device: str, offer: Offer) -> bool:
        """True if an update is being pulled in other chunks than now offered, after a change of the broker's limit."""
        if offer.manifest.sha256 in self._ingest.hashes:  # it is complete
            return False
        return self._queue.offer(device).manifest.chunk_size != offer.manifest.chunk_size

    def _is_present(self, device: str) -> bool:
        known = self._runner.state.devices.get(device)
        return known is not None and not known.away

    def _session(self, device: str) -> int:
        return self._runner.state.devices[device].epoch or 0

    @property
    def _number(self) -> int:
        """Number of the open round, or of the next one."""
        state = self._runner.state
        return state.current.number if state.current else state.round + 1

    def _stop(self) -> None:
        for device, offer in self._queue.give_up(self._wants, self._is_present, time.monotonic()):
            self._sessions.cancel(device, offer.manifest.sha256)

    def _fetch(self, device: str, offer: Offer) -> None:
        now, session = time.monotonic(), self._session(device)
        try:
            effects = self._sessions.fetch(device, offer.manifest, now, now + self._rules.deadline, session)
        except (ImpastoError, OSError) as error:
            self._sessions.cancel(device, offer.manifest.sha256)
            if isinstance(error, OSError):
                self._put_off(device, offer, error)
            else:
                self._failed(device, exchange.Failed(offer.manifest, error))
        else:
            self.consume(device, effects)

    def _was_stored(self, outcome: Outcome) -> None:
        """Put an outcome into the loop's inbox. On the ingest thread."""
        self._inbox.put(lambda: self._count(outcome), 0)

    def _count(self, outcome: Outcome) -> None:
        """Feed the outcome to the machine; its Committed follows the synced save."""
        device, offer, error = outcome.arrival.device, outcome.arrival.offer, outcome.error
        self._ingest.finished(outcome)
        if device not in self._runner.state.devices:  # it was forgotten meanwhile, and its file deleted
            self._end(device, offer)
            return
        said = self._queue.offer(device)
        if said.attempt != offer.attempt:  # it was checked for another opening of the round
            self._end(device, offer)
            self._runner.feed(rounds.Offered(device, said))
            return
        if isinstance(error, OSError | StoreUnavailable):
            self._put_off(device, offer, error)
            return
        if isinstance(error, TransferError) and not isinstance(error, BlobLost):  # its file was changed
            self._put_off(device, offer, error)
            self._sessions.settle(device, offer.manifest.sha256)  # to be pulled anew
            return
        if isinstance(error, AdapterError):
            self._runner.feed(rounds.Spoiled(device, offer, type(error).__name__, str(error), final=True))
        elif isinstance(error, BlobLost):  # its start is lost, which is no fault of the device
            self._runner.feed(rounds.Lost(frozenset([error.sha256])))
        elif error is not None:
            raise error
        else:
            self._troubles.over("updates")
            if outcome.sketch is not None:
                self._learning.remember(outcome.arrival.trace, outcome.sketch)
            self._runner.feed(rounds.Stored(device, offer, outcome.norm))
        self._end(device, offer)

    def _put_off(self, device: str, offer: Offer, error: OSError | StoreUnavailable | TransferError) -> None:
        """Report a failing disk of our own. The update was not acknowledged; its device offers it again."""
        self._troubles.note("updates", f"The update of {device} cannot be stored: {error}")
        self._queue.end(device, offer.manifest.sha256)

    def _end(self, device: str, offer: Offer) -> None:
        self._queue.end(device, offer.manifest.sha256)
        self._sessions.settle(device, offer.manifest.sha256)
