"""The interface of transports, and their registry by URL scheme."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol

from edge_sdk.errors import BrokerSettingsInvalid, ConfigurationError, TransportError
from edge_sdk.transport.address import ENCRYPTED, MEMORY, PLAIN, Address, read_address, redacted
from edge_sdk.transport.bandwidth import read_bandwidth
from edge_sdk.transport.identity import fresh_id

Handler = Callable[[str, bytes], None]  # topic, payload
OnTrouble = Callable[[TransportError], None]

# Bytes of the protocol's largest message and chunk. Even a peer or a broker that lets more through must not fill our
# memory.
DEFAULT_MAX_PAYLOAD = 128 << 10
PACKET_MARGIN = 4096  # bytes of a packet around its payload: topic and properties
_FAREWELL = 5.0  # seconds that the broker may take to acknowledge the last message


@dataclass(frozen=True)
class Will:
    """MQTT's will: the message that the broker publishes for a client that is lost without a DISCONNECT.

    delay: seconds that the client has to come back before it is published, so that short losses go unnoticed.
    """

    topic: str
    payload: bytes
    retain: bool = True
    delay: float = 0.0


@dataclass(frozen=True)
class Tls:
    """TLS files in PEM form.

    ca: the authority that signed the broker's certificate; None takes those that the system trusts.
    certificate, key: our own, for brokers that ask for one; None for the key if it is in the certificate's file.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of a connection, from which every transport is made.

    Attributes:
        url: "mqtt://host:port", "mqtts://host:port" or "memory://name"; user and password may be in it,
            percent-encoded.
        client_id: unique on the broker; any second client of that id takes the connection over. Empty: a random one is
            made for each session. Give one only if the broker's rules ask for it.
        will: the message that the broker publishes if we are lost without a DISCONNECT.
        max_payload: bytes; larger messages are neither sent nor accepted.
        publish_deadline: seconds that one publish may wait for a connection and for room in the window.
        window: messages that may await their acknowledgement at once.
        keepalive: seconds after which a silent connection counts as lost, times 1.5.
        reconnect_delay: (first, largest) seconds between attempts to connect again, see `reconnection`.
        bandwidth: limit in bytes per second for those who send chunks over this transport (`transport.bandwidth`);
            None sets no limit.
        on_connection: called with False when the connection is lost, and with True when it has come back and the broker
            has confirmed all subscriptions again; not called for the first connection. Runs on the delivery thread.
        on_trouble: called with an error for every reconnection that fails for another reason than the one before, and
            for every message or subscription that the broker refuses after `publish` or `subscribe` has returned:
            AccessDenied, PayloadTooLarge, or TransportError with the broker's reason. Runs on the delivery thread. An
            error that it or `on_connection` raises is logged, and ends nothing.
        username, password: if they are not in the URL. Over "mqtt://" a password is sent in clear, see `exposed`.
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
    on_trouble: OnTrouble | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @property
    def address(self) -> Address:
        """The parsed URL.

        Raises:
            BrokerSettingsInvalid: it makes no sense.
        """
        return read_address(self.url)

    @property
    def credentials(self) -> tuple[str | None, str | None]:
        """User and password, from their settings or from the URL."""
        address = self.address
        return (self.username or address.username), (self.password or address.password)

    @property
    def exposed(self) -> bool:
        """True if a password is sent over a network in clear."""
        return self.address.scheme == PLAIN and not self.address.is_loopback and self.credentials[1] is not None

    def __repr__(self) -> str:
        """The settings without the password, also if it is in the URL."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.repr}
        shown["url"] = redacted(self.url)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class Transport(Protocol):
    """A client's connection to a broker, which comes back after a loss. Any thread may call its methods, also handlers.

    Handlers run one at a time on a delivery thread, in the order of arrival. Delivery is at least once: a message may
    come twice. Messages of one sender on one topic keep their order.
    """

    @property
    def max_payload(self) -> int:
        """The largest payload in bytes that `publish` takes on any topic of up to 256 bytes."""

    @property
    def trouble(self) -> TransportError | None:
        """The error for a missing connection, or else for the broker's last refusal; None if all is well."""

    def connect(self, deadline: float, on_trouble: OnTrouble | None = None) -> None:
        """Connect, within `deadline` seconds; once. A transport that could not connect is closed.

        Args:
            on_trouble: called meanwhile, in this thread, with the error of a failed attempt, if its reason is new.

        Raises:
            BrokerUnreachable: nobody answers, or the broker refuses us; the message has the reason.
        """

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a message, to be delivered at least once; waits while the window is full or the connection is lost.

        Raises:
            PayloadTooLarge: larger than the broker accepts; nothing is sent.
            DeadlineExceeded: no room within the publish deadline; nothing is sent.
            TransportError: the transport is closed.
        """

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Call `handler(topic, payload)` for every message that matches, retained ones first.

        Returns when the broker has confirmed. The subscription outlives reconnections. Filters of one transport should
        not overlap: brokers differ in how often they deliver then. Subscribing again to a filter replaces its handler.

        Raises:
            DeadlineExceeded: no confirmation within the publish deadline.
            TransportError: the broker refuses the subscription, or the transport is closed.
        """

    def flush(self, deadline: float) -> None:
        """Wait until the broker has acknowledged all published messages.

        Raises:
            DeadlineExceeded: not within `deadline` seconds.
            AccessDenied, PayloadTooLarge, TransportError: it has refused one since the last call; the first of them.
        """

    def hurry(self) -> None:
        """Prepare for the end: from now on, no call waits for a lost connection, nor long for a slow broker.

        Calls that already wait for a lost connection return at once, as after their deadline.
        """

    def close(self) -> None:
        """Send pending messages, disconnect (without a will) and stop all threads. May be called again."""

    def abort(self) -> None:
        """End the connection as a crash would, without a DISCONNECT; the broker publishes the will. For fault tests."""


def hang_up(transport: Transport, topic: str, payload: bytes) -> None:
    """Publish a last retained message and close. If it cannot be sent, abort, so that the broker publishes the will."""
    transport.hurry()
    with suppress(TransportError):
        transport.flush(0)  # refusals of earlier messages say nothing about this one
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
    "mqtt": "edge_sdk.transport.mqtt.transport:MqttTransport",
    "mqtts": "edge_sdk.transport.mqtt.transport:MqttTransport",
}


def schemes() -> tuple[str, ...]:
    """URL schemes with a transport."""
    return tuple(sorted(_REGISTRY))


def check(settings: Settings) -> None:
    """Refuse settings that make no sense, contradict each other, or would have no effect.

    Raises:
        BrokerSettingsInvalid: the settings are refused; the message says what to change.
    """
    address, tls = settings.address, settings.tls or Tls()
    given = [name for name in ("ca", "certificate", "key") if getattr(tls, name) is not None]
    if given and address.scheme != ENCRYPTED:
        raise BrokerSettingsInvalid(
            f"{' and '.join(given)} would have no effect: {address.scheme}:// is not encrypted. Begin the broker's URL "
            f"with {ENCRYPTED}:// (usually port 8883), or leave {'it' if len(given) == 1 else 'them'} out."
        )
    if tls.key is not None and tls.certificate is None:
        raise BrokerSettingsInvalid("key would have no effect without its certificate: give both, or neither.")
    apart = {"user name": settings.username, "password": settings.password}
    inside = {"user name": address.username, "password": address.password}
    for what, value in apart.items():
        if value and inside[what] and value != inside[what]:
            raise BrokerSettingsInvalid(
                f"There are two: a {what} in the broker's URL, and another one beside it. Leave one of them out."
            )
    user, password = settings.credentials
    if password and not user:
        raise BrokerSettingsInvalid(
            "The password would have no effect without a user name: give the user's name too, or no password."
        )
    if (user or password) and address.scheme == MEMORY:
        raise BrokerSettingsInvalid("A memory:// broker knows no users: leave user name and password out.")
    _check_numbers(settings)


def _check_numbers(settings: Settings) -> None:
    first, largest = settings.reconnect_delay
    name_size = len(settings.client_id.encode())
    limits = (
        ("keepalive", settings.keepalive, 1 <= settings.keepalive <= 65535, "1 to 65535 seconds"),
        ("window", settings.window, 1 <= settings.window <= 65535, "1 to 65535 messages"),
        ("max_payload", settings.max_payload, 1 <= settings.max_payload < 2**28, "1 byte to 256 MiB"),
        ("publish_deadline", settings.publish_deadline, settings.publish_deadline > 0, "more than 0 seconds"),
        (
            "reconnect_delay",
            settings.reconnect_delay,
            0 < first <= largest < 1e6,
            "two numbers above 0, the less first",
        ),
        ("the size of client_id", name_size, name_size < 2**16, "at most 65535 bytes"),
    )
    for name, value, holds, allowed in limits:
        if not holds:
            raise BrokerSettingsInvalid(f"{name} = {value} makes no sense for a connection: use {allowed}.")
    try:
        read_bandwidth(settings.bandwidth)
    except ConfigurationError as error:
        raise BrokerSettingsInvalid(str(error)) from error


def create(settings: Settings) -> Transport:
    """The transport that the URL's scheme names, not yet connected.

    Raises:
        BrokerSettingsInvalid: the URL makes no sense, the settings contradict each other or would have no effect, or
            TLS files cannot be used.
    """
    check(settings)
    module, _, name = _REGISTRY[settings.address.scheme].partition(":")
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
    on_trouble: OnTrouble | None = None,
    username: str | None = None,
    password: str | None = None,
    tls: Tls | None = None,
) -> Transport:
    """Connect to the broker at `url` within `deadline` seconds. The other arguments are those of `Settings`.

    Raises:
        BrokerSettingsInvalid: as `create`.
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
            on_trouble=on_trouble,
            username=username,
            password=password,
            tls=tls,
        )
    )
    transport.connect(deadline)
    return transport
