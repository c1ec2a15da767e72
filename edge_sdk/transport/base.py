"""What every transport offers, and the registry of transports by URL scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from edge_sdk.errors import TransportError
from edge_sdk.transport.identity import fresh_id

Handler = Callable[[str, bytes], None]  # topic, payload

# The largest message and the largest chunk of the protocol. A peer or a broker that lets more through must still not
# fill our memory.
DEFAULT_MAX_PAYLOAD = 128 << 10
PACKET_MARGIN = 4096  # bytes of a packet around its payload: topic and properties
_FAREWELL = 5.0  # seconds that the broker may take to acknowledge a last word


@dataclass(frozen=True)
class Will:
    """What the broker publishes for a client that is gone without a goodbye.

    delay: seconds that the client has to come back before it is published, so that short drops go unnoticed.
    """

    topic: str
    payload: bytes
    retain: bool = True
    delay: float = 0.0


@dataclass(frozen=True)
class Tls:
    """Files in PEM form: the authority that signed the broker's certificate (None: the system's), and our own
    certificate with its key, for brokers that ask for one."""

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None


@dataclass(frozen=True)
class Settings:
    """How to connect; what an implementation is made from.

    Attributes:
        url: "mqtt://host:port", "mqtts://host:port" or "memory://name"; user and password may be in it.
        client_id: unique on the broker; a second client of that id takes the connection over, whoever it is. Empty: one
            that nobody can guess is made up for each session. Give one only where the broker's rules ask for it.
        will: what the broker publishes if we vanish.
        max_payload: bytes; larger messages are neither sent nor accepted.
        publish_deadline: seconds that one publish may wait for a connection and for room in the window.
        window: messages that may await their acknowledgement at once.
        keepalive: seconds after which a silent connection counts as lost, times 1.5.
        reconnect_delay: (first, largest) seconds between attempts to connect again, see `reconnection`.
        bandwidth: bytes per second that whoever sends chunks over this transport keeps to (`transport.bandwidth`);
            None: as fast as they go.
        on_connection: called with False when the connection is lost and with True when it has come back and the
            broker has confirmed all subscriptions anew; not called for the first connection. Runs on the delivery
            thread.
        tls: for "mqtts://".
    """

    url: str
    client_id: str = ""
    will: Will | None = None
    max_payload: int = DEFAULT_MAX_PAYLOAD
    publish_deadline: float = 30.0
    window: int = 16
    keepalive: int = 30
    reconnect_delay: tuple[float, float] = (1, 30)
    bandwidth: float | None = None
    on_connection: Callable[[bool], None] | None = None
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def netloc(self) -> str:
        """What stands between "//" and the next slash."""
        return urlsplit(self.url).netloc

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int | None:
        return urlsplit(self.url).port

    @property
    def credentials(self) -> tuple[str | None, str | None]:
        """User and password: given apart, or in the URL."""
        parts = urlsplit(self.url)
        username = self.username if self.username is not None else parts.username and unquote(parts.username)
        password = self.password if self.password is not None else parts.password and unquote(parts.password)
        return username or None, password or None


class Transport(Protocol):
    """A connection to a broker that survives its loss. All methods may be called from any thread, also from handlers.

    Handlers run one at a time on a delivery thread, in the order of arrival. Delivery is at least once: a message may
    come twice. Messages of one sender on one topic keep their order.
    """

    @property
    def max_payload(self) -> int:
        """The largest payload in bytes that `publish` takes on any topic of up to 256 bytes."""

    def connect(self, deadline: float) -> None:
        """Connect, within `deadline` seconds; once. A transport that could not connect is closed.

        Raises:
            BrokerUnreachable: nobody answers, or the broker refuses us.
        """

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message over for delivery at least once; waits while the window is full or the connection is away.

        Raises:
            PayloadTooLarge: larger than the broker accepts; nothing is sent.
            DeadlineExceeded: no room within the publish deadline; nothing is sent.
            TransportError: the transport is closed.
        """

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler(topic, payload)` for every message that matches, retained ones first.

        Returns when the broker has confirmed. Outlives reconnections. Filters of one transport should not overlap:
        brokers differ in how often they then deliver. Subscribing again to a filter replaces its handler.

        Raises:
            DeadlineExceeded: no confirmation within the publish deadline.
            TransportError: the broker refuses the subscription, or the transport is closed.
        """

    def flush(self, deadline: float) -> None:
        """Wait until the broker has acknowledged all that was published.

        Raises:
            DeadlineExceeded: not within `deadline` seconds.
        """

    def hurry(self) -> None:
        """The end is near: from now on no call waits for a connection that is away, nor long for a slow broker.

        Calls that wait already return at once, as after their deadline.
        """

    def close(self) -> None:
        """Send what is under way, say goodbye (so that there is no will) and stop all threads. May be repeated."""

    def abort(self) -> None:
        """Vanish as a crash would: without a goodbye, so that the broker publishes the will. For fault tests."""


def hang_up(transport: Transport, topic: str, payload: bytes) -> None:
    """Publish a retained last word and close; if it cannot be said, vanish, so that the broker publishes the will."""
    transport.hurry()
    try:
        transport.publish(topic, payload, retain=True)
        transport.flush(_FAREWELL)
    except TransportError:
        transport.abort()
    else:
        transport.close()


# Scheme -> "module:class"; the class takes `Settings`. Modules are imported on use, so that a device loads one client.
_REGISTRY = {
    "memory": "edge_sdk.transport.memory:MemoryTransport",
    "mqtt": "edge_sdk.transport.mqtt:MqttTransport",
    "mqtts": "edge_sdk.transport.mqtt:MqttTransport",
}


def schemes() -> tuple[str, ...]:
    """The URL schemes that there are transports for."""
    return tuple(sorted(_REGISTRY))


def create(settings: Settings) -> Transport:
    """The transport that the URL's scheme names, not yet connected.

    Raises:
        TransportError: the URL makes no sense.
    """
    try:
        target = _REGISTRY.get(settings.scheme)
        complete = bool(settings.host) and settings.port != 0
    except ValueError as error:  # a port that is no number
        raise TransportError(f"Broker URL {_redacted(settings.url)!r}: {error}.") from error
    if target is None or not complete:
        raise TransportError(
            f"Broker URL {_redacted(settings.url)!r} makes no sense. "
            "Use mqtt://host:port, mqtts://host:port or memory://name."
        )
    module, _, name = target.partition(":")
    complete_settings = replace(settings, client_id=settings.client_id or fresh_id())
    transport: Transport = getattr(import_module(module), name)(complete_settings)
    return transport


def connect(
    url: str,
    *,
    client_id: str = "",
    will: Will | None = None,
    deadline: float = 10.0,
    max_payload: int = DEFAULT_MAX_PAYLOAD,
    publish_deadline: float = 30.0,
    window: int = 16,
    keepalive: int = 30,
    reconnect_delay: tuple[float, float] = (1, 30),
    on_connection: Callable[[bool], None] | None = None,
    username: str | None = None,
    password: str | None = None,
    tls: Tls | None = None,
) -> Transport:
    """Connect to the broker at `url` within `deadline` seconds. The other arguments are those of `Settings`.

    Raises:
        TransportError: the URL makes no sense.
        BrokerUnreachable: nobody answers within the deadline, or the broker refuses us.
    """
    transport = create(
        Settings(
            url=url,
            client_id=client_id,
            will=will,
            max_payload=max_payload,
            publish_deadline=publish_deadline,
            window=window,
            keepalive=keepalive,
            reconnect_delay=reconnect_delay,
            on_connection=on_connection,
            username=username,
            password=password,
            tls=tls,
        )
    )
    transport.connect(deadline)
    return transport


def _redacted(url: str) -> str:
    """The URL without user and password, fit for messages and logs."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
