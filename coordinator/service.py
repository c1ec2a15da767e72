"""The coordinator at work: binds the round machine to a transport, a store and the learning methods.

One thread owns everything. The transport's callbacks only put what arrives into a bounded inbox; the loop takes it out,
feeds the round machine, saves its state, and only then carries out its actions: what is not saved has not happened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from coordinator import rounds
from coordinator.admission import Admissions, Refusal
from coordinator.config import Federation, read_base_model
from coordinator.inbox import Inbox
from coordinator.intake import Intake
from coordinator.keys import Keys
from coordinator.learning import Learning
from coordinator.store import Database, open_blobs
from edge_sdk.errors import AdapterError, ImpastoError, MessageInvalid, Superseded, TransportError
from edge_sdk.transport import Settings, Will, create, hang_up
from edge_sdk.wire import exchange
from edge_sdk.wire.messages import (
    Committed,
    CoordinatorState,
    Finished,
    Join,
    Leave,
    Manifest,
    Message,
    Offer,
    Presence,
    Pull,
    Refused,
    RoundStart,
    decode,
    encode,
)
from edge_sdk.wire.topics import Topics

OnEvent: TypeAlias = Callable[[dict[str, Any]], None]
Reaction: TypeAlias = Callable[[], None]

CONNECT_DEADLINE = 30.0
_WILL_DELAY = 5.0
# Bytes of messages, and of chunks, that may wait while the loop computes; at most 32 MiB of chunks are asked for.
_INBOX = 64 << 20
_RECONNECTED = ("", b"")
# Updates pulled at the same time, and seconds of silence after which another device's turn comes.
_PULLS = 8
_PULL_PATIENCE = 30.0
# Longest sleep of the loop, so that a stop is noticed.
_NAP = 0.5

_log = logging.getLogger(__name__)


class Service:
    """Coordinates one federation.

    Args:
        federation: the federation file, loaded.
        settings: of the transport, where the broker's URL in the file is not enough; will and client id are filled in.
        on_event: called with a dict of plain values for everything worth telling: always "event", "time" (Unix seconds)
            and "bytes" ({"up", "down"}: payload bytes since the federation began); docs/coordinator.md lists the rest.

    Raises:
        ConfigurationError: the base model, the database or the blob store cannot be read.
        TransportError: the broker's URL makes no sense.
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
        self._learning = Learning(federation, base, self._database.profiles, self._blobs)
        self._on_event = on_event
        self._state = self._database.load()
        self._up, self._down = self._database.traffic()
        self._inbox: Inbox[tuple[str, bytes]] = Inbox(_INBOX)
        self._stopped = threading.Event()
        self._peers: dict[str, exchange.Exchange] = {}
        self._intake = Intake(_PULLS, _PULL_PATIENCE)
        self._published: dict[str, bytes] = {}
        self._superseded_by: int | None = None
        self._finished_at: float | None = None
        self._epoch = self._database.next_epoch()
        self._online = self._announcement(online=True)
        self._offline = self._announcement(online=False)
        self._transport = create(
            replace(
                settings or federation.connection(),
                # An id per life: a second coordinator is seen, and settled by epoch, instead of fought for the line.
                client_id=f"{federation.name}.coordinator.{self._epoch}",
                will=Will(self._topics.coordinator_state, self._offline, delay=_WILL_DELAY),
                on_connection=self._connection_changed,
            )
        )

    @property
    def state(self) -> rounds.State:
        return self._state

    def stop(self) -> None:
        """Let `run` return soon; from any thread or signal handler."""
        self._stopped.set()
        self._transport.hurry()

    def run(self, *, once: bool = False) -> None:
        """Coordinate until `stop`; with `once`, until the last round is closed and every device has been served.

        However it ends, devices are told that nobody coordinates any more. Once per service.

        Raises:
            BrokerUnreachable: no connection at the start.
            Superseded: another coordinator of this federation has taken over.
        """
        try:
            self._transport.connect(CONNECT_DEADLINE)
            self._transport.subscribe(self._topics.all_up, self._arrived)
            self._transport.subscribe(self._topics.all_presence, self._arrived)
            self._transport.subscribe(self._topics.coordinator_state, self._arrived)
            self._report("coordinator_started", epoch=self._epoch, rounds=self._rules.rounds, round=self._state.round)
            self._feed(rounds.Restarted())
            self._publish(self._topics.coordinator_state, self._online, retain=True)
            while not self._stopped.is_set():
                self._turn()
                if once and self._has_served_all():
                    break
            self._report("coordinator_stopped", round=self._state.round)
        finally:
            if self._superseded_by is None:
                hang_up(self._transport, self._topics.coordinator_state, self._offline)
            else:
                self._transport.close()
            self._database.close()
        if self._superseded_by is not None:
            raise Superseded(
                f"Another coordinator of federation {self._federation.name!r} (start {self._superseded_by}) has taken "
                "over on this broker. Stop the one that is not wanted, then start this one again. If there is no "
                "other, a state of the future was left behind (a clock was wrong): publish an empty retained message "
                f"on {self._topics.coordinator_state}, then start again."
            )

    def _has_served_all(self) -> bool:
        """Whether every device has its adapters, or has had a whole deadline to fetch them."""
        now = time.monotonic()
        if self._state.phase == "finished" and self._finished_at is None:
            self._finished_at = now
        overdue = self._finished_at is not None and now - self._finished_at > self._rules.deadline
        return overdue or rounds.all_served(self._rules, self._state, now)

    def _announcement(self, *, online: bool) -> bytes:
        name, base_id = self._federation.name, self._base.base_id
        state = CoordinatorState(
            online=online,
            epoch=self._epoch,
            federation=name,
            base_id=base_id,
            key=self._keys.signer.public,
            successions=self._keys.successions,
        )
        return encode(state)

    # the loop -------------------------------------------------------------------------------------------------------

    def _arrived(self, topic: str, payload: bytes) -> None:
        """On the transport's thread: must not block. What finds no room is asked for or sent again by its sender."""
        self._inbox.put((topic, payload), len(topic) + len(payload), bulk=topic.endswith("/chunk"))

    def _connection_changed(self, online: bool) -> None:
        """On the transport's thread. The broker may have published our will, or have lost what it retained."""
        if online:
            self._inbox.put(_RECONNECTED, 0)

    def _turn(self) -> None:
        item = self._inbox.get(self._patience())
        if item is _RECONNECTED:
            self._publish(self._topics.coordinator_state, self._online, retain=True)
        elif item is not None:
            self._up += len(item[1])
            self._take(*item)
        messages, chunks = self._inbox.dropped()
        if messages or chunks:
            self._report("messages_dropped", messages=messages, chunks=chunks)
        now = time.monotonic()
        for device in self._intake.active:  # nothing else is fetched, and of all peers there may be thousands
            peer = self._peer(device)
            due = peer.next_tick
            if due is not None and due <= now:
                self._carry_out(device, peer.tick(now))
        wake = rounds.next_wake(self._rules, self._state, now)
        if wake is not None and wake <= now:
            self._feed(rounds.Tick())
        self._pull()

    def _patience(self) -> float:
        now = time.monotonic()
        ticks = [tick for device in self._intake.active if (tick := self._peer(device).next_tick) is not None]
        wake = rounds.next_wake(self._rules, self._state, now)
        due = min([*ticks, *([] if wake is None else [wake]), now + _NAP])
        return max(0.0, due - now)

    def _take(self, topic: str, payload: bytes) -> None:
        """One message from outside. Whatever is wrong with it is refused by name, and nothing else happens.

        Only reading it is guarded: an error of our own (a lost blob, say) must not pass for a device's.
        """
        device = ""
        try:
            if topic == self._topics.coordinator_state:
                react = self._read_coordinator(decode(payload))
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
        if topic == self._topics.chunks(device, "up"):
            if device not in self._peers:  # nothing is fetched from strangers
                return _nothing
            return self._read_chunk(device, payload)
        if not payload:  # an empty retained message only clears a topic
            return _nothing
        message = decode(payload)
        on_presence = topic == self._topics.presence(device)
        match message:
            case Presence() if on_presence:
                return lambda: self._feed(rounds.Seen(device, message.online, message.epoch))
            case Join() if not on_presence:
                return lambda: self._admit(device, message)
            case Leave() if not on_presence:
                return lambda: self._feed(rounds.Left(device, message.reason))
            case Offer() if not on_presence:
                return lambda: self._consider(device, message)
            case Pull() | Committed() | Refused() if not on_presence:
                effects = self._peer(device).on_message(message, time.monotonic()) if known else []
                return lambda: self._carry_out(device, effects)
        raise MessageInvalid(f"A {type(message).__name__} does not belong on {topic}.")

    def _admit(self, device: str, join: Join) -> None:
        if refusal := self._admissions.problem(device, join.invitation, now=time.time()):
            self._turn_away(device, refusal, about="join")
        else:
            self._feed(rounds.Joined(device, join.profile))

    def _consider(self, device: str, offer: Offer) -> None:
        if refusal := self._admissions.problem(device, now=time.time()):
            self._turn_away(device, refusal, about=offer.manifest.sha256)
        else:
            self._feed(rounds.Offered(device, offer))

    def _turn_away(self, device: str, refusal: Refusal, *, about: str) -> None:
        self._report("refused", device=device, code=refusal.code, reason=refusal.reason)
        self._send(device, Refused(code=refusal.code, reason=refusal.reason, about=about))
        if device in self._state.devices:
            self._feed(rounds.Left(device, refusal.code))

    def _read_chunk(self, device: str, payload: bytes) -> Reaction:
        now, peer, sha256 = time.monotonic(), self._peers[device], self._intake.pulled(device)
        effects = peer.on_chunk(payload, now)
        if sha256 and (received := peer.progress(sha256)):
            self._intake.progress(device, received[0], now)
        return lambda: self._carry_out(device, effects)

    def _read_coordinator(self, state: Message) -> Reaction:
        """Our own topic: the will of an earlier life may come late, and a later life may have begun elsewhere."""
        if not isinstance(state, CoordinatorState):
            raise MessageInvalid(f"A {type(state).__name__} does not belong on the coordinator's topic.")
        if state.epoch > self._epoch and state.online:
            return lambda: self._give_way(state.epoch)
        if not state.online:
            return lambda: self._publish(self._topics.coordinator_state, self._online, retain=True)
        return _nothing

    def _give_way(self, epoch: int) -> None:
        self._superseded_by = epoch
        self._report("coordinator_superseded", epoch=epoch)
        self.stop()

    # the round machine ----------------------------------------------------------------------------------------------

    def _feed(self, event: rounds.Event) -> None:
        """One step of the machine, and the steps that its questions lead to."""
        events = deque([event])
        while events:
            event = events.popleft()
            before = self._state
            self._state, actions = rounds.step(self._rules, before, event, time.monotonic())
            if isinstance(event, rounds.Joined) and event.device in self._state.devices and not _refused(actions):
                self._database.put_profile(event.device, event.profile)
            if self._state is not before:
                self._database.save(self._state, _newly_counted(before, self._state), (self._up, self._down))
            for action in actions:
                answer = self._act(action)
                if answer is not None:
                    events.append(answer)
            if isinstance(event, rounds.Aggregated | rounds.Failed):
                self._forget_old_blobs()

    def _act(self, action: rounds.Action) -> rounds.Event | None:
        match action:
            case rounds.Send(device, message):
                self._send(device, message)
            case rounds.Report(event, values):
                self._report(event, **values)
            case rounds.Fetch():
                self._intake.add(action.device, action.offer)
            case rounds.Cluster():
                return self._computed(action.round, lambda: self._learning.cluster(action))
            case rounds.Place():
                return self._learning.place(action)
            case rounds.Aggregate():
                return self._computed(action.round.number, lambda: self._learning.aggregate(action))
        return None

    def _computed(self, number: int, compute: Callable[[], rounds.Event]) -> rounds.Event:
        """What comes of a round's updates; numbers that devices have sent may make it impossible."""
        try:
            return compute()
        except (ImpastoError, ArithmeticError, ValueError) as error:
            _log.warning("Round %d could not be computed.", number, exc_info=True)
            return rounds.Failed(number, type(error).__name__, str(error))

    def _forget_old_blobs(self) -> None:
        needed = self._state.blobs()
        self._blobs.prune(needed)
        for sha256 in set(self._published) - needed:
            del self._published[sha256]
            for peer in self._peers.values():
                peer.withdraw(sha256)

    # updates coming in ----------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        """Stop what is not worth its place any more, and begin what waits."""
        now = time.monotonic()
        for device, offer in self._intake.give_up(
            lambda *of: rounds.wants(self._rules, self._state, *of), self._is_present, now
        ):
            self._peer(device).cancel(offer.manifest.sha256)
        while begun := self._intake.begin(self._is_present, now):
            device, offer = begun
            try:
                effects = self._peer(device).fetch(offer.manifest, now, now + self._rules.deadline)
            except ImpastoError as error:
                effects = [exchange.Failed(offer.manifest, error)]
            self._carry_out(device, effects)

    def _is_present(self, device: str) -> bool:
        return self._state.devices[device].offline_since is None

    def _carry_out(self, device: str, effects: list[exchange.Effect]) -> None:
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    self._send(device, message)
                case exchange.SendChunk(payload):
                    self._publish(self._topics.chunks(device, "down"), payload)
                case exchange.Received(manifest, data):
                    self._received(device, manifest, data)
                case exchange.Delivered(manifest):
                    self._report("adapter_delivered", device=device, name=manifest.name, size=manifest.size)
                case exchange.Failed(manifest, error):
                    if offer := self._intake.end(device, manifest.sha256):
                        self._feed(rounds.Spoiled(device, offer, type(error).__name__, str(error), final=False))

    def _received(self, device: str, manifest: Manifest, data: bytes) -> None:
        """An update came whole: check it, store it, count it. The machine's Committed follows the synced save."""
        offer = self._intake.end(device, manifest.sha256)
        if offer is None:
            return
        member, norm = rounds.member_for(self._rules, self._state, device, offer.round), 0.0
        try:
            if member:
                norm = self._learning.check_update(data, member)
                self._blobs.put(data)
        except AdapterError as error:
            self._feed(rounds.Spoiled(device, offer, type(error).__name__, str(error), final=True))
        else:  # without a member the round has closed meanwhile, and the machine says so
            self._feed(rounds.Stored(device, offer, norm))

    # going out ------------------------------------------------------------------------------------------------------

    def _peer(self, device: str) -> exchange.Exchange:
        if device not in self._peers:
            self._peers[device] = exchange.Exchange(max_bytes=2 * self._rules.max_update)
        return self._peers[device]

    def _send(self, device: str, message: Message) -> None:
        if isinstance(message, RoundStart | Finished):
            self._offer(device, message.manifests)
            message = self._keys.signer.signed(message)
        self._publish(self._topics.control(device, "down"), encode(message))

    def _offer(self, device: str, manifests: list[Manifest]) -> None:
        """Be ready to answer the device's pulls; all devices are served from one copy of the bytes."""
        for manifest in manifests:
            if manifest.sha256 not in self._published:
                self._published[manifest.sha256] = self._blobs.get(manifest.sha256)
            self._peer(device).offer(self._published[manifest.sha256], manifest)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """What cannot be sent is dropped and told: its receiver asks again; retained states are sent on reconnect."""
        try:
            self._transport.publish(topic, payload, retain=retain)
        except TransportError as error:
            self._report("send_failed", topic=topic, code=type(error).__name__, reason=str(error))
        else:
            self._down += len(payload)

    def _report(self, event: str, **values: Any) -> None:
        if self._on_event:
            traffic = {"up": self._up, "down": self._down}
            self._on_event({"event": event, "time": time.time(), **values, "bytes": traffic})
        _log.debug("%s %s", event, values)


def _nothing() -> None:
    """The reaction to what needs none."""


def _refused(actions: list[rounds.Action]) -> bool:
    return any(isinstance(action, rounds.Send) and isinstance(action.message, Refused) for action in actions)


def _newly_counted(before: rounds.State, after: rounds.State) -> list[dict[str, Any]]:
    """Database rows for the updates that `after` counts and `before` did not."""
    if not after.current:
        return []
    same = before.current and before.current.number == after.current.number
    known = before.current.updates if same and before.current else {}
    return [
        {
            "round": after.current.number,
            "device": name,
            "cluster": update.member.cluster,
            "sha256": update.manifest.sha256,
            "pictures": update.pictures,
            "first_loss": update.first_loss,
            "last_loss": update.last_loss,
            "train_seconds": update.train_seconds,
            "size": update.manifest.size,
        }
        for name, update in after.current.updates.items()
        if name not in known
    ]
