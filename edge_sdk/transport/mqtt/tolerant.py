"""paho's client, made to accept reason codes in a PUBACK that MQTT 5 does not list for it.

Mosquitto answers a message over its `message_size_limit` with such a code, "Packet too large" (149). paho takes that
for a malformed packet, disconnects, and sends the message again, for ever: no later message passes, and no error says
why.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_SUCCESS, _FAILURE = 0x00, 0x80  # codes from the latter on are failures
_OTHERS = (PacketTypes.DISCONNECT, PacketTypes.CONNACK, PacketTypes.SUBACK)


class TolerantClient(Client):
    """paho's client for MQTT 5 that handles a PUBACK with any reason code."""

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) < 3 or _named(packet[2], PacketTypes.PUBACK):
            return super()._handle_pubackcomp(cmd)
        number, reason = int.from_bytes(packet[:2], "big"), _unexpected(packet[2])
        with self._out_message_mutex:  # as in paho's own handler
            if number in self._out_messages:
                return self._do_on_publish(number, reason, Properties(PacketTypes.PUBACK))  # type: ignore[no-untyped-call]
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _unexpected(code: int) -> ReasonCode:
    """The reason code as another packet names it, or else the general success or failure."""
    for kind in _OTHERS:
        if reason := _named(code, kind):
            return reason
    return ReasonCode(PacketTypes.PUBACK, identifier=_FAILURE if code >= _FAILURE else _SUCCESS)


def _named(code: int, kind: int) -> ReasonCode | None:
    with suppress(KeyError, ValueError):
        return ReasonCode(kind, identifier=code)
    return None
