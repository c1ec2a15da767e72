"""A broker inside the process, for tests and simulations: it behaves as an MQTT broker, without sockets.

    with MemoryBroker() as broker:
        transport = connect(broker.url, client_id="pi-4")

Open brokers are found by name across the process, as listening ports are across a machine.
"""

from __future__ import annotations

import itertools
import threading
from types import TracebackType

from edge_sdk.errors import BrokerUnreachable, PayloadTooLarge, TransportError
from edge_sdk.transport.arrivals import Arrivals
from edge_sdk.transport.base import DEFAULT_MAX_PAYLOAD, Handler, OnTrouble, Settings
from edge_sdk.transport.delivery import Delivery
from edge_sdk.transport.filters import check_filter, check_topic, matches

_OPEN: dict[str, MemoryBroker] = {}
_OPEN_LOCK = threading.Lock()
_NUMBERS = itertools.count(1)


class MemoryBroker:
    """A broker with retained messages, wills and wildcards. One delivery thread serves all clients, in a fixed order.

    Args:
        name: the name in its URL, "memory://name"; None makes one.
        max_payload: larger messages are refused.

    Raises:
        TransportError: a broker of that name is open.
    """

    def __init__(self, name: str | None = None, *, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self.name = name or f"broker-{next(_NUMBERS)}"
        self.max_payload = max_payload
        self._clients: dict[str, MemoryTransport] = {}
        self._retained: dict[str, bytes] = {}
        self._lock = threading.RLock()
        with _OPEN_LOCK:
            if self.name in _OPEN:
                raise TransportError(f"A memory broker named {self.name!r} is open already: choose another name.")
            _OPEN[self.name] = self
        self.delivery = Delivery(f"memory-broker-{self.name}")
        self.delivery.start()

    @property
    def url(self) -> str:
        return f"memory://{self.name}"

    def close(self) -> None:
        """Stop delivering; connected clients lose their connection. May be called again."""
        with _OPEN_LOCK:
            if _OPEN.get(self.name) is self:
                del _OPEN[self.name]
        with self._lock:
            self._clients.clear()
        self.delivery.stop(5.0)

    def __enter__(self) -> MemoryBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- for its clients ----------------------------------------------------------------------------------------

    def attach(self, client: MemoryTransport) -> None:
        """Connect a client; another client of the same id is disconnected, and its will published."""
        with self._lock:
            self.detach(client.settings.client_id, goodbye=False)
            self._clients[client.settings.client_id] = client

    def detach(self, client_id: str, *, goodbye: bool) -> None:
        """Disconnect a client; without `goodbye`, publish its will."""
        with self._lock:
            client = self._clients.pop(client_id, None)
            if client is not None and not goodbye and client.settings.will is not None:
                will = client.settings.will
                self.route(will.topic, will.payload, retain=will.retain)

    def is_attached(self, client: MemoryTransport) -> bool:
        with self._lock:
            return self._clients.get(client.settings.client_id) is client

    def route(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Queue a message for all subscribers, and keep it if it is retained (an empty one clears the topic)."""
        with self._lock:
            if retain and payload:
                self._retained[topic] = payload
            elif retain:
                self._retained.pop(topic, None)
            for client in self._clients.values():
                for topic_filter, handler in client.handlers.items():
                    if matches(topic_filter, topic):
                        self._deliver(client, handler, topic, payload)

    def subscribe(self, client: MemoryTransport, topic_filter: str, handler: Handler) -> None:
        with self._lock:
            client.handlers[topic_filter] = handler
            for topic, payload in self._retained.items():
                if matches(topic_filter, topic):
                    self._deliver(client, handler, topic, payload)

    def _deliver(self, client: MemoryTransport, handler: Handler, topic: str, payload: bytes) -> None:
        def call() -> None:
            if self.is_attached(client) and client.arrivals.admits(topic, payload):
                handler(topic, payload)

        self.delivery.put(call)


class MemoryTransport:
    """A client of a `MemoryBroker`. Will delays are not kept: a will is published at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.handlers: dict[str, Handler] = {}
        self.arrivals = Arrivals(settings.max_payload)
        self._broker: MemoryBroker | None = None

    @property
    def max_payload(self) -> int:
        return min(self.settings.max_payload, self._broker.max_payload if self._broker else self.settings.max_payload)

    @property
    def trouble(self) -> TransportError | None:
        return None  # every error is raised at once here

    def connect(self, deadline: float, on_trouble: OnTrouble | None = None) -> None:
        name = self.settings.address.host
        with _OPEN_LOCK:
            broker = _OPEN.get(name)
        if broker is None:
            raise BrokerUnreachable(
                f"No memory broker named {name!r} is open in this process: make a MemoryBroker first."
            )
        self._broker = broker
        broker.attach(self)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        check_topic(topic)
        broker = self._attached()
        if len(payload) > self.max_payload:
            raise PayloadTooLarge(
                f"A message of {len(payload)} bytes is larger than the {self.max_payload} that the broker accepts."
            )
        broker.route(topic, bytes(payload), retain=retain)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        check_filter(topic_filter)
        self._attached().subscribe(self, topic_filter, handler)

    def flush(self, deadline: float) -> None:
        self._attached()  # published messages have reached the broker already

    def hurry(self) -> None:
        pass  # nothing here ever waits

    def close(self) -> None:
        if self._broker is not None and self._broker.is_attached(self):
            self._broker.detach(self.settings.client_id, goodbye=True)

    def abort(self) -> None:
        if self._broker is not None and self._broker.is_attached(self):
            self._broker.detach(self.settings.client_id, goodbye=False)

    def _attached(self) -> MemoryBroker:
        if self._broker is None or not self._broker.is_attached(self):
            raise TransportError("This transport is closed, or another client of the same id has taken over.")
        return self._broker
