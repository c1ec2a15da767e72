"""The running coordinator: connects the round machine to a transport, a store and the learning methods.

One thread owns everything. The transport's callbacks only put arrivals into a bounded inbox. The loop takes all of them
out, feeds the round machine, saves its state once for all, and only then carries out the machine's actions: only a
saved state takes effect. Two other threads do what takes long: one checks and stores complete updates, see
`transfers.ingest`, one clusters and aggregates, see `learning.worker`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from coordinator import rounds
from coordinator.config import BaseModel, Federation, read_base_model
from coordinator.identity import (
    HAS_LEFT,
    JOIN_NEEDED,
    REVOKED,
    Admissions,
    Greetings,
    Home,
    Keys,
    Leadership,
    Presences,
    Refusal,
)
from coordinator.ingress import FEDERATION_FULL, TOO_MANY_DOWNLOADS, Gate, Inbox, Item, Rates, Reaction
from coordinator.learning import Answer, Learning, LearningWorker
from coordinator.runner import Runner
from coordinator.server import takeover
from coordinator.store import Backoff, Database, open_blobs
from coordinator.telemetry import (
    CHUNK,
    CLEARING,
    INVALID,
    REPEATED_CHUNK,
    REPEATED_HELLO,
    STALE_COORDINATOR,
    STALE_PRESENCE,
    STRANGERS_LEAVE,
    STRANGERS_PRESENCE,
    STRANGERS_TRANSFER,
    UNASKED_CHUNK,
    Counters,
    OnEvent,
    Reports,
    Troubles,
)
from coordinator.transfers import Deliveries, Publisher, Sessions, Spool, Uploads
from edge_sdk.errors import (
    AccessDenied,
    BlobLost,
    BrokerSettingsInvalid,
    ImpastoError,
    MessageInvalid,
    StoreUnavailable,
    Superseded,
    TransportError,
)
from edge_sdk.transport import Reminder, Settings, Will, create, fresh_id, hang_up
from edge_sdk.wire import (
    Committed,
    CoordinatorState,
    Finished,
    Hello,
    Join,
    Leave,
    Message,
    Offer,
    Presence,
    Pull,
    Refused,
    RoundStart,
    Topics,
    Welcome,
    check_room,
    decode,
    decode_chunk,
    exchange,
)

CONNECT_DEADLINE = 30.0
_WILL_DELAY = 5.0
# Bytes of messages, and of chunks, that may wait while the loop computes; at most 32 MiB of chunks are asked for.
_INBOX = 64 << 20
# Seconds of taking in arrivals before the state is saved; a longer batch would delay answers and ticks.
_BATCH = 0.05
# Seconds between two readings of the revoked devices; they are also read before every round and every tick.
_LOOK = 5.0
# Seconds that an older instance on this home may take to stop, and seconds between two checks.
_GIVE_WAY, _GLANCE = 30.0, 0.05
# Longest sleep of the loop, so that a stop is noticed.
_NAP = 0.5
# Seconds to wait at the end for a computation; the next start begins it anew.
_END = 5.0
# Seconds of a wait before it is reported, and seconds between two checks of a changing wait.
_SILENCE, _LOOKS = 5.0, 1.0
# Seconds that our own state may take to come back from the broker.
_ECHO = 10.0

_log = logging.getLogger(__name__)


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
        base = read_base_model(federation.description, federation.layers)
        self._federation = federation
        self._base = base
        self._rules = federation.rules(base)
        self._topics = Topics(federation.name)
        with ExitStack() as opened:
            self._home = Home(federation.home, federation.name)
            opened.callback(self._home.close)
            self._database = Database(federation.database, federation.name, base.base_id)
            opened.callback(self._database.close)
            self._open(federation, base, settings, on_event)
            opened.pop_all()

    def _open(
        self, federation: Federation, base: BaseModel, settings: Settings | None, on_event: OnEvent | None
    ) -> None:
        self._blobs = open_blobs(federation.blobs)
        takeover.check(self._database, self._blobs, federation, base)
        self._keys = Keys(self._home.folder, federation.name)
        self._admissions = Admissions(self._database.engine, by_invitation=federation.join == "invited")
        self._learning = Learning(federation, base, self._database.profiles, self._blobs, self._database.sketches)
        self._counters = Counters(*self._database.traffic())
        self._runner = Runner(self._rules, self._database, self._traffic)
        self._swept = self._state.round
        self._report = Reports(on_event, self._counters)
        self._inbox: Inbox[Item] = Inbox(_INBOX)
        self._limits = federation.limits(self._rules.max_update)
        self._gate = Gate(self._inbox, self._topics, self._limits, lambda device: device in self._state.devices)
        self._stopped = threading.Event()
        self._connection = connection = settings or federation.connection()
        if connection.will is not None:
            raise BrokerSettingsInvalid("A coordinator has a will of its own: leave `will` out of the settings.")
        self._reminder = Reminder(_SILENCE)
        self._away_since: float | None = None  # time at which the connection was lost; None while there is one
        # State and connection at the last check for a reminder, and the time of the next check.
        self._reminded: tuple[rounds.State | None, float | None] = (None, None)
        self._remind_at = 0.0
        self._deaf_at: float | None = None  # when our own state should have come back
        spool = Spool(self._home.folder / "spool")
        self._downloads = Rates(self._limits.messages, self._limits.downloads, TOO_MANY_DOWNLOADS)
        self._sessions = Sessions(self._blobs, spool, 2 * self._rules.max_update, connection.bandwidth, self._downloads)
        self._look_at = 0.0
        self._retry_at: float | None = None
        self._backoff = Backoff()
        self._troubles = Troubles(self._report)
        self._begun = False
        # Twice as many as may join, so that devices that have not joined displace each other first.
        self._presences = Presences(2 * self._limits.devices)
        self._greetings = Greetings(federation.name)
        self._shown: set[str] = set()  # devices that showed presence since the last lost connection
        self._superseded_by: int | None = None
        self._epoch = self._database.next_epoch()
        self._leadership = Leadership(self._keys, federation.name, base.base_id, federation.privacy, self._epoch)
        self._transport = create(
            replace(
                connection,
                # An id per instance: two coordinators of one id would disconnect each other. The epoch decides instead.
                client_id=connection.client_id or fresh_id("coordinator"),
                will=Will(self._topics.coordinator_state, self._leadership.offline, delay=_WILL_DELAY),
                on_connection=self._connection_changed,
                on_trouble=self._troubled,
            )
        )
        self._publisher = Publisher(
            self._transport, self._topics, self._keys.signer, self._epoch, self._counters, self._report
        )
        self._deliveries = Deliveries(self._runner, self._report)
        self._uploads = Uploads(
            self._rules, self._runner, self._sessions, self._publisher, self._deliveries, self._learning, self._blobs,
            self._limits, self._inbox, self._troubles,
        )  # fmt: skip
        self._worker = LearningWorker(
            self._learning,
            self._blobs,
            lambda answer: self._inbox.put(lambda: self._answered(answer), 0),
            lambda reason: self._inbox.put(lambda: self._troubles.note("learning", reason), 0),
        )

    def close(self) -> None:
        """Release the home without having run. Not needed after `run`."""
        self._transport.close()
        self._sessions.close()
        self._database.close()
        self._home.close()

    @property
    def state(self) -> rounds.State:
        """Current state of the rounds."""
        return self._state

    @property
    def _state(self) -> rounds.State:
        return self._runner.state

    def stop(self) -> None:
        """Let `run` return soon; from any thread or signal handler."""
        self._stopped.set()
        self._transport.hurry()

    def run(self, *, once: bool = False) -> None:
        """Coordinate until `stop`; with `once`, until the last round is closed and every device has been served.

        At the end devices are told that the coordinator is offline, unless another one has taken over. May be called
        once.

        Raises:
            BrokerUnreachable: no connection at the start; the message has the reason.
            AccessDenied: the broker's rules do not let the coordinator subscribe.
            PayloadTooLarge: the broker's largest payload is too small for a federation.
            HomeInUse: another coordinator has the home open, and does not stop.
            ConfigurationError, StoreUnavailable: as in the constructor, after another coordinator has released the
                home.
            Superseded: another coordinator of this federation has taken over.
        """
        superseded: Superseded | None = None
        try:
            self._uploads.start()
            self._worker.start()
            if self._connection.exposed:
                self._report("password_exposed", broker=self._connection.address.endpoint)
            self._transport.connect(
                CONNECT_DEADLINE, lambda error: self._report("broker_unreachable", reason=str(error))
            )
            check_room(self._transport.max_payload)
            self._begin()
            while not self._stopped.is_set():
                self._turn()
                self._remind(once)
                if once and rounds.all_served(self._rules, self._state, time.monotonic()):
                    break
            self._tell_of_drops(last=True)
            self._report.status(self._state, self._uploads.counts, last=True)
            self._report("coordinator_stopped", round=self._state.round)
        except Superseded as error:
            superseded = error
            with suppress(StoreUnavailable):
                self._report("coordinator_superseded", epoch=self._database.latest_epoch())
        finally:
            if self._begun and superseded is None and self._superseded_by is None:
                hang_up(self._transport, self._topics.coordinator_state, self._leadership.offline)
            else:  # the other coordinator publishes its own state
                self._transport.close()
            self._uploads.close()
            self._worker.close(_END)
            self._sessions.close()
            self._database.close()
            self._home.close()
        if superseded is not None:
            raise superseded
        if self._superseded_by is not None:
            raise Superseded(
                f"Another coordinator of federation {self._federation.name!r} (start {self._superseded_by}) has taken "
                "over on this broker. Stop the one that is not wanted, then start this one again. If there is no "
                "other, an earlier start was in the future (a clock was wrong): start again, it goes on from there."
            )

    def _begin(self) -> None:
        """Take the federation over and publish the coordinator's state; an older instance stops when it sees that."""
        if not self._home.held:
            self._report("home_awaited", holder=str(self._home.holder or "another process"))
            self._begun = True
            self._publish_state()
            self._wait_for_home()
            if self._stopped.is_set():
                return
        self._begun = True
        while not self._has_taken_over():
            if self._stopped.wait(self._backoff.next()):
                return
        self._backoff.reset()
        self._swept = self._state.round
        for topic_filter in (self._topics.all_up, self._topics.all_presence, self._topics.coordinator_state):
            self._transport.subscribe(topic_filter, self._gate.arrived)
        self._report("coordinator_started", epoch=self._epoch, rounds=self._rules.rounds, round=self._state.round)
        if not self._home.locked:
            self._report("home_unlocked", home=str(self._home.folder))
        # The state first: devices accept steps only from a coordinator that has shown its key.
        self._publish_state()
        self._deaf_at = time.monotonic() + _ECHO
        self._runner.feed(rounds.Restarted())
        self._settle()

    def _has_taken_over(self) -> bool:
        """Take the federation over; return False if a store does not allow it at present."""
        with self._enduring():
            takeover.take_over(
                self._database, self._runner, self._blobs, self._federation, self._base, self._keys, self._epoch,
                self._report,
            )  # fmt: skip
            self._counters.go_on_from(*self._database.traffic())
            self._greetings.load(self._database.profiles())
            self._troubles.over("state")
            return True
        return False

    def _wait_for_home(self) -> None:
        """Wait until the older instance releases the home; raise HomeInUse if it does not."""
        until = time.monotonic() + _GIVE_WAY
        while not self._home.take() and not self._stopped.wait(_GLANCE):
            if time.monotonic() >= until:
                raise self._home.in_use()

    # the loop -------------------------------------------------------------------------------------------------------

    def _connection_changed(self, online: bool) -> None:
        """Note a lost or restored connection. Called on the transport's thread.

        The broker may have published our will, or have lost its retained messages.
        """
        now = time.monotonic()
        if online:
            self._report("broker_back", seconds=now - (self._away_since or now))
            self._inbox.put(self._publish_state, 0)
            self._inbox.put(self._come_back, 0)
        else:
            self._inbox.put(self._shown.clear, 0)
            self._report("broker_lost", reason=str(self._transport.trouble or "no reason is known"))
        self._away_since = None if online else now
        if self._connection.on_connection:
            self._connection.on_connection(online)

    def _troubled(self, error: TransportError) -> None:
        """Report that the broker refuses a message, or that reconnecting fails for a new reason.

        Called on the transport's thread.
        """
        code, reason = type(error).__name__, str(error)
        self._report("broker_refused" if self._away_since is None else "broker_unreachable", code=code, reason=reason)
        if self._connection.on_trouble:
            self._connection.on_trouble(error)

    def _remind(self, once: bool) -> None:
        """Report from time to time what the federation waits for.

        Devices that stay after the last round are waited for only with `once`.
        """
        now, away = time.monotonic(), self._away_since
        state, was_away = self._reminded
        if now < self._remind_at or (state is self._state and was_away == away and not self._reminder.may_be_due(now)):
            return
        self._remind_at, self._reminded = now + min(_SILENCE, _LOOKS), (self._state, away)
        found = rounds.awaited(self._rules, self._state, now, named=False)
        if found and found.what == "goodbyes" and not once:
            found = None
        told = (found.what, self._state.round, found.there) if found else None
        subject = told if self._away_since is None else "broker"
        if (waited := self._reminder.due(subject, now)) is None:
            return
        found = found and rounds.awaited(self._rules, self._state, now)
        if self._away_since is not None:
            self._report("waiting", what="broker", seconds=waited, reason=str(self._transport.trouble or ""))
        elif found:
            left = None if found.until is None else max(0.0, found.until - now)
            self._report(
                "waiting",
                what=found.what,
                seconds=waited,
                there=found.there,
                needed=found.needed,
                awaited=list(found.names),
                left=left,
                unjoined=self._presences.online_but(self._state.devices) if found.what == "devices" else 0,
            )

    def _turn(self) -> None:
        item, until = self._inbox.get(self._patience()), time.monotonic() + _BATCH
        while item is not None:
            with self._enduring():
                item() if callable(item) else self._take(*item)
            item = self._inbox.get(0) if time.monotonic() < until else None
        self._settle()
        self._tell_of_drops()
        self._report.status(self._state, self._uploads.counts)
        now = time.monotonic()
        if self._leadership.due is not None and self._leadership.due <= now:
            self._leadership.restated(now)
            self._publish_state()
        if self._deaf_at is not None and self._deaf_at <= now:
            self._listen_to_ourselves()
        for device, effects in self._sessions.tick(now):
            self._uploads.consume(device, effects)
        wake = self._next_wake()
        due = wake is not None and wake <= now
        if due or now >= self._look_at:
            with self._enduring():
                self._shut_out()
        if due:
            self._runner.feed(rounds.Tick())
        self._uploads.pull()
        self._settle()

    def _listen_to_ourselves(self) -> None:
        """Report if our own state has not come back.

        Many brokers confirm a forbidden subscription and deliver nothing.
        """
        self._deaf_at = None
        if not self._leadership.heard and self._away_since is None and self._transport.trouble is None:
            reason = (
                f"The broker at {self._connection.address.endpoint} has confirmed all subscriptions and delivers "
                f"nothing of {self._topics.coordinator_state}: its rules may keep this coordinator from hearing "
                "anybody. Let its user read and write impasto/1/# (docs/protocol.md, section 3; samples/broker/acl)."
            )
            self._report("broker_refused", code=AccessDenied.__name__, reason=reason)

    def _settle(self) -> None:
        """Save and act, unless that failed a moment ago; then everything stays due."""
        now = time.monotonic()
        if self._retry_at is not None and now < self._retry_at:
            return
        due = not self._runner.settled
        with self._enduring():
            self._retry_at = now + self._backoff.next()
            self._runner.settle(self._act)
            if self._state.round != self._swept and not self._worker.is_busy:
                self._forget_what_is_over()
                self._swept = self._state.round
            self._retry_at = None
            self._backoff.reset()
            if due:
                self._troubles.over("state")

    @contextmanager
    def _enduring(self) -> Iterator[None]:
        """Report a failing store, whose work is retried later; it ends no federation."""
        try:
            yield
        except StoreUnavailable as error:
            self._troubles.note("state", str(error))

    def _patience(self) -> float:
        now = time.monotonic()
        dues = (self._sessions.due(now), self._next_wake(), self._leadership.due, self._retry_at)
        return max(0.0, min([now + _NAP, *(due for due in dues if due is not None)]) - now)

    def _next_wake(self) -> float | None:
        """Return the time at which the machine needs a Tick; None if never."""
        return self._uploads.postponed(self._runner.next_wake())

    def _take(self, topic: str, payload: bytes) -> None:
        """Handle one message; a faulty one is refused by name and has no other effect.

        Only reading the message is guarded: an error of our own (a lost blob, say) must not count as the device's.
        """
        device = ""
        try:
            if topic == self._topics.coordinator_state:
                react = self._read_coordinator(payload)
            else:
                device = self._topics.device_of(topic)
                react = self._read(device, topic, payload)
        except ImpastoError as error:
            code, reason = type(error).__name__, str(error)
            self._report("refused", device=device, code=code, reason=reason)
            if device in self._state.devices:
                self._send(device, Refused(code=code, reason=reason[:1000]))
        else:
            react()

    def _read(self, device: str, topic: str, payload: bytes) -> Reaction:
        """Return the reaction to a device's message."""
        known = device in self._state.devices
        if not payload:  # an empty retained message only clears a topic
            self._counters.add("up", CLEARING, 0)
            return _nothing
        if topic == self._topics.chunks(device, "up"):
            self._counters.add("up", CHUNK, len(payload))
            chunk = decode_chunk(payload)
            if device not in self._sessions:  # nothing is pulled from devices that have not joined
                return self._ignoring(UNASKED_CHUNK)
            return self._read_chunk(device, chunk.sha256, payload)
        message = self._decoded(payload)
        on_presence = topic == self._topics.presence(device)
        match message:
            case Presence() if on_presence:
                if known and not message.online and not rounds.is_death(self._state.devices[device], message.epoch):
                    return self._ignoring(STALE_PRESENCE)
                self._presences.note(device, message)
                if not known:
                    return self._ignoring(STRANGERS_PRESENCE)
                return lambda: self._see(device, message)
            case Join() if not on_presence:
                return lambda: self._admit(device, message)
            case Hello() if not on_presence and self._greetings.is_repeated(device, message):
                return self._ignoring(REPEATED_HELLO)
            case Hello() if not on_presence:
                return lambda: self._greet(device, message)
            case Leave() if not on_presence:
                return (lambda: self._leave(device, message.reason)) if known else self._ignoring(STRANGERS_LEAVE)
            case Offer() if not on_presence:
                return lambda: self._consider(device, message)
            case Pull() | Committed() | Refused() if not on_presence and not known:
                return self._ignoring(STRANGERS_TRANSFER)
            case Pull() if not on_presence and self._state.devices[device].left:
                return lambda: self._refuse_pull(device, message)
            case Pull() | Committed() | Refused() if not on_presence:
                effects = self._sessions.on_message(device, message, time.monotonic())
                return lambda: self._go_on(device, effects)
        raise MessageInvalid(f"A {type(message).__name__} does not belong on {topic}.")

    def _ignoring(self, reason: str) -> Reaction:
        return lambda: self._counters.ignore(reason)

    def _decoded(self, payload: bytes) -> Message:
        try:
            message = decode(payload)
        except MessageInvalid:
            self._counters.add("up", INVALID, len(payload))
            raise
        self._counters.add("up", type(message).__name__.lower(), len(payload))
        return message

    def _admit(self, device: str, join: Join) -> None:
        full = device not in self._state.devices and len(self._state.devices) >= self._limits.devices
        spare = self._replaceable() if full else None
        if full and spare is None:
            self._refuse(device, Refusal(FEDERATION_FULL, self._limits.reason(FEDERATION_FULL)), about="join")
        elif refusal := self._admissions.problem(device, join.invitation, now=time.time()):
            self._turn_away(device, refusal, about="join")
        else:
            self._runner.feed(rounds.Joined(device, join.profile, self._presences.last(device)))
            if device in self._state.devices:
                self._greetings.joined(device, join.profile)
            if spare is not None and device in self._state.devices:
                self._forget(spare)

    def _greet(self, device: str, hello: Hello) -> None:
        """Answer a hello; a step of the machine is needed only for a device that may have missed something."""
        known = self._state.devices.get(device)
        if known is None or known.left or not self._greetings.accept(device, hello):
            self._send(device, Refused(code=JOIN_NEEDED.code, reason=JOIN_NEEDED.reason, about="hello"))
        elif self._runner.settled and rounds.has_all(self._state, device):
            self._send(device, Welcome(round=self._state.round, rounds=self._rules.rounds))
        else:
            self._runner.feed(rounds.Greeted(device))

    def _replaceable(self) -> str | None:
        """Return a device that a newcomer may replace, None if there is none."""
        self._settle()
        if not self._runner.settled:
            return None
        return rounds.replaceable(self._rules, self._state, time.monotonic(), self._admissions.revoked)

    def _forget(self, device: str) -> None:
        self._settle()
        if not self._runner.settled:  # open actions may need this device and its profile
            return
        self._runner.feed(rounds.Forgotten(device))
        self._uploads.forget_device(device)
        self._sessions.forget(device)
        self._gate.forget(device)
        self._greetings.forget(device)
        self._deliveries.forget(device)
        self._shown.discard(device)

    def _consider(self, device: str, offer: Offer) -> None:
        if refusal := self._admissions.problem(device, now=time.time()):
            self._turn_away(device, refusal, about=offer.manifest.sha256)
        else:
            self._runner.feed(rounds.Heard(device, offers=True))
            self._runner.feed(rounds.Offered(device, offer))

    def _see(self, device: str, presence: Presence) -> None:
        if presence.online:
            self._shown.add(device)
        self._runner.feed(rounds.Seen(device, presence.online, presence.epoch))

    def _come_back(self) -> None:
        """Feed the reconnection: the broker may have lost all that it retained."""
        self._runner.feed(rounds.Reconnected(frozenset(self._shown)))

    def _go_on(self, device: str, effects: list[exchange.Effect]) -> None:
        """Continue a transfer after a message of its device."""
        if self._state.devices[device].until is not None:
            self._runner.feed(rounds.Heard(device))
        self._uploads.consume(device, effects)

    def _refuse_pull(self, device: str, pull: Pull) -> None:
        self._refuse(device, self._admissions.problem(device, now=time.time()) or HAS_LEFT, about=pull.sha256)

    def _shut_out(self) -> None:
        """Remove revoked devices, including those that send nothing that could be refused."""
        self._look_at = time.monotonic() + _LOOK
        devices = self._state.devices
        for device in sorted(self._admissions.revoked & devices.keys()):
            if not devices[device].left:
                self._turn_away(device, REVOKED, about="join")

    def _refuse(self, device: str, refusal: Refusal, *, about: str) -> None:
        self._report("refused", device=device, code=refusal.code, reason=refusal.reason)
        self._send(device, Refused(code=refusal.code, reason=refusal.reason, about=about))

    def _turn_away(self, device: str, refusal: Refusal, *, about: str) -> None:
        self._refuse(device, refusal, about=about)
        if device in self._state.devices:
            self._leave(device, refusal.code, shut_out=True)

    def _leave(self, device: str, reason: str, *, shut_out: bool = False) -> None:
        self._sessions.dismiss(device)
        self._runner.feed(rounds.Left(device, reason, shut_out))

    def _read_chunk(self, device: str, of: str, payload: bytes) -> Reaction:
        asked = self._sessions.progress(device, of) is not None
        effects = self._uploads.chunk(device, payload)
        if not any(isinstance(effect, exchange.Arrived) for effect in effects):
            self._counters.ignore(REPEATED_CHUNK if asked else UNASKED_CHUNK)
        return lambda: self._uploads.consume(device, effects)

    def _read_coordinator(self, payload: bytes) -> Reaction:
        """Return the reaction to a message on our own topic.

        An older instance's will may come late, a newer instance may have started elsewhere, and others may publish
        there without right; that is overwritten.
        """
        now = time.monotonic()
        try:
            if not payload:
                self._counters.add("up", CLEARING, 0)
                self._leadership.contested(now)
                return _nothing
            state = self._decoded(payload)
            if not isinstance(state, CoordinatorState):
                raise MessageInvalid(f"A {type(state).__name__} does not belong on the coordinator's topic.")
            later = self._leadership.read(state, now)
        except ImpastoError:
            self._leadership.contested(now)
            raise
        if later is not None:
            return lambda: self._give_way(later)
        return self._ignoring(STALE_COORDINATOR) if state.epoch < self._epoch else _nothing

    def _give_way(self, epoch: int) -> None:
        self._superseded_by = epoch
        self._report("coordinator_superseded", epoch=epoch)
        self.stop()
        self._database.note_epoch(epoch)  # at the end, as the disk may be full

    # the round machine ----------------------------------------------------------------------------------------------

    def _act(self, action: rounds.Action) -> rounds.Event | None:
        match action:
            case rounds.Send(device, message):
                try:
                    self._send(device, message)
                except BlobLost as error:
                    return self._cannot_send(device, message, error)
                if isinstance(message, Finished):
                    return self._deliveries.begin(device, message)
            case rounds.Report(event, values):
                self._report(event, **values)
            case rounds.Fetch(device, offer):
                return self._uploads.offered(device, offer)
            case rounds.Cluster() | rounds.Aggregate() | rounds.Place():
                if isinstance(action, rounds.Cluster):  # a round is about to be opened
                    self._shut_out()
                self._worker.put(action, self._state)
        return None

    def _answered(self, answer: Answer) -> None:
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
            self._refuse(
                device, Refusal(rounds.ADAPTERS_LOST, f"{error} Ask the operator of the federation."), about="join"
            )
        return rounds.Lost(frozenset([error.sha256]))

    def _forget_what_is_over(self) -> None:
        self._uploads.forget()
        self._database.check()  # a newer instance may need other blobs
        needed = self._state.blobs() | self._uploads.needed
        self._blobs.prune(needed)
        self._sessions.withdraw_all_but(needed)

    # going out ------------------------------------------------------------------------------------------------------

    def _send(self, device: str, message: Message) -> None:
        if isinstance(message, RoundStart | Finished):
            message = self._publisher.fitted(message)
            self._sessions.offer(device, message.manifests)
        self._publisher.send(device, message)

    def _publish_state(self) -> None:
        self._publisher.state(self._leadership.online)

    def _tell_of_drops(self, *, last: bool = False) -> None:
        messages, chunks = self._inbox.dropped()
        if messages or chunks:
            self._report("messages_dropped", messages=messages, chunks=chunks)
        asked = self._downloads.exceeded(time.monotonic(), all_of_it=last)
        for excess in (*self._gate.exceeded(all_of_it=last), *asked):
            values = {"code": excess.code, "messages": excess.messages, "size": excess.bytes}
            self._report("over_quota", device=excess.sender, **values)
            if excess.sender == self._topics.coordinator_state:  # the dropped message may be the retained one
                self._leadership.overlooked(time.monotonic())
            if excess.sender in self._state.devices:
                self._send(excess.sender, Refused(code=excess.code, reason=self._limits.reason(excess.code)))

    def _traffic(self) -> tuple[int, int]:
        totals = self._counters.totals
        return totals["up"], totals["down"]


def _nothing() -> None:
    """Do nothing: the reaction to a message that needs none."""
