"""Check of the broker's access rules: a device may do what it must, and no more, by the broker's own answers."""

from __future__ import annotations

from collections.abc import Iterator

from paho.mqtt.reasoncodes import ReasonCode

from edge_sdk.diagnosis.finding import Finding
from edge_sdk.diagnosis.session import Session
from edge_sdk.wire import Topics

_ELSE = "doctor-asks-for-nobody"  # a device that does not exist


def check_access(session: Session, topics: Topics, device: str) -> Iterator[Finding]:
    """Subscribe to the device's own topics, and publish empty messages on them and on another device's."""
    may = True
    for topic_filter in (topics.all_down(device), topics.coordinator_state):
        answer = session.subscribe(topic_filter)
        if answer is None or answer.is_failure:
            may = False
            yield _denied("listen on", topic_filter, answer, device)
    for topic in (topics.presence(device), topics.control(device, "up"), topics.chunks(device, "up")):
        answer = session.publish_nothing(topic)
        if answer is None or answer.is_failure:
            may = False
            yield _denied("publish on", topic, answer, device)
    if may:
        yield Finding("access", "ok", f"It may use the topics of {device!r}.")
    other = session.publish_nothing(topics.presence(_ELSE))
    if other is not None and not other.is_failure:
        yield Finding(
            "access",
            "warning",
            "It may also publish on the topics of other devices.",
            "Whoever may publish on a device's topics is that device: anybody here can speak for anybody.",
            "On a broker that others can reach, use access rules by user name: samples/broker/acl.",
        )


def _denied(verb: str, topic: str, answer: ReasonCode | None, device: str) -> Finding:
    said = "gives no answer" if answer is None else f"says: {answer}"
    return Finding(
        "access",
        "broken",
        f"It may not {verb} {topic} (the broker {said}).",
        f"A device called {device!r} needs that. Rules go by user name or by the certificate's common name.",
        "Join by the name that the broker knows this device by (--device-id), or add the rules of docs/protocol.md, "
        "section 3, to the broker's.",
    )
