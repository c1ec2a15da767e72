"""Errors for what a broker refuses, each with what to change."""

from __future__ import annotations

from paho.mqtt.reasoncodes import ReasonCode

from edge_sdk.errors import AccessDenied, BrokerUnreachable, PayloadTooLarge, TransportError
from edge_sdk.transport.base import Settings
from edge_sdk.transport.mqtt import reasons
from edge_sdk.transport.mqtt.reasons import Reason


def unreachable(endpoint: str, failure: Reason | None, deadline: float | None = None) -> BrokerUnreachable:
    """Return the error for a missing connection.

    Args:
        endpoint: the broker's host and port.
        failure: the reason; None if there was no answer.
        deadline: seconds without one, if the attempt is given up.
    """
    if failure is not None and failure.final:
        said = f"{failure.said}. " if failure.said else ""
        return BrokerUnreachable(f"The broker at {endpoint} refused the connection: {said}{failure}")
    within = "" if deadline is None else f" within {deadline:g} s"
    why = failure or "No answer. Check the address, and that the broker is running and reachable from here."
    return BrokerUnreachable(f"No MQTT broker at {endpoint}{within}: {why}")


def not_subscribed(settings: Settings, topic_filter: str, answer: ReasonCode) -> TransportError:
    """Return the error for a refused subscription."""
    denied = answer.value in reasons.FORBIDDEN
    return (AccessDenied if denied else TransportError)(
        f"The broker at {settings.address.endpoint} refuses the subscription to {topic_filter!r}: {answer}. "
        f"Check its access rules for {_who(settings)} (docs/protocol.md, section 3; samples/broker/acl)."
    )


def not_published(settings: Settings, topic: str, size: int, answer: ReasonCode) -> TransportError:
    """Return the error for a refused message of `size` bytes."""
    said = f"The broker at {settings.address.endpoint} refuses a message of {size} bytes on {topic[:300]}: {answer}."
    if answer.value == reasons.PACKET_TOO_LARGE:
        return PayloadTooLarge(
            f"{said} Raise its `message_size_limit` (mosquitto.conf) to {settings.max_payload}, or its like; "
            "chunks are made to fit only a limit that is stated when clients connect (`max_packet_size`)."
        )
    if answer.value in reasons.FORBIDDEN:
        return AccessDenied(
            f"{said} Let {_who(settings)} publish there (docs/protocol.md, section 3; samples/broker/acl), or connect "
            "as the user who may."
        )
    if answer.value == reasons.QUOTA_EXCEEDED:
        return TransportError(f"{said} Raise what the broker grants {_who(settings)}, or publish less (`bandwidth`).")
    return TransportError(f"{said} Look into the broker's log.")


def _who(settings: Settings) -> str:
    """Return the user that the broker's rules are about, as far as it is known here."""
    user, tls = settings.credentials[0], settings.tls
    if user:
        return f"user {user!r}"
    return "the user of this client's certificate" if tls and tls.certificate else "users without a name"
