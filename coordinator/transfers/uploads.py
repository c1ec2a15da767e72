"""Updates on their way in: whose turn it is, where they are put together, and what has come of them.

On the loop's thread, but for the checking and storing of what came whole. Nothing is promised of an update before the
machine has counted it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from coordinator import rounds
from coordinator.ingress import TOO_MUCH_STORAGE, Inbox, Item, Limits, Storage
from coordinator.learning import Learning
from coordinator.runner import Runner
from coordinator.store import StoredBlobs
from coordinator.transfers.deliveries import Deliveries
from coordinator.transfers.ingest import Arrival, IngestWorker, Outcome
from coordinator.transfers.publisher import Publisher
from coordinator.transfers.queue import PLACES, UploadQueue
from coordinator.transfers.sessions import UPDATE, Sessions
from edge_sdk.errors import AdapterError, BlobLost, ImpastoError, StoreUnavailable
from edge_sdk.wire import Manifest, Offer, exchange

# Seconds of silence after which another device's turn comes.
_PATIENCE = 30.0
# Longest wait, at the end, for what is being stored.
_END = 30.0
# Seconds that a round's deadline waits for updates that came in time and are being stored.
_GRACE = 10.0


class Uploads:
    """Of one federation; `start` and `close` it.

    Args:
        runner: is fed with what comes of updates.
        sessions: what pulls.
        publisher: sends what a transfer asks for.
        deliveries: is told of adapters that devices have stored, as their transfers are those of updates.
        inbox: the loop's, into which outcomes are put.
        troubled: is told what keeps updates from being stored.
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
        troubled: Callable[[str], None],
    ) -> None:
        self._rules = rules
        self._runner = runner
        self._sessions = sessions
        self._learning = learning
        self._limits = limits
        self._inbox = inbox
        self._publisher = publisher
        self._deliveries = deliveries
        self._troubled = troubled
        self._storage = Storage(limits)
        self._queue = UploadQueue(PLACES, _PATIENCE)
        self._ingest = IngestWorker(learning, blobs, self._was_stored)

    def start(self) -> None:
        """Begin. At most once."""
        self._ingest.start()

    def close(self) -> None:
        """Leave what is under way as it is: the next life goes on from there."""
        self._ingest.close(_END)

    @property
    def counts(self) -> dict[str, int]:
        """How many updates are being pulled, and how many wait."""
        return self._queue.counts

    @property
    def needed(self) -> set[str]:
        """Blobs that are needed though no state names them yet."""
        return self._ingest.hashes

    def postponed(self, wake: float | None) -> float | None:
        """When the machine is to be told that time went by, if it asks for `wake`."""
        return wake + _GRACE if wake is not None and self._ingest.hashes else wake

    # what the machine wants -----------------------------------------------------------------------------------------

    def offered(self, device: str, offer: Offer) -> rounds.Event | None:
        """An update that would count is offered: pull it when it is its turn, if it may still be stored."""
        sha256 = offer.manifest.sha256
        pulled = self._queue.pulled(device) == sha256  # then it has its room already
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
        """Stop what is not worth its place any more, and begin what waits."""
        self._stop()
        now = time.monotonic()
        while begun := self._queue.begin(self._wants, self._is_present, now):
            self._fetch(*begun)

    def forget_device(self, device: str) -> None:
        """There is no such device any more, and so nothing of it is wanted."""
        self._queue.forget(self._wants)
        self._stop()
        self._storage.forget(device)

    def forget(self) -> None:
        """A round is over: forget what nobody wants any more."""
        self._queue.forget(self._wants)
        self._stop()
        self._sessions.settle_all_but(self._queue.contents)

    # what devices do ------------------------------------------------------------------------------------------------

    def chunk(self, device: str, payload: bytes) -> list[exchange.Effect]:
        """A chunk has come; raises as `Exchange.on_chunk`."""
        now, sha256 = time.monotonic(), self._queue.pulled(device)
        effects = self._sessions.on_chunk(device, payload, now)
        if any(isinstance(effect, exchange.Arrived) for effect in effects):
            self._storage.add(device, self._number, len(payload))
        if sha256 and (received := self._sessions.progress(device, sha256)):
            self._queue.progress(device, received[0], now)
        return effects

    def consume(self, device: str, effects: Iterable[exchange.Effect]) -> None:
        """Do what a transfer with a device asks for, and take what it brings."""
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
        """An update came whole: have it checked and stored, then count it."""
        if self._queue.pulled(device) != manifest.sha256:
            return
        offer, state = self._queue.offer(device), self._runner.state
        member = rounds.member_for(self._rules, state, device, offer)
        if member is None:  # the round has closed meanwhile, and the machine says so
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
        """A pull has ended without success. A device that does not offer the update (any more) has started anew: it
        will offer what it has."""
        offer, error = self._queue.end(device, failure.manifest.sha256), failure.error
        if offer and not failure.by_peer:
            self._runner.feed(rounds.Spoiled(device, offer, type(error).__name__, str(error), final=False))

    def _wants(self, device: str, offer: Offer) -> bool:
        return rounds.wants(self._rules, self._runner.state, device, offer)

    def _has_other_chunks(self, device: str, offer: Offer) -> bool:
        """Whether an update is being pulled in other chunks than it is offered in now, as the broker asks for."""
        if offer.manifest.sha256 in self._ingest.hashes:  # it came whole
            return False
        return self._queue.offer(device).manifest.chunk_size != offer.manifest.chunk_size

    def _is_present(self, device: str) -> bool:
        known = self._runner.state.devices.get(device)
        return known is not None and not known.away

    def _session(self, device: str) -> int:
        return self._runner.state.devices[device].epoch or 0

    @property
    def _number(self) -> int:
        """Of the round that is open, or will be."""
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
        """On the thread that stores."""
        self._inbox.put(lambda: self._count(outcome), 0)

    def _count(self, outcome: Outcome) -> None:
        """What the machine makes of a stored update; its Committed follows the synced save."""
        device, offer, error = outcome.arrival.device, outcome.arrival.offer, outcome.error
        self._ingest.finished(outcome)
        said = self._queue.offer(device)
        if said.attempt != offer.attempt:  # it was checked for an opening of the round that is not the open one
            self._end(device, offer)
            self._runner.feed(rounds.Offered(device, said))
            return
        if isinstance(error, OSError | StoreUnavailable):
            self._put_off(device, offer, error)
            return
        if isinstance(error, AdapterError):
            self._runner.feed(rounds.Spoiled(device, offer, type(error).__name__, str(error), final=True))
        elif isinstance(error, BlobLost):  # of what it started from; no device is to blame
            self._runner.feed(rounds.Lost(frozenset([error.sha256])))
        elif error is not None:
            raise error
        else:
            if outcome.sketch is not None:
                self._learning.remember(outcome.arrival.trace, outcome.sketch)
            self._runner.feed(rounds.Stored(device, offer, outcome.norm))
        self._end(device, offer)

    def _put_off(self, device: str, offer: Offer, error: OSError | StoreUnavailable) -> None:
        """Our own disk fails. Nothing was promised of the update; its device offers it again."""
        self._troubled(f"The update of {device} cannot be stored: {error}")
        self._queue.end(device, offer.manifest.sha256)

    def _end(self, device: str, offer: Offer) -> None:
        self._queue.end(device, offer.manifest.sha256)
        self._sessions.settle(device, offer.manifest.sha256)
