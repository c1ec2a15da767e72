"""The coordinator at work: binds the round machine to a transport, a store and the learning methods.

One thread owns everything. The transport's callbacks only put what arrives into a bounded inbox; the loop takes out
what there is, feeds the round machine, saves its state once for all of it, and only then carries out the machine's
actions: what is not saved has not happened. Another thread checks and stores updates that came whole, see `storing`.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

from coordinator import rounds
from coordinator.admission import HAS_LEFT, REVOKED, Admissions, Refusal
from coordinator.claim import Claim
from coordinator.config import Federation, read_base_model
from coordinator.gate import Gate
from coordinator.inbox import Inbox, Item, Reaction
from coordinator.keys import Keys
from coordinator.learning import Learning
from coordinator.ledger import Ledger
from coordinator.outgoing import Outgoing
from coordinator.peers import UPDATE, Peers
from coordinator.quotas import FEDERATION_FULL, TOO_MANY_DOWNLOADS, Rates
from coordinator.reports import OnEvent, Reports
from coordinator.store import Database, Spool, open_blobs
from coordinator.tally import (
    CHUNK,
    CLEARING,
    INVALID,
    REPEATED_CHUNK,
    STALE_COORDINATOR,
    STALE_PRESENCE,
    STRANGERS_LEAVE,
    STRANGERS_PRESENCE,
    STRANGERS_TRANSFER,
    UNASKED_CHUNK,
    Tally,
)
from coordinator.uploads import Uploads
from edge_sdk.errors import BrokerSettingsInvalid, ImpastoError, MessageInvalid, Superseded, TransportError
from edge_sdk.transport import Reminder, Settings, Will, create, fresh_id, hang_up
from edge_sdk.wire import exchange
from edge_sdk.wire.messages import (
    Committed,
    CoordinatorState,
    Finished,
    Join,
    Leave,
    Message,
    Offer,
    Presence,
    Pull,
    Refused,
    RoundStart,
    decode,
)
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import check_room, decode_chunk

CONNECT_DEADLINE = 30.0
_WILL_DELAY = 5.0
# Bytes of messages, and of chunks, that may wait while the loop computes; at most 32 MiB of chunks are asked for.
_INBOX = 64 << 20
# Seconds of taking in what has come before the state is saved: more would keep answers and ticks waiting.
_BATCH = 0.05
# Seconds after which it is looked again who was shut out; also before every round and every tick.
_LOOK = 5.0
# Longest sleep of the loop, so that a stop is noticed.
_NAP = 0.5
# Seconds of a wait before it is told what is waited for.
_SILENCE = 5.0

_log = logging.getLogger(__name__)


class Service:
    """Coordinates one federation.

    Args:
        federation: the federation file, loaded.
        settings: of the transport, where the broker's URL in the file is not enough; the will is filled in, and a
            client id where there is none. Their callbacks are called as well.
        on_event: called with a dict of plain values for everything worth telling: always "event", "time" (Unix seconds)
            and "bytes" ({"up", "down"}: payload bytes since the federation began); docs/coordinator.md lists the rest.
            Called by one thread at a time: by that of `run`, and by the transport's for what befalls the connection.

    Raises:
        ConfigurationError: the base model, the database or the blob store cannot be read.
        BrokerSettingsInvalid: the broker's URL or settings make no sense, or would have no effect.
    """

    def __init__(
        self, federation: Federation, *, settings: Settings | None = None, on_event: OnEvent | None = None
    ) -> None:
        base = read_base_model(federation)
        self._federation = federation
        self._base = base
        self._rules = federation.rules(base.base_id, base.update_size(federation.rank))
        self._topics = Topics(federation.name)
        self._keys = Keys(Path(str(federation.home)), federation.name)
        self._database = Database(str(federation.database), federation.name, base.base_id)
        self._admissions = Admissions(self._database.engine, by_invitation=federation.join == "invited")
        self._blobs = open_blobs(str(federation.blobs))
        self._learning = Learning(federation, base, self._database.profiles, self._blobs, self._database.sketches)
        self._tally = Tally(*self._database.traffic())
        self._ledger = Ledger(self._rules, self._database, self._traffic)
        self._swept = self._state.round
        self._report = Reports(on_event, self._tally)
        self._inbox: Inbox[Item] = Inbox(_INBOX)
        self._limits = federation.limits(self._rules.max_update)
        self._gate = Gate(self._inbox, self._topics, self._limits, lambda device: device in self._state.devices)
        self._stopped = threading.Event()
        self._connection = connection = settings or federation.connection()
        if connection.will is not None:
            raise BrokerSettingsInvalid("A coordinator has a will of its own: leave `will` out of the settings.")
        self._reminder = Reminder(_SILENCE)
        self._away_since: float | None = None  # there is no connection to the broker
        spool = Spool(Path(str(federation.home)) / "spool")
        self._downloads = Rates(self._limits.messages, self._limits.downloads, TOO_MANY_DOWNLOADS)
        self._peers = Peers(self._blobs, spool, 2 * self._rules.max_update, connection.bandwidth, self._downloads)
        self._uploads = Uploads(
            self._rules, self._ledger, self._peers, self._learning, self._blobs, self._limits, self._inbox,
            self._carry_out,
        )  # fmt: skip
        self._look_at = 0.0
        self._superseded_by: int | None = None
        self._finished_at: float | None = None
        self._epoch = self._database.next_epoch()
        self._claim = Claim(self._keys, federation.name, base.base_id, self._epoch)
        self._transport = create(
            replace(
                connection,
                # An id per life: a second coordinator is seen, and settled by epoch, instead of fought for the line.
                client_id=connection.client_id or fresh_id("coordinator"),
                will=Will(self._topics.coordinator_state, self._claim.offline, delay=_WILL_DELAY),
                on_connection=self._connection_changed,
                on_trouble=self._troubled,
            )
        )
        self._out = Outgoing(self._transport, self._topics, self._keys.signer, self._epoch, self._tally, self._report)

    @property
    def state(self) -> rounds.State:
        """That of the rounds, as it is now."""
        return self._state

    @property
    def _state(self) -> rounds.State:
        return self._ledger.state

    def stop(self) -> None:
        """Let `run` return soon; from any thread or signal handler."""
        self._stopped.set()
        self._transport.hurry()

    def run(self, *, once: bool = False) -> None:
        """Coordinate until `stop`; with `once`, until the last round is closed and every device has been served.

        However it ends, devices are told that nobody coordinates any more. Once per service.

        Raises:
            BrokerUnreachable: no connection at the start; the message has the reason.
            AccessDenied: the broker's rules do not let the coordinator listen.
            PayloadTooLarge: the broker lets too little through for a federation.
            Superseded: another coordinator of this federation has taken over.
        """
        try:
            self._uploads.start()
            if self._connection.exposed:
                self._report("password_exposed", broker=self._connection.address.endpoint)
            self._transport.connect(
                CONNECT_DEADLINE, lambda error: self._report("broker_unreachable", reason=str(error))
            )
            check_room(self._transport.max_payload)
            for topic_filter in (self._topics.all_up, self._topics.all_presence, self._topics.coordinator_state):
                self._transport.subscribe(topic_filter, self._gate.arrived)
            self._report("coordinator_started", epoch=self._epoch, rounds=self._rules.rounds, round=self._state.round)
            # First who is there: a step is believed only of a coordinator that has shown its key.
            self._publish_state()
            self._ledger.feed(rounds.Restarted())
            self._settle()
            while not self._stopped.is_set():
                self._turn()
                self._remind(once)
                if once and self._has_served_all():
                    break
            self._tell_of_drops(last=True)
            self._report.status(self._state, self._uploads.counts, last=True)
            self._report("coordinator_stopped", round=self._state.round)
        finally:
            if self._superseded_by is None:
                hang_up(self._transport, self._topics.coordinator_state, self._claim.offline)
            else:
                self._transport.close()
            self._uploads.close()
            self._peers.close()
            self._database.close()
        if self._superseded_by is not None:
            raise Superseded(
                f"Another coordinator of federation {self._federation.name!r} (start {self._superseded_by}) has taken "
                "over on this broker. Stop the one that is not wanted, then start this one again. If there is no "
                "other, an earlier start was in the future (a clock was wrong): start again, it goes on from there."
            )

    def _has_served_all(self) -> bool:
        """Whether every device has its adapters, or has had a whole deadline to fetch them."""
        now = time.monotonic()
        if self._state.phase == "finished" and self._finished_at is None:
            self._finished_at = now
        overdue = self._finished_at is not None and now - self._finished_at > self._rules.deadline
        return overdue or rounds.all_served(self._rules, self._state, now)

    # the loop -------------------------------------------------------------------------------------------------------

    def _connection_changed(self, online: bool) -> None:
        """On the transport's thread. The broker may have published our will, or have lost what it retained."""
        now = time.monotonic()
        if online:
            self._report("broker_back", seconds=now - (self._away_since or now))
            self._inbox.put(self._publish_state, 0)
        else:
            self._report("broker_lost", reason=str(self._transport.trouble or "no reason is known"))
        self._away_since = None if online else now
        if self._connection.on_connection:
            self._connection.on_connection(online)

    def _troubled(self, error: TransportError) -> None:
        """On the transport's thread: coming back fails for a new reason, or the broker refuses what was sent."""
        code, reason = type(error).__name__, str(error)
        self._report("broker_refused" if self._away_since is None else "broker_unreachable", code=code, reason=reason)
        if self._connection.on_trouble:
            self._connection.on_trouble(error)

    def _remind(self, once: bool) -> None:
        """Tell what is waited for, from time to time. Those that stay after the last round keep nobody waiting but
        `once`."""
        now = time.monotonic()
        found = rounds.awaited(self._rules, self._state, now)
        if found and found.what == "goodbyes" and not once:
            found = None
        told = (found.what, self._state.round, found.there) if found else None
        subject = told if self._away_since is None else "broker"
        if (waited := self._reminder.due(subject, now)) is None:
            return
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
            )

    def _turn(self) -> None:
        item, until = self._inbox.get(self._patience()), time.monotonic() + _BATCH
        while item is not None:
            item() if callable(item) else self._take(*item)
            item = self._inbox.get(0) if time.monotonic() < until else None
        self._settle()
        self._tell_of_drops()
        self._report.status(self._state, self._uploads.counts)
        now = time.monotonic()
        if self._claim.due is not None and self._claim.due <= now:
            self._claim.restated(now)
            self._publish_state()
        self._peers.tick(now, self._carry_out)
        wake = self._next_wake(now)
        due = wake is not None and wake <= now
        if due or now >= self._look_at:
            self._shut_out()
        if due:
            self._ledger.feed(rounds.Tick())
        self._uploads.pull()
        self._settle()

    def _settle(self) -> None:
        self._ledger.settle(self._act)
        if self._state.round != self._swept:
            self._swept = self._state.round
            self._forget_what_is_over()

    def _patience(self) -> float:
        now = time.monotonic()
        dues = (self._peers.due(now), self._next_wake(now), self._claim.due)
        return max(0.0, min([now + _NAP, *(due for due in dues if due is not None)]) - now)

    def _next_wake(self, now: float) -> float | None:
        """When the machine is to be told that time went by."""
        return self._uploads.postponed(rounds.next_wake(self._rules, self._state, now))

    def _take(self, topic: str, payload: bytes) -> None:
        """One message from outside. Whatever is wrong with it is refused by name, and nothing else happens.

        Only reading it is guarded: an error of our own (a lost blob, say) must not pass for a device's.
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
        """What a device's message calls for."""
        known = device in self._state.devices
        if not payload:  # an empty retained message only clears a topic
            self._tally.add("up", CLEARING, 0)
            return _nothing
        if topic == self._topics.chunks(device, "up"):
            self._tally.add("up", CHUNK, len(payload))
            chunk = decode_chunk(payload)
            if device not in self._peers:  # nothing is fetched from strangers
                return self._ignoring(UNASKED_CHUNK)
            return self._read_chunk(device, chunk.sha256, payload)
        message = self._decoded(payload)
        on_presence = topic == self._topics.presence(device)
        match message:
            case Presence() if on_presence:
                if not known:
                    return self._ignoring(STRANGERS_PRESENCE)
                if message.epoch < self._state.devices[device].epoch:
                    return self._ignoring(STALE_PRESENCE)
                return lambda: self._ledger.feed(rounds.Seen(device, message.online, message.epoch))
            case Join() if not on_presence:
                return lambda: self._admit(device, message)
            case Leave() if not on_presence:
                return (lambda: self._part_with(device, message.reason)) if known else self._ignoring(STRANGERS_LEAVE)
            case Offer() if not on_presence:
                return lambda: self._consider(device, message)
            case Pull() | Committed() | Refused() if not on_presence and not known:
                return self._ignoring(STRANGERS_TRANSFER)
            case Pull() if not on_presence and self._state.devices[device].left:
                return lambda: self._refuse_pull(device, message)
            case Pull() | Committed() | Refused() if not on_presence:
                effects = self._peers.on_message(device, message, time.monotonic())
                return lambda: self._carry_out(device, effects)
        raise MessageInvalid(f"A {type(message).__name__} does not belong on {topic}.")

    def _ignoring(self, reason: str) -> Reaction:
        return lambda: self._tally.ignore(reason)

    def _decoded(self, payload: bytes) -> Message:
        try:
            message = decode(payload)
        except MessageInvalid:
            self._tally.add("up", INVALID, len(payload))
            raise
        self._tally.add("up", type(message).__name__.lower(), len(payload))
        return message

    def _admit(self, device: str, join: Join) -> None:
        if device not in self._state.devices and len(self._state.devices) >= self._limits.devices:
            self._refuse(device, Refusal(FEDERATION_FULL, self._limits.reason(FEDERATION_FULL)), about="join")
        elif refusal := self._admissions.problem(device, join.invitation, now=time.time()):
            self._turn_away(device, refusal, about="join")
        else:
            self._ledger.feed(rounds.Joined(device, join.profile))

    def _consider(self, device: str, offer: Offer) -> None:
        if refusal := self._admissions.problem(device, now=time.time()):
            self._turn_away(device, refusal, about=offer.manifest.sha256)
        else:
            self._ledger.feed(rounds.Offered(device, offer))

    def _refuse_pull(self, device: str, pull: Pull) -> None:
        self._refuse(device, self._admissions.problem(device, now=time.time()) or HAS_LEFT, about=pull.sha256)

    def _shut_out(self) -> None:
        """Those who were revoked take no part any more, also if they say nothing that could be refused."""
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
            self._part_with(device, refusal.code)

    def _part_with(self, device: str, reason: str) -> None:
        self._peers.dismiss(device)
        self._ledger.feed(rounds.Left(device, reason))

    def _read_chunk(self, device: str, of: str, payload: bytes) -> Reaction:
        asked = self._peers.progress(device, of) is not None
        effects = self._uploads.chunk(device, payload)
        if not any(isinstance(effect, exchange.Arrived) for effect in effects):
            self._tally.ignore(REPEATED_CHUNK if asked else UNASKED_CHUNK)
        return lambda: self._carry_out(device, effects)

    def _read_coordinator(self, payload: bytes) -> Reaction:
        """Our own topic: the will of an earlier life may come late, a later life may have begun elsewhere, and
        somebody may say what is not his to say, which we say ours over."""
        now = time.monotonic()
        try:
            if not payload:
                self._tally.add("up", CLEARING, 0)
                self._claim.contested(now)
                return _nothing
            state = self._decoded(payload)
            if not isinstance(state, CoordinatorState):
                raise MessageInvalid(f"A {type(state).__name__} does not belong on the coordinator's topic.")
            later = self._claim.read(state, now)
        except ImpastoError:
            self._claim.contested(now)
            raise
        if later is not None:
            return lambda: self._give_way(later)
        return self._ignoring(STALE_COORDINATOR) if state.epoch < self._epoch else _nothing

    def _give_way(self, epoch: int) -> None:
        self._superseded_by = epoch
        self._database.note_epoch(epoch)
        self._report("coordinator_superseded", epoch=epoch)
        self.stop()

    # the round machine ----------------------------------------------------------------------------------------------

    def _act(self, action: rounds.Action) -> rounds.Event | None:
        match action:
            case rounds.Send(device, message):
                self._send(device, message)
            case rounds.Report(event, values):
                self._report(event, **values)
            case rounds.Fetch(device, offer):
                return self._uploads.offered(device, offer)
            case rounds.Cluster():  # a round is about to be opened
                self._shut_out()
                return self._learning.clustered(action)
            case rounds.Place():
                return self._learning.place(action)
            case rounds.Aggregate():
                return self._learning.aggregated(action)
        return None

    def _forget_what_is_over(self) -> None:
        self._uploads.forget()
        needed = self._state.blobs() | self._uploads.needed
        self._blobs.prune(needed)
        self._peers.withdraw_all_but(needed)

    def _carry_out(self, device: str, effects: list[exchange.Effect]) -> None:
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    self._send(device, message)
                case exchange.SendChunk(payload):
                    self._out.chunk(device, payload)
                case exchange.Received(manifest, data):
                    self._uploads.received(device, manifest, data)
                case exchange.Delivered(manifest):
                    self._report("adapter_delivered", device=device, name=manifest.name, size=manifest.size)
                case exchange.Failed(manifest) if manifest.role == UPDATE:
                    self._uploads.failed(device, effect)

    # going out ------------------------------------------------------------------------------------------------------

    def _send(self, device: str, message: Message) -> None:
        if isinstance(message, RoundStart | Finished):
            message = self._out.fitted(message)
            self._peers.offer(device, message.manifests)
        self._out.send(device, message)

    def _publish_state(self) -> None:
        self._out.state(self._claim.online)

    def _tell_of_drops(self, *, last: bool = False) -> None:
        messages, chunks = self._inbox.dropped()
        if messages or chunks:
            self._report("messages_dropped", messages=messages, chunks=chunks)
        asked = self._downloads.exceeded(time.monotonic(), all_of_it=last)
        for excess in (*self._gate.exceeded(all_of_it=last), *asked):
            values = {"code": excess.code, "messages": excess.messages, "size": excess.bytes}
            self._report("over_quota", device=excess.sender, **values)
            if excess.sender == self._topics.coordinator_state:  # what was dropped may be what is retained now
                self._claim.overlooked(time.monotonic())
            if excess.sender in self._state.devices:
                self._send(excess.sender, Refused(code=excess.code, reason=self._limits.reason(excess.code)))

    def _traffic(self) -> tuple[int, int]:
        totals = self._tally.totals
        return totals["up"], totals["down"]


def _nothing() -> None:
    """The reaction to what needs none."""
