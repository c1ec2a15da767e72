"""Connections to a broker: MQTT 5, or a twin inside the process. Chosen by the URL's scheme.

`EmbeddedBroker` lives in edge_sdk.transport.embedded and `MemoryBroker` in edge_sdk.transport.memory.
"""

from __future__ import annotations

from edge_sdk.transport.address import ENCRYPTED, MEMORY, Address
from edge_sdk.transport.bandwidth import Pacer, credit_for, read_bandwidth
from edge_sdk.transport.base import (
    DEFAULT_MAX_PAYLOAD,
    PACKET_MARGIN,
    Handler,
    OnTrouble,
    Settings,
    Tls,
    Transport,
    Will,
    check,
    connect,
    create,
    hang_up,
    schemes,
)
from edge_sdk.transport.identity import fresh_id
from edge_sdk.transport.mqtt import reasons
from edge_sdk.transport.mqtt.reasons import Reason
from edge_sdk.transport.mqtt.session import RECEIVE_MAXIMUM, SESSION_EXPIRY
from edge_sdk.transport.reminder import Reminder
from edge_sdk.transport.secret import read_secret

__all__ = [
    "DEFAULT_MAX_PAYLOAD",
    "ENCRYPTED",
    "MEMORY",
    "PACKET_MARGIN",
    "RECEIVE_MAXIMUM",
    "SESSION_EXPIRY",
    "Address",
    "Handler",
    "OnTrouble",
    "Pacer",
    "Reason",
    "Reminder",
    "Settings",
    "Tls",
    "Transport",
    "Will",
    "check",
    "connect",
    "create",
    "credit_for",
    "fresh_id",
    "hang_up",
    "read_bandwidth",
    "read_secret",
    "reasons",
    "schemes",
]
