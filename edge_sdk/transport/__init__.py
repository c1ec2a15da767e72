"""Connections to a broker: MQTT 5, or a twin inside the process. Chosen by the URL's scheme.

`EmbeddedBroker` lives in edge_sdk.transport.embedded and `MemoryBroker` in edge_sdk.transport.memory.
"""

from __future__ import annotations

from edge_sdk.transport.bandwidth import read_bandwidth
from edge_sdk.transport.base import (
    DEFAULT_MAX_PAYLOAD,
    Handler,
    Settings,
    Tls,
    Transport,
    Will,
    connect,
    create,
    hang_up,
    schemes,
)

__all__ = [
    "DEFAULT_MAX_PAYLOAD",
    "Handler",
    "Settings",
    "Tls",
    "Transport",
    "Will",
    "connect",
    "create",
    "hang_up",
    "read_bandwidth",
    "schemes",
]
