"""paho's client as a transport needs it: its identity, its will, its window, encryption."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_sdk.transport.address import ENCRYPTED
from edge_sdk.transport.base import Settings, Tls
from edge_sdk.transport.mqtt.tls import make_context
from edge_sdk.transport.mqtt.tolerant import TolerantClient


def make_client(settings: Settings, ended: Callable[[OSError], None]) -> Client:
    """Return a client that is not connected; incoming messages are acknowledged by hand.

    Args:
        settings: settings of the transport.
        ended: called with the error that ends an encrypted connection.
    """
    context = make_context(settings.tls or Tls(), ended) if settings.address.scheme == ENCRYPTED else None
    client = TolerantClient(CallbackAPIVersion.VERSION2, settings.client_id, protocol=MQTTv5, manual_ack=True)
    username, password = settings.credentials
    if username is not None:
        client.username_pw_set(username, password)
    if context is not None:
        client.tls_set_context(context)
    if settings.will is not None:
        properties = packet_properties(PacketTypes.WILLMESSAGE, WillDelayInterval=int(settings.will.delay))
        client.will_set(settings.will.topic, settings.will.payload, 1, settings.will.retain, properties)
    client.max_inflight_messages_set(settings.window)
    client.on_socket_open = _without_delay
    return client


def packet_properties(packet: int, **values: int) -> Properties:
    """Return MQTT 5 properties of a packet."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _without_delay(client: Client, _: object, connection: Any) -> None:
    """Switch Nagle's algorithm off: it costs 40 ms a round trip together with delayed acknowledgements."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
