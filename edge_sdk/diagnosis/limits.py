"""Check of the broker's stated limits against the needs of a federation."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.diagnosis.finding import Finding
from edge_sdk.diagnosis.session import Session
from edge_sdk.transport import SESSION_EXPIRY, Settings
from edge_sdk.wire import LEAST_PAYLOAD, MAX_CHUNK

# A chunk, a topic of 256 bytes, and MQTT's overhead.
NEEDED_PACKET = MAX_CHUNK + 256 + 10
LEAST_PACKET = LEAST_PAYLOAD + 256 + 10


def check_limits(session: Session) -> Iterator[Finding]:
    """Check packet size, Receive Maximum, retained messages, QoS, wildcards, and sessions that outlive a lost line."""
    found = session.properties

    def stated(name: str) -> int | None:
        return getattr(found, name, None)

    yield Finding("broker", "ok", "It speaks MQTT 5 and lets this device in.")
    packet, receive = stated("MaximumPacketSize"), stated("ReceiveMaximum")
    if packet is not None and packet < LEAST_PACKET:
        yield Finding(
            "broker",
            "broken",
            f"Its Maximum Packet Size is {packet} bytes; a federation takes at least {LEAST_PACKET}.",
            "What starts a round would not pass: joining is refused.",
            "Set `max_packet_size 135168` in mosquitto.conf, or its like in another broker.",
        )
    elif packet is not None and packet < NEEDED_PACKET:
        yield Finding(
            "broker",
            "warning",
            f"Its Maximum Packet Size is {packet} bytes; a whole chunk of an adapter takes {NEEDED_PACKET}.",
            "Chunks are made to fit, so that transfers take more messages and are slower.",
            "Set `max_packet_size 135168` in mosquitto.conf, or its like in another broker.",
        )
    else:
        yield Finding("broker", "ok", f"Packets may have {'any size' if packet is None else f'{packet} bytes'}.")
    if receive is not None and receive < Settings.window:
        yield Finding(
            "broker",
            "warning",
            f"Its Receive Maximum is {receive}: so few messages may be under way.",
            f"Transfers will be slow; {Settings.window} are used where they may.",
            "Raise `max_inflight_messages` in mosquitto.conf, or its like.",
        )
    if stated("RetainAvailable") == 0:
        yield Finding(
            "broker",
            "broken",
            "It keeps no retained messages.",
            "Coordinator and devices tell by them who is there.",
            "Set `retain_available true` in mosquitto.conf, or its like.",
        )
    if stated("MaximumQoS") == 0:
        yield Finding(
            "broker",
            "broken",
            "It allows QoS 0 only.",
            "Messages would be lost unnoticed.",
            "Set `max_qos 1` or more in mosquitto.conf, or its like.",
        )
    if stated("WildcardSubscriptionAvailable") == 0:
        yield Finding(
            "broker",
            "broken",
            "It allows no subscriptions with wildcards.",
            "Devices and coordinator subscribe with `+`.",
            "Allow them in the broker's configuration.",
        )
    expiry = stated("SessionExpiryInterval")
    if expiry is not None and expiry < SESSION_EXPIRY:
        yield Finding(
            "broker",
            "warning",
            f"It forgets sessions after {expiry} s instead of {SESSION_EXPIRY}.",
            "What is on its way when a line drops is lost and has to be asked for again.",
            "Allow sessions to live for a minute or more.",
        )
