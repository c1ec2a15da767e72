"""A running helper: it draws the first steps of pictures for the devices of a federation.

One thread owns everything: it takes messages out of a bounded inbox, and looks after deadlines. Another one draws. The
helper reads the coordinator's database and blobs, and writes nothing there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from coordinator.assist.bank import Bank, Folder, Published, Source
from coordinator.assist.drawer import Drawer, Drawn
from coordinator.assist.members import Members
from coordinator.assist.reading import check
from coordinator.assist.requests import Answer, Limits, Request, Requests
from coordinator.config import Federation, read_base_model
from coordinator.identity import Admissions, Keys, Refusal
from coordinator.ingress import STRANGERS, Inbox, Item, Rates
from coordinator.store import Database, open_blobs
from coordinator.telemetry import Counters, OnEvent, Reports
from edge_sdk import adapter as adapters
from edge_sdk.errors import (
    BrokerSettingsInvalid,
    ConfigurationError,
    HelperBusy,
    ImpastoError,
    MessageInvalid,
    SignatureInvalid,
    TransportError,
)
from edge_sdk.inference import MAX_STATE, Generator, Order
from edge_sdk.paths import expanded
from edge_sdk.transport import Settings, Will, create, fresh_id, hang_up
from edge_sdk.wire import (
    Committed,
    Delivered,
    Effect,
    Exchange,
    Pull,
    Refused,
    Topics,
    assist,
    check_name,
    check_room,
    exchange,
    fitting_chunk,
    following,
    make_manifest,
    new_key,
)

CONNECT_DEADLINE = 30.0
_PUBLISH_DEADLINE = 5.0  # a broker that is away must not keep the loop from its deadlines for long
_WILL_DELAY = 5.0
_INBOX = 8 << 20  # bytes
_NAP = 0.5
_LAST_STEP = 60.0  # seconds that the present step may take at the end
# Of one device in a minute. A request takes some ten messages; all strangers share one account.
_MESSAGES, _BYTES = 120, 1 << 20
_SMOOTHING = 0.3  # weight of the last drawing in the seconds of a step


@dataclass(frozen=True)
class HelperSettings:
    """Settings of one helper.

    Attributes:
        name: its name, one level of a topic.
        forms: the forms that it takes.
        largest: pixels a side of the largest square picture; None: the size that the base model was trained for.
        limits: limits of its queue.
        adapters: folder of the adapters that it draws with; None: those that the coordinator has published.
    """

    name: str = "helper"
    forms: tuple[assist.Form, ...] = ("open", "blank")
    largest: int | None = None
    limits: Limits = field(default_factory=Limits)
    adapters: str | None = None


class Helper:
    """Draws for the devices of one federation. `run` it, or `close` it.

    Args:
        federation: the federation file, loaded.
        generator: the generator of its bundle; the helper closes it at the end.
        helper: the helper's settings.
        connection: settings of the transport; None: those of the federation file.
        on_event: called with a dict of plain values for every event; docs/assist.md lists them.

    Raises:
        ConfigurationError: the federation was not served yet, the bundle is not its, or a store cannot be opened.
        MessageInvalid: the name cannot stand in a topic.
        BrokerSettingsInvalid: the settings of the connection are invalid.
    """

    def __init__(
        self,
        federation: Federation,
        generator: Generator,
        helper: HelperSettings | None = None,
        *,
        connection: Settings | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self._settings = helper or HelperSettings()
        self._name = check_name(self._settings.name)
        self._federation, self._generator = federation, generator
        self._topics = Topics(federation.name)
        self._stopped = threading.Event()
        self._fault: Exception | None = None
        self._seconds = 0.0
        with ExitStack() as opened:
            opened.callback(generator.close)
            self._open(opened, on_event)
            self._transport = create(self._connection(connection or federation.connection()))
            opened.callback(self._transport.close)
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack, on_event: OnEvent | None) -> None:
        """Make the parts that know no network."""
        federation, index = self._federation, self._generator.bundle.index
        base = read_base_model(federation.description, federation.layers)
        if base.base_id != self._generator.base_id:
            raise ConfigurationError(
                f"The bundle is of another base model ({self._generator.base_id[:12]}…) than federation "
                f"{federation.name!r} ({base.base_id[:12]}…): correct `bundle` in the federation file."
            )
        if federation.database_file and not federation.database_file.exists():
            raise ConfigurationError(
                f"Federation {federation.name!r} has not been served yet, so that nobody has joined: "
                "`impasto-coordinator serve` first, with the same `home`."
            )
        database = Database(federation.database, federation.name, base.base_id)
        opened.callback(database.close)
        admissions = Admissions(database.engine, by_invitation=federation.join == "invited")
        self._members = Members(database, admissions)
        folder = self._settings.adapters
        source: Source = Folder(expanded(folder)) if folder else Published(database, open_blobs(federation.blobs))
        slots, base_id = self._generator.slots, self._generator.base_id
        bank = Bank(source, lambda adapter: adapters.check(adapter, slots, base_id))
        self._drawer = Drawer(self._generator, bank, self._drawn)
        self._requests = Requests(self._settings.limits)
        side = self._settings.largest or index.image_size
        self._largest, self._trained = side * side, index.image_size**2
        self._course = self._generator.course(Order(prompt=""))
        self._epoch = following(database.latest_epoch(), time.time())
        coordinator = Keys(federation.home, federation.name).signer
        self._signer = assist.HelperSigner(new_key(), federation.name, self._name, coordinator)
        self._counters = Counters(0, 0)
        self._report = Reports(on_event, self._counters)
        self._inbox: Inbox[Item] = Inbox(_INBOX)
        self._rates = Rates(_MESSAGES, _BYTES)
        self._rates_lock = threading.Lock()
        self._exchanges: dict[str, Exchange] = {}

    def _connection(self, settings: Settings) -> Settings:
        if settings.will is not None:
            raise BrokerSettingsInvalid("A helper has a will of its own: leave `will` out of the settings.")
        return replace(
            settings,
            client_id=settings.client_id or fresh_id("helper"),
            publish_deadline=_PUBLISH_DEADLINE,
            will=Will(self._topics.helper_state(self._name), self._state(online=False), delay=_WILL_DELAY),
            on_connection=self._changed,
            on_trouble=self._troubled,
        )

    def close(self) -> None:
        """Release everything without having run. Not needed after `run`."""
        self._opened.close()

    def stop(self) -> None:
        """Let `run` return soon; from any thread or signal handler."""
        self._stopped.set()
        self._inbox.put(lambda: None, 0)

    def run(self) -> None:
        """Draw for devices until `stop`. May be called once.

        Raises:
            BrokerUnreachable, AccessDenied, DeadlineExceeded, PayloadTooLarge: no connection that can be used.
            BundleCorrupt, MemoryLimitTooSmall, OutOfMemory: the bundle cannot be drawn with here.
        """
        with self._opened:
            self._seconds = self._drawer.measure()
            self._transport.connect(CONNECT_DEADLINE)
            check_room(self._transport.max_payload)
            self._drawer.start()
            try:
                self._transport.subscribe(self._topics.all_assist_up(self._name), self._arrived)
                self._publish_state()
                self._report("helper_started", helper=self._name, epoch=self._epoch, seconds=self._seconds)
                while not self._stopped.is_set():
                    self._turn()
                if self._fault is not None:
                    raise self._fault
            finally:
                for request in self._requests.stop_all():
                    self._ended(request, "HelperStopped", "This helper was stopped: another one may help.")
                hang_up(self._transport, self._topics.helper_state(self._name), self._state(online=False))
                self._drawer.close(_LAST_STEP)
                self._report("helper_stopped", helper=self._name)

    # on other threads -----------------------------------------------------------------------------------------------

    def _arrived(self, topic: str, payload: bytes) -> None:
        """Admit a message to the inbox, or drop it. On the transport's thread."""
        with suppress(MessageInvalid):
            device, size = self._topics.asker_of(topic), len(topic) + len(payload)
            sender = device if self._members.knows(device) else STRANGERS
            with self._rates_lock:
                admitted = self._rates.admits(sender, size, time.monotonic())
            if admitted:
                self._inbox.put((topic, payload), size)

    def _drawn(self, request: Request, drawn: Drawn) -> None:
        self._inbox.put(lambda: self._finish(request, drawn), 0)

    def _changed(self, online: bool) -> None:
        if online:
            self._report("broker_back")
            self._inbox.put(self._publish_state, 0)  # the broker may have published the will
        else:
            self._report("broker_lost", reason=str(self._transport.trouble or "no reason is known"))

    def _troubled(self, error: TransportError) -> None:
        self._report("broker_refused", code=type(error).__name__, reason=str(error))

    # on the loop's thread -------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        item = self._inbox.get(_NAP)
        if callable(item):
            item()
        elif item is not None:
            self._take(*item)
        for late in self._requests.expire(time.monotonic()):
            self._ended(late, "RequestExpired", "The deadline has passed.")
        for (device, _), answer in self._requests.dropped():
            self._exchange(device).withdraw(answer.manifest.sha256)
        while (request := self._requests.next()) is not None:
            self._drawer.put(request)

    def _take(self, topic: str, payload: bytes) -> None:
        """Handle one message; a faulty one is refused by name and has no other effect."""
        device = self._topics.asker_of(topic)
        if not payload:  # an empty retained message only clears a topic
            return
        about = ""
        try:
            message = assist.decode(payload)
            self._counters.add("up", type(message).__name__.lower(), len(payload))
            if isinstance(message, assist.Ask):
                about = assist.request_id(message.drawing)
            self._hear(device, message, about)
        except HelperBusy as error:
            self._report("refused", device=device, code=type(error).__name__, reason=str(error))
            wait = self._wait(self._requests.everything())
            self._send(device, assist.Busy(request=about, seconds=wait, reason=str(error)[:1000]))
        except ImpastoError as error:
            self._refuse(device, Refusal(type(error).__name__, str(error)), about)

    def _hear(self, device: str, message: assist.AssistMessage, about: str) -> None:
        key = self._members.key(device, time.monotonic())
        if isinstance(key, Refusal):
            self._refuse(device, key, about)
            return
        match message:
            case assist.Ask():
                self._ask(device, key, message, about)
            case assist.Cancel():
                self._cancel(device, key, message)
            case Pull() | Committed() | Refused():
                self._carry_out(device, self._exchange(device).on_message(message, time.monotonic()))
            case _:
                raise MessageInvalid(f"A {type(message).__name__} is not for a helper.")

    def _ask(self, device: str, key: bytes, ask: assist.Ask, request: str) -> None:
        if not assist.asks(ask, key, self._federation.name, self._name, self._signer.public, device):
            raise SignatureInvalid(
                "This request is not signed by the key with which the device of this name has joined, for the present "
                "start of this helper: ask from its own home, or join once more from this one; and ask anew if the "
                "helper was started again."
            )
        name, now = (device, request), time.monotonic()
        answer = self._requests.answer(name)
        if answer is not None:
            self._answer(name, answer)
            return
        if self._requests.before(name) is None:
            drawing = assist.decode_drawing(ask.drawing)
            check(drawing, self._course, self._settings.forms, self._largest)
            self._requests.add(Request(name, drawing, now, now + drawing.deadline - time.time()), now)
            self._report("assist_queued", device=device, request=name[1], waiting=len(self._requests))
        before = self._requests.before(name) or []
        own = self._requests.get(name)
        wait = self._wait([*before, *([own] if own else [])])
        self._send(device, assist.Queued(request=name[1], position=len(before), seconds=wait))

    def _cancel(self, device: str, key: bytes, cancel: assist.Cancel) -> None:
        if not assist.cancels(cancel, key, self._federation.name, self._name, self._signer.public, device):
            raise SignatureInvalid(
                "This Cancel is not signed by the key with which the device of this name has joined, for the present "
                "start of this helper."
            )
        request = self._requests.cancel((device, cancel.request))
        if request is not None:
            self._ended(request, "Cancelled")

    def _finish(self, request: Request, drawn: Drawn) -> None:
        """Take in the end of a drawing."""
        now = time.monotonic()
        answer = None
        if drawn.fault is not None:
            self._fault = drawn.fault
            self._stopped.set()
        if drawn.data is not None:
            size = fitting_chunk(self._transport.max_payload)
            manifest = make_manifest(drawn.data, role="state", name="drawing", chunk_size=size)
            answer = Answer(manifest, drawn.data, drawn.seconds, request.deadline)
        self._requests.finish(request.name, answer)
        if request.stopped:
            return
        if answer is None:
            code = "HelperStopped" if drawn.error is None else type(drawn.error).__name__
            self._ended(request, code, str(drawn.error or "The helper was stopped."))
            return
        pixels = request.drawing.width * request.drawing.height
        measured = answer.seconds * self._trained / pixels
        self._seconds += _SMOOTHING * (measured - self._seconds)
        self._report(
            "assist_drawn", device=request.device, request=request.name[1], steps=request.drawing.until,
            seconds=now - request.arrived,
        )  # fmt: skip
        self._answer(request.name, answer)

    def _answer(self, name: tuple[str, str], answer: Answer) -> None:
        device, request = name
        self._exchange(device).offer(answer.data, answer.manifest)
        self._send(device, self._signer.drawn(device, request, answer.manifest, answer.seconds))

    def _exchange(self, device: str) -> Exchange:
        return self._exchanges.setdefault(device, Exchange(max_bytes=MAX_STATE))

    def _carry_out(self, device: str, effects: Collection[Effect]) -> None:
        for effect in effects:
            match effect:
                case exchange.Send(message):
                    self._send(device, message)
                case exchange.SendChunk():
                    self._publish(self._topics.assist_chunks(self._name, device, "down"), effect.payload, "chunk")
                case Delivered():
                    self._report("assist_delivered", device=device, sha256=effect.manifest.sha256)

    def _wait(self, requests: Collection[Request]) -> float:
        """Seconds that requests take, as far as can be told."""
        shares = (r.drawing.until * r.drawing.width * r.drawing.height / self._trained for r in requests)
        return self._seconds * sum(shares)

    def _ended(self, request: Request, code: str, reason: str = "") -> None:
        self._report("assist_ended", device=request.device, request=request.name[1], code=code)
        if reason:
            self._send(request.device, Refused(code=code, reason=reason[:1000], about=request.name[1]))

    def _refuse(self, device: str, refusal: Refusal, about: str) -> None:
        self._report("refused", device=device, code=refusal.code, reason=refusal.reason)
        self._send(device, Refused(code=refusal.code, reason=refusal.reason[:1000], about=about))

    def _state(self, *, online: bool) -> bytes:
        course = self._course
        state = self._signer.state(
            online=online, epoch=self._epoch, base_id=course.base_id, variant=course.variant, schedule=course.schedule,
            forms=self._settings.forms, largest=self._largest, seconds=self._seconds,
        )  # fmt: skip
        return assist.encode(state)

    def _publish_state(self) -> None:
        self._publish(self._topics.helper_state(self._name), self._state(online=True), "helperstate", retain=True)

    def _send(self, device: str, message: assist.AssistMessage) -> None:
        kind = type(message).__name__.lower()
        self._publish(self._topics.assist(self._name, device, "down"), assist.encode(message), kind)

    def _publish(self, topic: str, payload: bytes, kind: str, *, retain: bool = False) -> None:
        """Publish, or drop and report: devices ask again, or draw alone."""
        try:
            self._transport.publish(topic, payload, retain=retain)
        except TransportError as error:
            self._report("send_failed", topic=topic, code=type(error).__name__, reason=str(error), messages=1)
        else:
            self._counters.add("down", kind, len(payload))
