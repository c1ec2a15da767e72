"""MQTT 5 through paho-mqtt.

This module does what paho leaves to the application:
- it spreads reconnections (paho's delays are the same on every device);
- it keeps few messages in flight (paho ignores the broker's Receive Maximum, and resends its whole queue after a
  reconnection);
- it refuses messages over the broker's Maximum Packet Size (paho would resend them for ever, and block all later ones);
- it subscribes again after a reconnection;
- it runs handlers on their own thread, so that they may publish.
Incoming messages are acknowledged once they are handled. Together with the Receive Maximum that we announce, this
bounds the messages that wait in memory.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_sdk.errors import BrokerUnreachable, DeadlineExceeded, PayloadTooLarge, TransportError
from edge_sdk.transport.address import ENCRYPTED
from edge_sdk.transport.arrivals import Arrivals
from edge_sdk.transport.base import PACKET_MARGIN, Handler, OnTrouble, Settings, Tls
from edge_sdk.transport.delivery import Delivery
from edge_sdk.transport.filters import check_filter, check_topic, matches
from edge_sdk.transport.mqtt import reasons, refusals
from edge_sdk.transport.mqtt.client import make_client, packet_properties
from edge_sdk.transport.mqtt.reasons import Reason
from edge_sdk.transport.mqtt.reconnection import Reconnection
from edge_sdk.transport.mqtt.session import RECEIVE_MAXIMUM, SESSION_EXPIRY

_LOG = logging.getLogger(__name__)

_MAX_UNACKNOWLEDGED = 1000  # waiting messages of QoS 0, which Receive Maximum does not cover; beyond, they are dropped
_MAX_TOPIC = 256
_CLOSE_DEADLINE = 5.0


class MqttTransport:
    """A connection to an MQTT 5 broker, by "mqtt://" or, encrypted, "mqtts://"."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = settings.address
        self._changed = threading.Condition()  # guards all that follows
        self._connected = False
        self._ever_connected = False
        self._returning = False  # connected again, but not all subscriptions are confirmed yet
        self._closed = False
        self._hurry_until: float | None = None  # no call waits longer than this; None: there is no hurry
        self._generation = 0  # counts connections: message ids are only valid within one
        self._failure: Reason | None = None  # of the last attempt to connect; None once one has succeeded
        self._refused: TransportError | None = None  # the broker's last refusal of a message or a subscription
        self._unflushed: TransportError | None = None  # its first refusal of a message since the last `flush`
        self._answered = False  # True if the broker has answered this attempt
        self._ended_by: OSError | None = None  # the error that ended this attempt's encrypted connection
        self._in_flight = 0
        self._window = settings.window
        self._max_packet: int | None = None
        self._handlers: dict[str, Handler] = {}
        self._subscribing: dict[int, str] = {}  # message id of a SUBSCRIBE -> its filter
        self._confirmed: dict[str, ReasonCode] = {}  # filter -> the broker's answer in this connection
        self._reconnection = Reconnection(*settings.reconnect_delay, random.random)
        self._arrivals = Arrivals(settings.max_payload)
        self._delivery = Delivery(f"mqtt-delivery-{settings.client_id}")
        self._client = self._make_client()

    # --- Transport ------------------------------------------------------------------------------------------------

    @property
    def max_payload(self) -> int:
        return min(self._settings.max_payload, self._room(_MAX_TOPIC))

    @property
    def trouble(self) -> TransportError | None:
        with self._changed:
            return self._unreachable() if self._failure else self._refused

    def connect(self, deadline: float, on_trouble: OnTrouble | None = None) -> None:
        self._client.connect_timeout = max(0.1, min(5.0, deadline))
        # The session outlives a lost connection for a while, so that messages on their way still come.
        delay = self._settings.will.delay if self._settings.will else 0.0
        properties = packet_properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=max(SESSION_EXPIRY, int(delay)),
            ReceiveMaximum=RECEIVE_MAXIMUM,
            MaximumPacketSize=self._settings.max_payload + PACKET_MARGIN,
        )
        self._client.connect_async(
            self._address.host, self._address.port, self._settings.keepalive, properties=properties
        )
        self._delivery.start()
        self._client.loop_start()
        until, known = time.monotonic() + deadline, None

        def is_news() -> bool:
            return self._connected or self._failure not in (None, known)

        while True:
            with self._changed:
                self._wait_for(is_news, until - time.monotonic())
                if self._connected:
                    return
                known, over = self._failure, self._closed or self._hurry_until is not None
            if over or known is None or known.final or time.monotonic() >= until:
                break
            if on_trouble:
                on_trouble(self._unreachable())
        self.close()
        raise self._unreachable(deadline)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        check_topic(topic)
        deadline = self._settings.publish_deadline
        with self._changed:
            self._wait_for(lambda: self._connected and self._has_room(), deadline)
            if self._closed:
                raise TransportError("This transport is closed.")
            limit = min(self._settings.max_payload, self._room(len(topic.encode())))
            if len(payload) > limit:
                raise PayloadTooLarge(
                    f"A message of {len(payload)} bytes is larger than the {limit} that {self._address.endpoint} "
                    "accepts: choose smaller chunks, or raise the broker's maximum packet size."
                    if limit < self._settings.max_payload
                    else f"A message of {len(payload)} bytes is larger than the {limit} that a message may have."
                )
            if not self._connected:
                why = f" {self._failure}" if self._failure else ""
                raise DeadlineExceeded(
                    f"No connection to {self._address.endpoint}; waited for up to {deadline:g} s.{why}"
                )
            if not self._has_room():
                raise DeadlineExceeded(
                    f"The broker at {self._address.endpoint} is overloaded: it acknowledged nothing, waited for up to "
                    f"{deadline:g} s."
                )
            self._in_flight += 1
        # Outside our lock: paho holds a lock of its own while it calls `_on_publish`, which takes ours.
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):  # the latter stays queued
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()
            raise TransportError(f"The message could not be sent: {info.rc.name}.")

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        check_filter(topic_filter)
        with self._changed:
            if self._closed:
                raise TransportError("This transport is closed.")
            self._handlers[topic_filter] = handler
            self._confirmed.pop(topic_filter, None)
        self._ask_for(topic_filter)
        with self._changed:
            self._wait_for(lambda: topic_filter in self._confirmed, self._settings.publish_deadline)
            answer = self._confirmed.get(topic_filter)
            if answer is None or answer.is_failure:
                self._handlers.pop(topic_filter, None)
            failure = self._failure
        if answer is None:
            why = f" {failure}" if failure else ""
            raise DeadlineExceeded(
                f"The broker at {self._address.endpoint} did not confirm the subscription in time.{why}"
            )
        if answer.is_failure:
            raise refusals.not_subscribed(self._settings, topic_filter, answer)

    def flush(self, deadline: float) -> None:
        with self._changed:
            self._wait_for(lambda: self._in_flight <= 0, deadline)
            if self._in_flight > 0:
                raise DeadlineExceeded(
                    f"{self._in_flight} messages were not acknowledged by {self._address.endpoint} in {deadline:g} s."
                )
            refused, self._unflushed = self._unflushed, None
        if refused is not None:
            raise refused

    def hurry(self) -> None:
        with self._changed:
            self._hurry_until = time.monotonic() + _CLOSE_DEADLINE
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            if self._connected:
                self._changed.wait_for(lambda: self._in_flight <= 0 or not self._connected, _CLOSE_DEADLINE)
            connected, self._closed = self._connected, True
            self._changed.notify_all()
        self._client.disconnect(properties=packet_properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0))
        self._stop(connected)

    def abort(self) -> None:
        with self._changed:
            if self._closed:
                return
            connected, self._closed = self._connected, True
            self._changed.notify_all()
        # paho reconnects unless it was told to disconnect; with the socket shut first, no DISCONNECT is sent.
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with suppress(OSError):  # it has just been lost
                connection.shutdown(socket.SHUT_RDWR)
        self._client.disconnect()
        self._stop(connected)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _wait_for(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait, with the lock held, until `ready`, the transport is closed, or time is over (sooner in a hurry)."""
        self._changed.wait_for(lambda: self._closed or self._hurry_until is not None or ready(), deadline)
        if self._hurry_until is not None:
            left = max(0.0, self._hurry_until - time.monotonic())
            self._changed.wait_for(lambda: self._closed or not self._connected or ready(), min(left, deadline))

    def _stop(self, connected: bool) -> None:
        """End all threads. The network's thread cannot be stopped during an attempt to connect; it ends after it."""
        if connected:
            self._client.loop_stop()
            self._client._reset_sockets(sockpair_only=True)  # paho leaves these sockets to the garbage collector
        else:
            threading.Thread(target=self._end_loop, name="mqtt-stop", daemon=True).start()
        self._delivery.stop(_CLOSE_DEADLINE)

    def _end_loop(self) -> None:
        with suppress(AttributeError):  # paho forgets its thread when that ends by itself
            self._client.loop_stop()
        self._client._reset_sockets(sockpair_only=True)

    def _make_client(self) -> Client:
        client = make_client(self._settings, self._note_end)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _has_room(self) -> bool:
        return self._in_flight < self._window

    def _room(self, topic_bytes: int) -> int:
        """Bytes of the largest payload beside a topic: fixed header 5, topic length 2, message id 2, properties 1."""
        return sys.maxsize if self._max_packet is None else self._max_packet - topic_bytes - 10

    def _ask_for(self, topic_filter: str) -> None:
        """Send a SUBSCRIBE if connected; otherwise `_on_connect` will."""
        with self._changed:  # held, so that `_on_subscribe` finds the id noted; SUBSCRIBE needs no lock of paho's
            if not self._connected:
                return
            _, message_id = self._client.subscribe(topic_filter, qos=1)
            if message_id is not None:
                self._subscribing[message_id] = topic_filter

    def _unreachable(self, deadline: float | None = None) -> BrokerUnreachable:
        return refusals.unreachable(self._address.endpoint, self._failure, deadline)

    def _failed(self, reason: Reason, *, silently: bool = False) -> None:
        """Note the reason for a missing connection, and report it if it is new and not `silently`.

        Failures before the first connection are reported by `connect`, and a loss by `on_connection`.
        """
        with self._changed:
            news = reason != self._failure
            self._failure = reason
            tell = news and self._ever_connected and not self._closed and not silently
            error = self._unreachable()
            self._changed.notify_all()
        if news:
            _LOG.info("%s", error)
        if tell:
            self._tell(error)

    def _note_end(self, error: OSError) -> None:
        self._ended_by = error

    def _tell(self, error: TransportError) -> None:
        callback = self._settings.on_trouble
        if callback is not None:
            self._delivery.put(lambda: callback(error))

    # --- called by paho's network thread ----------------------------------------------------------------------------

    def _on_connect(
        self, client: Client, _: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._answered = True
            self._failed(reasons.of_refusal(reason.value, str(reason), self._settings.credentials[0]))
            return
        with self._changed:
            if self._closed:  # during this attempt
                client.disconnect()
                return
            self._generation += 1
            self._connected, self._failure, self._ended_by, self._answered = True, None, None, True
            self._reconnection.connected(time.monotonic())
            self._returning, self._ever_connected = self._ever_connected, True
            self._max_packet = getattr(properties, "MaximumPacketSize", None)
            self._window = min(self._settings.window, getattr(properties, "ReceiveMaximum", None) or 65535)
            self._confirmed.clear()
            self._subscribing.clear()
            filters = list(self._handlers)
            self._changed.notify_all()
        self._drop_what_does_not_fit(client)
        for topic_filter in filters:
            self._ask_for(topic_filter)
        self._report_return()

    def _drop_what_does_not_fit(self, client: Client) -> None:
        """Drop messages in flight that are too large for the broker's new Maximum Packet Size.

        It may be smaller than before the loss. paho would resend them and be disconnected for it, again and again. They
        can only be removed from paho's own table.
        """
        dropped = 0
        with client._out_message_mutex:  # not within our lock: paho holds it while it calls `_on_publish`
            for message_id, message in list(client._out_messages.items()):
                if len(message.payload) > self._room(len(message.topic.encode())):
                    del client._out_messages[message_id]
                    dropped += 1
        if dropped:
            with self._changed:
                self._in_flight -= dropped
                self._changed.notify_all()
            _LOG.warning(
                "The broker at %s came back, with packets of at most %s bytes: %d messages in flight were dropped.",
                self._address.endpoint,
                self._max_packet,
                dropped,
            )

    def _on_connect_fail(self, client: Client, _: object) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        place, tls = self._address, self._settings.tls or Tls()
        self._failed(
            reasons.of_connecting(
                error,
                place.host,
                place.endpoint,
                encrypted=place.scheme == ENCRYPTED,
                own_authority=tls.ca is not None,
            )
        )
        self._put_off(client)

    def _on_disconnect(
        self, client: Client, _: object, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            # If the return was not reported yet, neither is the loss.
            was_connected, lost = self._connected, self._connected and not self._returning
            self._connected = False
            self._generation += 1
            closed, ended_by, self._ended_by = self._closed, self._ended_by, None
            answered, self._answered = self._answered, False  # if answered, the reason is known already
            self._changed.notify_all()
        self._put_off(client)
        if closed:
            return
        if was_connected or not answered:
            said = reason if flags.is_disconnect_packet_from_server else None
            self._failed(self._end(said, was_connected, ended_by), silently=was_connected)
        if lost:
            self._report(False)

    def _end(self, said: ReasonCode | None, was_connected: bool, ended_by: OSError | None) -> Reason:
        """The reason for the end of a connection: the broker's own, or else the network's."""
        endpoint, encrypted = self._address.endpoint, self._address.scheme == ENCRYPTED
        if said is not None:
            return reasons.of_farewell(said.value, str(said))
        if isinstance(ended_by, ssl.SSLError) and (alert := reasons.of_alert(ended_by, endpoint)):
            return alert
        if was_connected:
            return reasons.cut(endpoint)
        return reasons.silent(endpoint) if self._ever_connected else reasons.hung_up(endpoint, encrypted=encrypted)

    def _put_off(self, client: Client) -> None:
        """Set the delay before the next attempt, for which paho waits after this callback."""
        with self._changed:
            delay = self._reconnection.away(time.monotonic())
        client.reconnect_delay_set(delay, delay)  # type: ignore[arg-type]  # fractions are as good

    def _on_subscribe(
        self, client: Client, _: object, message_id: int, answers: list[ReasonCode], properties: Properties | None
    ) -> None:
        with self._changed:
            topic_filter = self._subscribing.pop(message_id, None)
            if topic_filter is not None:
                self._confirmed[topic_filter] = answers[0]
            self._changed.notify_all()
            refused = self._returning and answers[0].is_failure and topic_filter is not None
        if refused:
            self._note_refusal(refusals.not_subscribed(self._settings, topic_filter or "", answers[0]))
        self._report_return()

    def _on_publish(
        self, client: Client, _: object, message_id: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        sent = client._out_messages.get(message_id) if reason.is_failure else None  # there during this call only
        error = refusals.not_published(self._settings, sent.topic, len(sent.payload), reason) if sent else None
        with self._changed:
            self._in_flight -= 1
            self._unflushed = self._unflushed or error
            self._changed.notify_all()
        if error is not None:
            self._note_refusal(error)

    def _note_refusal(self, error: TransportError) -> None:
        with self._changed:
            self._refused = error
        _LOG.warning("%s", error)
        self._tell(error)

    def _on_message(self, client: Client, _: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            _LOG.warning("A message on a topic that is no UTF-8 was dropped.")
            client.ack(message.mid, message.qos)
            return
        if not self._arrivals.admits(topic, message.payload):
            client.ack(message.mid, message.qos)
            return
        if message.qos == 0 and self._delivery.waiting > _MAX_UNACKNOWLEDGED:
            return
        with self._changed:
            generation = self._generation
            handlers = [handler for topic_filter, handler in self._handlers.items() if matches(topic_filter, topic)]
        payload = bytes(message.payload)

        def deliver() -> None:
            try:
                for handler in handlers:
                    handler(topic, payload)
            finally:
                with self._changed:
                    current = generation == self._generation
                if current and message.qos:
                    with suppress(OSError):  # closed meanwhile: nobody waits for it
                        client.ack(message.mid, message.qos)

        self._delivery.put(deliver)

    def _report_return(self) -> None:
        """Report that the connection is back, once it is and every subscription has been answered."""
        with self._changed:
            back = self._returning and self._connected and not self._subscribing
            if back:
                self._returning = False
        if back:
            self._report(True)

    def _report(self, online: bool) -> None:
        callback = self._settings.on_connection
        if callback is not None:
            self._delivery.put(lambda: callback(online))
