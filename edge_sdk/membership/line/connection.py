"""A device's connection to the coordinator: a thread that serves transfers, and a queue of messages for the device.

The thread lets the device answer pulls while it trains. It alone touches the exchange; the device's own requests
("wishes") reach it through the same inbox as messages. It reads the inbox between any two chunks that it sends, so that
a slow connection does not keep messages waiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from edge_sdk.errors import (
    ConfigurationError,
    DeadlineExceeded,
    ImpastoError,
    LineBroken,
    TransportError,
)
from edge_sdk.membership.journal import Journal
from edge_sdk.membership.line.presence import Session
from edge_sdk.transport import OnTrouble, Pacer, Settings, create, credit_for, hang_up
from edge_sdk.wire import (
    DEFAULT_CREDIT,
    MAX_CHUNK,
    Committed,
    Join,
    Leave,
    Manifest,
    MemoryBuffer,
    Message,
    Pull,
    Refused,
    Topics,
    check_room,
    decode,
    encode,
    exchange,
    fitting_chunk,
)


@dataclass(frozen=True)
class Connection:
    """The connection to the broker was lost, or has come back. reason: the reason for the loss."""

    online: bool
    reason: str = ""


@dataclass(frozen=True)
class Trouble:
    """A reconnection has failed for a new reason, or the broker has refused a message."""

    error: TransportError


Heard: TypeAlias = Message | exchange.Received | exchange.Delivered | exchange.Failed | Connection | Trouble
Wish: TypeAlias = Callable[[], list[exchange.Effect]]

# Items; at most 64 are chunks under way, the rest is room for messages.
_INBOX = 1024
_HEARD = 1024
_NAP = 0.5
_PATIENCE = 120.0  # seconds that a wish waits for room in the inbox; a broker that is away blocks the thread for 30


class Link:
    """One device's connection to its coordinator; `close` it after use.

    Raises (all methods but `close`):
        LineBroken: the thread has died of an unexpected error, which is its cause.

    Args:
        settings: the transport's settings, with client id and bandwidth.
        topics, device: the federation's topics, and the device's name in them.
        session: the session that is announced on every connection.
        max_bytes: limit of all adapters being fetched at once.
        journal: the journal that keeps the chunks of unfinished fetches.

    Attributes:
        up, down: payload bytes sent and received.
        trouble: the last trouble in words; empty if there was none.
        away: True while there is no connection to the broker.
    """

    def __init__(
        self, settings: Settings, topics: Topics, device: str, session: Session, max_bytes: int, journal: Journal
    ) -> None:
        self.up = 0
        self.down = 0
        self.trouble = ""
        self.away = False
        self._given = settings
        self._topics = topics
        self._device = device
        self._session = session
        self._session_lock = threading.Lock()
        self._journal = journal
        credit = credit_for(settings.bandwidth, MAX_CHUNK, DEFAULT_CREDIT)
        self._exchange = exchange.Exchange(max_bytes=max_bytes, credit=credit, keeping=True)
        self._pacer: Pacer[exchange.SendChunk] = Pacer(settings.bandwidth)
        self._inbox: queue.Queue[tuple[str, bytes] | Wish] = queue.Queue(_INBOX)
        self._heard: queue.Queue[Heard | None] = queue.Queue(_HEARD)
        self._closed = threading.Event()
        self._fault: BaseException | None = None  # the error of which the thread has died
        self._greeting: Join | None = None  # the last Join; None if the device has left, or has not joined yet
        self._thread = threading.Thread(target=self._run, name=f"impasto-{device}", daemon=True)
        will = session.will(topics.presence(device))
        if settings.will is not None:
            raise ConfigurationError("A membership has a will of its own: leave `will` out of the settings.")
        self._transport = create(
            replace(settings, will=will, on_connection=self._connection_changed, on_trouble=self._troubled)
        )

    @property
    def chunk_size(self) -> int:
        """Bytes of content in the largest chunk that fits the broker's stated limit."""
        return fitting_chunk(self._transport.max_payload)

    def open(self, deadline: float, greeting: Message | None = None, on_trouble: OnTrouble | None = None) -> None:
        """Connect and subscribe, within `deadline` seconds.

        Args:
            greeting: a message that must fit the broker's limit, if there is one.
            on_trouble: called in this thread with the reason for each failed attempt, if it is a new one.

        Raises:
            BrokerUnreachable, DeadlineExceeded, AccessDenied: connecting or subscribing failed.
            PayloadTooLarge: the broker's packets are too small for a federation, or for the greeting.
        """
        self._transport.connect(deadline, on_trouble)
        self._thread.start()
        check_room(self._transport.max_payload, len(encode(greeting)) if greeting else 0)
        self._transport.subscribe(self._topics.all_down(self._device), self._arrived)
        self._session.connected(time.monotonic())
        self._announce()
        self._transport.subscribe(self._topics.coordinator_state, self._arrived)

    def send(self, message: Message) -> None:
        """Send a control message. A failure is only noted as trouble: the caller repeats messages that matter."""
        self._check()
        if isinstance(message, Join | Leave):
            self._greeting = message if isinstance(message, Join) else None
        self._publish(self._topics.control(self._device, "up"), encode(message))

    def offer(self, data: bytes, manifest: Manifest) -> None:
        """Answer the coordinator's pulls for this content until it is committed or refused."""

        def wish() -> list[exchange.Effect]:
            self._exchange.offer(data, manifest)
            return []

        self._wish(wish)

    def withdraw(self, sha256: str) -> None:
        """Withdraw an offer and its waiting chunks. Does nothing if the thread has died."""

        def wish() -> list[exchange.Effect]:
            self._exchange.withdraw(sha256)
            self._pacer.forget(sha256)
            return []

        with suppress(LineBroken, DeadlineExceeded):
            self._wish(wish)

    def fetch(self, manifest: Manifest, seconds: float) -> None:
        """Pull the missing chunks of a content within `seconds`; `hear` returns Received or Failed."""

        def wish() -> list[exchange.Effect]:
            now = time.monotonic()
            try:
                # A content that is too large is refused before its chunks are read from the journal.
                kept = self._journal.resume(manifest) if manifest.size <= self._exchange.room else None
                have, data = kept or (b"", bytearray(manifest.size))
                return self._exchange.fetch(manifest, now, now + seconds, have=have, buffer=MemoryBuffer(data))
            except ImpastoError as error:
                return [exchange.Failed(manifest, error)]

        self._wish(wish)

    def commit(self, sha256: str) -> None:
        """Acknowledge to the coordinator that a content is stored and synced."""
        self._wish(lambda: self._exchange.commit(sha256))

    def hear(self, seconds: float) -> Heard | None:
        """Return the next message or event for the device; None if none comes within `seconds`."""
        self._check()
        try:
            heard = self._heard.get(timeout=max(0.0, seconds))
        except queue.Empty:
            heard = None
        self._check()
        return heard

    def hurry(self) -> None:
        """Prepare for the end: `hear` returns at once, and `open` gives up. For any thread."""
        self._transport.hurry()
        with suppress(queue.Full):  # `hear` has enough to return then
            self._heard.put_nowait(None)

    def close(self) -> None:
        """Publish the end of the session and disconnect, also if the thread has died. May be called again."""
        if self._thread.ident is None:  # it was never connected, so there is no session to end
            self._transport.close()
            return
        self._transport.hurry()
        self._closed.set()
        self._thread.join(timeout=10.0)
        with self._session_lock:
            last_word = self._session.close()
        if last_word:
            hang_up(self._transport, self._topics.presence(self._device), encode(last_word))

    def _wish(self, wish: Wish) -> None:
        self._check()
        try:
            self._inbox.put(wish, timeout=_PATIENCE)
        except queue.Full:
            self._check()
            trouble = f" Last trouble: {self.trouble}." if self.trouble else ""
            raise DeadlineExceeded(
                f"More comes in than can be sent on: no room for {_PATIENCE:g} s.{trouble} Look at the broker and the "
                "line to it; run again to resume, what was trained is kept."
            ) from None
        self._check()

    def _check(self) -> None:
        if self._fault is not None:
            raise LineBroken(
                f"The line to the federation broke down ({type(self._fault).__name__}: {self._fault}). Run again to "
                "resume, what was trained is kept; if it happens again, report it."
            ) from self._fault

    # on the transport's thread --------------------------------------------------------------------------------------

    def _arrived(self, topic: str, payload: bytes) -> None:
        try:
            self._inbox.put_nowait((topic, payload))
        except queue.Full:
            self.trouble = "messages came faster than they could be handled"  # their senders repeat them

    def _connection_changed(self, online: bool) -> None:
        with self._session_lock:
            if online:
                self._session.connected(time.monotonic())
            else:
                self._session.lost()
        reason = "" if online else self._why_away()
        self.away, self.trouble = not online, reason
        self._tell(Connection(online, reason))
        with suppress(queue.Full):  # the thread is awake then
            self._inbox.put_nowait(list)  # an empty wish, to wake the thread
        if self._given.on_connection:
            self._given.on_connection(online)

    def _why_away(self) -> str:
        return str(self._transport.trouble or "the connection to the broker was lost")

    def _troubled(self, error: TransportError) -> None:
        self.trouble = str(error)
        self._tell(Trouble(error))
        if self._given.on_trouble:
            self._given.on_trouble(error)

    # on the own thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._fault = error
            with suppress(queue.Full):  # nobody waits in `hear` then
                self._heard.put_nowait(None)

    def _serve(self) -> None:
        while not self._closed.is_set():
            now = time.monotonic()
            dues = (self._exchange.next_tick, self._pacer.due(now), self._session.due)
            due = [at for at in dues if at is not None]
            try:
                item = self._inbox.get(timeout=max(0.0, min([*due, now + _NAP]) - now))
            except queue.Empty:
                item = None
            effects: list[exchange.Effect] = []
            try:
                effects += self._take(item) if item is not None else []
            except ImpastoError as error:  # a message that makes no sense changes nothing
                self.trouble = str(error)
            effects += self._exchange.tick(time.monotonic())
            for effect in effects:
                self._carry_out(effect)
            if (at := self._session.due) is not None and at <= time.monotonic():
                self._announce()
            if turn := self._pacer.take(time.monotonic()):
                self._publish(self._topics.chunks(self._device, "up"), turn[1].payload)

    def _announce(self) -> None:
        said = self._publish(self._topics.presence(self._device), encode(self._session.birth), retain=True)
        with self._session_lock:
            self._session.said() if said else self._session.failed(time.monotonic())

    def _take(self, item: tuple[str, bytes] | Wish) -> list[exchange.Effect]:
        if callable(item):
            return item()
        topic, payload = item
        self.down += len(payload)
        if not payload:  # an empty retained message only clears a topic
            return []
        if topic == self._topics.chunks(self._device, "down"):
            return self._exchange.on_chunk(payload, time.monotonic())
        message = decode(payload)
        if isinstance(message, Refused) and message.about in ("presence", "leave"):
            self._contradict(message.about)
            return []
        if not isinstance(message, Pull | Committed):
            self._tell(message)
        return self._exchange.on_message(message, time.monotonic())

    def _contradict(self, about: str) -> None:
        """Repeat the birth or the last Join, as the coordinator takes this device for gone.

        Somebody else has said so in its name. The thread answers at once, also while the device trains.
        """
        if about == "presence":
            with self._session_lock:
                self._session.connected(time.monotonic())
        elif self._greeting is not None:
            self.send(self._greeting)

    def _tell(self, heard: Heard) -> None:
        try:
            self._heard.put_nowait(heard)
        except queue.Full:
            self.trouble = "more was heard than could be acted on"

    def _carry_out(self, effect: exchange.Effect) -> None:
        match effect:
            case exchange.Send(message):
                self.send(message)
            case exchange.SendChunk():
                self._pacer.put(effect)
            case exchange.Arrived(manifest, chunk):
                self._journalled(lambda: self._journal.keep_chunk(manifest.sha256, chunk.index, chunk.data))
            case exchange.Discarded(manifest):
                self.trouble = f"{manifest.name!r} came with a wrong hash, and is fetched anew"
                self._journalled(lambda: self._journal.drop(manifest.sha256))
            case exchange.Delivered(manifest) | exchange.Failed(manifest):
                self._pacer.forget(manifest.sha256)
                self._tell(effect)
            case exchange.Received():
                self._tell(effect)

    def _journalled(self, note: Callable[[], None]) -> None:
        try:
            note()
        except ImpastoError as error:  # the fetch goes on; the chunk is missing only after a restart
            self.trouble = str(error)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        try:
            self._transport.publish(topic, payload, retain=retain)
        except TransportError as error:
            self.trouble = str(error)
            return False
        self.up += len(payload)
        return True
