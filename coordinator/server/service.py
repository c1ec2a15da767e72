"""The running coordinator: connects the round machine to a transport, a store and the learning methods.

One thread owns everything. The transport's callbacks only put arrivals into a bounded inbox. The loop takes all of them
out, feeds the round machine, saves its state once for all, and only then carries out the machine's actions: only a
saved state takes effect. Two other threads do what takes long: one checks and stores complete updates, see
`transfers.ingest`, one clusters and aggregates, see `learning.worker`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from coordinator import rounds
from coordinator.config import Federation, read_base_model
from coordinator.identity import Admissions, Greetings, Home, Keys, Leadership, Presences
from coordinator.ingress import TOO_MANY_DOWNLOADS, Gate, Inbox, Item, Rates
from coordinator.learning import Learning
from coordinator.runner import Runner
from coordinator.server import takeover
from coordinator.server.cleanup import Cleanup
from coordinator.server.connection import Connection
from coordinator.server.departures import Departures
from coordinator.server.ending import Ending
from coordinator.server.eviction import Eviction
from coordinator.server.loop import Loop
from coordinator.server.messages import Forgetting, Joining, Rivals, Router, TransferMessages
from coordinator.server.outgoing import Outgoing
from coordinator.server.overload import Overload
from coordinator.server.performer import Performer
from coordinator.store import Backoff, Database, open_blobs
from coordinator.telemetry import Counters, OnEvent, Reminders, Reports, Troubles
from coordinator.transfers import Deliveries, Sessions, Spool, Uploads
from edge_sdk.errors import Superseded
from edge_sdk.transport import Settings
from edge_sdk.wire import Topics

# Bytes of messages, and of chunks, that may wait while the loop computes; at most 32 MiB of chunks are asked for.
_INBOX = 64 << 20


class Service:
    """Coordinates one federation.

    Args:
        federation: the federation file, loaded.
        settings: settings of the transport, if the broker's URL in the file is not enough. The will is filled in, and
            the client id if it is empty. Their callbacks are called as well.
        on_event: called with a dict of plain values for every event. It always contains "event", "time" (Unix seconds)
            and "bytes" ({"up", "down"}: payload bytes since the federation began); docs/coordinator.md lists the rest.
            One call at a time, on the thread of `run`, or on the transport's for events of the connection. An error
            that it raises is logged and costs the event, except a ConfigurationError by the first event: that ends
            `run`.

    The home is opened here, unless another coordinator has it open; `run` then asks that one to stop. `run` releases
    the home at its end; call `close` if `run` is never called.

    Raises:
        ConfigurationError: the base model, the database or the blob store cannot be read, or the file was changed in a
            way that a started federation cannot follow.
        HomeInUse: the home or the blob store belongs to another federation.
        StoreUnavailable: the blob store does not answer.
        BrokerSettingsInvalid: the broker's URL or settings are invalid, or would have no effect.
    """

    def __init__(
        self, federation: Federation, *, settings: Settings | None = None, on_event: OnEvent | None = None
    ) -> None:
        self._federation = federation
        self._base = read_base_model(federation.description, federation.layers)
        self._rules = federation.rules(self._base)
        self._topics = Topics(federation.name)
        with ExitStack() as opened:
            self._home = Home(federation.home, federation.name)
            opened.callback(self._home.close)
            self._database = Database(federation.database, federation.name, self._base.base_id)
            opened.callback(self._database.close)
            self._open(on_event)
            self._connect(settings or federation.connection())
            opened.pop_all()

    def _open(self, on_event: OnEvent | None) -> None:
        """Make the parts that know no network."""
        federation, database = self._federation, self._database
        self._epoch = database.next_epoch()
        rules = self._rules = msgspec.structs.replace(self._rules, epoch=self._epoch)
        self._blobs = open_blobs(federation.blobs)
        takeover.check(database, self._blobs, federation, self._base)
        self._keys = Keys(self._home.folder, federation.name)
        self._admissions = Admissions(database.engine, by_invitation=federation.join == "invited")
        database.erases_also(self._admissions.erase)
        self._learning = Learning(federation, self._base, database.profiles, self._blobs, database.sketches)
        self._counters = Counters(*database.traffic())
        self._runner = Runner(rules, database, self._counters.traffic)
        self._report = Reports(on_event, self._counters)
        self._troubles = Troubles(self._report)
        self._inbox: Inbox[Item] = Inbox(_INBOX)
        self._limits = federation.limits(rules.max_update)
        self._gate = Gate(self._inbox, self._topics, self._limits, lambda device: device in self.state.devices)
        # Twice as many as may join, so that devices that have not joined displace each other first.
        self._presences = Presences(2 * self._limits.devices)
        self._greetings = Greetings(federation.name)
        self._leadership = Leadership(
            self._keys,
            federation.name,
            self._base.base_id,
            federation.privacy,
            self._epoch,
            masked=federation.masking is not None,
            noise=federation.noise,
        )

    def _connect(self, settings: Settings) -> None:
        """Make the connection and all that goes over it; `run` opens it."""
        runner, inbox, counters, report = self._runner, self._inbox, self._counters, self._report
        self._connection = Connection(
            settings, self._topics, self._leadership, self._keys.signer, self._epoch, inbox, runner, counters, report
        )
        publisher = self._connection.publisher
        downloads = Rates(self._limits.messages, self._limits.downloads, TOO_MANY_DOWNLOADS)
        spool = Spool(self._home.folder / "spool")
        self._sessions = Sessions(self._blobs, spool, 2 * self._rules.max_update, settings.bandwidth, downloads)
        outgoing = Outgoing(publisher, self._sessions, report)
        departures = Departures(runner, self._admissions, self._sessions, outgoing)
        deliveries = Deliveries(runner, report)
        self._uploads = Uploads(
            self._rules, runner, self._sessions, publisher, deliveries, self._learning, self._blobs, self._limits,
            inbox, self._troubles,
        )  # fmt: skip
        self._cleanup = Cleanup(self._database, self._blobs, self._uploads, self._sessions, self._learning)
        accounts = (
            self._uploads.forget_device, self._sessions.forget, self._gate.forget, deliveries.forget,
            self._connection.forget,
        )  # fmt: skip
        self._performer = Performer(
            runner, self._learning, self._blobs, inbox, outgoing, self._uploads, deliveries, departures, self._cleanup,
            report, self._troubles, (*accounts, self._presences.forget),
        )  # fmt: skip
        self._ending = Ending(
            self._federation.name, self._connection, self._uploads, self._performer, self._sessions, self._database,
            self._home, report,
        )  # fmt: skip
        forgotten = (*accounts, self._greetings.forget)
        eviction = Eviction(self._rules, runner, self._performer, self._admissions, forgotten)
        joining = Joining(
            self._rules, runner, self._limits, self._admissions, self._greetings, self._presences, eviction,
            departures, self._connection, outgoing, counters,
        )  # fmt: skip
        transfers = TransferMessages(
            runner, self._admissions, self._sessions, self._uploads, departures, outgoing, counters
        )
        forgetting = Forgetting(runner, self._performer, self._greetings, outgoing)
        rivals = Rivals(self._leadership, self._epoch, self._ending, counters)
        router = Router(self._topics, runner, joining, transfers, forgetting, rivals, outgoing, counters, report)
        self._overload = Overload(
            inbox, self._gate, downloads, self._limits, self._topics, self._leadership, runner, outgoing, report
        )
        self._loop = Loop(
            inbox, router, runner, self._performer, self._uploads, self._sessions, departures, self._leadership,
            self._connection, self._overload, report, self._troubles,
        )  # fmt: skip

    def close(self) -> None:
        """Release the home without having run. Not needed after `run`."""
        self._ending.release()

    @property
    def state(self) -> rounds.State:
        """Current state of the rounds."""
        return self._runner.state

    def stop(self) -> None:
        """Let `run` return soon; from any thread or signal handler."""
        self._ending.stop()

    def run(self, *, once: bool = False, on_turn: Callable[[], None] | None = None) -> None:
        """Coordinate until `stop`; with `once`, until the last round is closed and every device has been served.

        At the end devices are told that the coordinator is offline, unless another one has taken over. May be called
        once.

        on_turn: called on this thread at each turn of the loop, at least every second or so; feed a watchdog with it.

        Raises:
            BrokerUnreachable: no connection at the start; the message has the reason.
            AccessDenied: the broker's rules do not let the coordinator subscribe.
            PayloadTooLarge: the broker's largest payload is too small for a federation.
            HomeInUse: another coordinator has the home open, and does not stop.
            ConfigurationError, StoreUnavailable: as in the constructor, after another coordinator has released the
                home.
            Superseded: another coordinator of this federation has taken over.
        """
        reminders = Reminders(self._rules, self._presences, self._report, goodbyes=once)
        try:
            self._uploads.start()
            self._performer.start()
            self._connection.open()
            self._begin()
            while not self._ending.is_asked:
                if on_turn is not None:
                    on_turn()
                self._loop.turn()
                reminders.tell(self.state, self._connection.away_since, self._connection.trouble)
                if once and rounds.all_served(self._rules, self.state, time.monotonic()):
                    break
            self._overload.tell(last=True)
            self._report.status(self.state, self._uploads.counts, last=True)
            self._report("coordinator_stopped", round=self.state.round)
        except Superseded as error:
            self._ending.was_superseded(error)
        finally:
            self._ending.close()
        self._ending.check()

    def _begin(self) -> None:
        """Take the federation over and publish the coordinator's state; an older instance stops when it sees that."""
        if not self._home.held:
            self._report("home_awaited", holder=str(self._home.holder or "another process"))
            self._ending.speak()
            self._connection.publish_state()
            takeover.wait_for_home(self._home, self._ending)
            if self._ending.is_asked:
                return
        self._ending.speak()
        backoff = Backoff()
        while not self._has_taken_over():
            if self._ending.wait(backoff.next()):
                return
        self._cleanup.begin(self.state)
        self._connection.subscribe(self._gate.arrived)
        self._report("coordinator_started", epoch=self._epoch, rounds=self._rules.rounds, round=self.state.round)
        if not self._home.locked:
            self._report("home_unlocked", home=str(self._home.folder))
        # The state first: devices accept steps only from a coordinator that has shown its key.
        self._connection.publish_state()
        self._connection.expect_echo()
        self._runner.feed(rounds.Restarted())
        self._performer.settle()

    def _has_taken_over(self) -> bool:
        """Take the federation over; return False if a store does not allow it at present."""
        with self._troubles.enduring("state"):
            takeover.take_over(
                self._database, self._runner, self._blobs, self._federation, self._base, self._keys, self._epoch,
                self._report,
            )  # fmt: skip
            self._counters.go_on_from(*self._database.traffic())
            self._greetings.load(self._database.profiles(), self._database.keys_of_erased())
            self._troubles.over("state")
            return True
        return False
