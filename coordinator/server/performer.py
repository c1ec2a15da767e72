"""The performer: saves the state, then carries out the machine's actions; only a saved state takes effect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from coordinator import rounds
from coordinator.identity import Refusal
from coordinator.ingress import Inbox, Item
from coordinator.learning import Answer, Learning, LearningWorker
from coordinator.runner import Runner
from coordinator.server.cleanup import Cleanup
from coordinator.server.departures import Departures
from coordinator.server.outgoing import Outgoing
from coordinator.store import Backoff, StoredBlobs
from coordinator.telemetry import Reports, Troubles
from coordinator.transfers import Deliveries, Uploads
from edge_sdk.errors import BlobLost
from edge_sdk.wire import Finished, Message

# Seconds to wait at the end for a computation; the next start begins it anew.
_END = 5.0


class Performer:
    """Carries out the actions of one federation; `start` and `close` it.

    Args:
        runner: has the actions, and is fed the answers.
        learning, blobs: cluster and aggregate, on a thread.
        inbox: the loop's inbox, for answers of that thread.
        outgoing: sends messages.
        uploads: fetch updates.
        deliveries: are told of adapters that devices are to keep.
        departures: shut revoked devices out before a round is opened.
        cleanup: drops what is over after a round.
        report: reports events.
        troubles: is told of a store that does not work.
        accounts: forget an erased device; one for each part that keeps something of devices.

    Attributes:
        retry_at: time of the next attempt after a store has failed; None if none has.
    """

    def __init__(
        self, runner: Runner, learning: Learning, blobs: StoredBlobs, inbox: Inbox[Item], outgoing: Outgoing,
        uploads: Uploads, deliveries: Deliveries, departures: Departures, cleanup: Cleanup, report: Reports,
        troubles: Troubles, accounts: Iterable[Callable[[str], None]],
    ) -> None:  # fmt: skip
        self._runner = runner
        self._outgoing = outgoing
        self._uploads = uploads
        self._deliveries = deliveries
        self._departures = departures
        self._cleanup = cleanup
        self._report = report
        self._troubles = troubles
        self._accounts = tuple(accounts)
        self._worker = LearningWorker(
            learning,
            blobs,
            lambda answer: inbox.put(lambda: self._take(answer), 0),
            lambda reason: inbox.put(lambda: troubles.note("learning", reason), 0),
        )
        self._backoff = Backoff()
        self.retry_at: float | None = None

    def start(self) -> None:
        """Start the learning thread. At most once."""
        self._worker.start()

    def close(self) -> None:
        """Stop the learning thread, and leave open questions to the next start."""
        self._worker.close(_END)

    def settle(self) -> None:
        """Save and act, unless that failed a moment ago; then everything stays due.

        Raises:
            Superseded: a newer instance has taken over; nothing was saved.
        """
        now = time.monotonic()
        if self.retry_at is not None and now < self.retry_at:
            return
        due = not self._runner.settled
        with self._troubles.enduring("state"):
            self.retry_at = now + self._backoff.next()
            self._runner.settle(self._act)
            if self._cleanup.is_due(self._runner.state) and not self._worker.is_busy:
                self._cleanup.clean(self._runner.state)
            self.retry_at = None
            self._backoff.reset()
            if due:
                self._troubles.over("state")

    def _act(self, action: rounds.Action) -> rounds.Event | None:
        match action:
            case rounds.Send(device, message):
                try:
                    self._outgoing.send(device, message)
                except BlobLost as error:
                    return self._cannot_send(device, message, error)
                if isinstance(message, Finished):
                    return self._deliveries.begin(device, message)
            case rounds.Report(event, values):
                self._report(event, **values)
            case rounds.Fetch(device, offer):
                return self._uploads.offered(device, offer)
            case rounds.Erased(device, key):
                for forget in self._accounts:
                    forget(device)
                self._cleanup.erase()
                self._outgoing.confirm(device, key)
            case rounds.Cluster() | rounds.Aggregate() | rounds.Place():
                if isinstance(action, rounds.Cluster):  # a round is about to be opened
                    self._departures.shut_out_revoked()
                self._worker.put(action, self._runner.state)
        return None

    def _take(self, answer: Answer) -> None:
        """Feed an answer of the learning thread to the machine, unless its question has become void."""
        if not self._worker.taken(answer):
            return
        self._troubles.over("learning")
        if answer.error is not None:
            raise answer.error
        if answer.event is not None:
            self._runner.feed(answer.event)

    def _cannot_send(self, device: str, message: Message, error: BlobLost) -> rounds.Event:
        """Handle a lost adapter that a device needs. After the last round only the operator can restore it."""
        if isinstance(message, Finished):
            reason = f"{error} Ask the operator of the federation."
            self._outgoing.refuse(device, Refusal(rounds.ADAPTERS_LOST, reason), about="join")
        return rounds.Lost(frozenset([error.sha256]))
