"""Diagnosis of the way from a device to its federation: broker, certificates, clock, access rules, coordinator.

    for finding in diagnose(Settings("mqtts://broker", tls=tls), federation="stickers", device="pi-4"):
        print(finding.status, finding.what)

`diagnose` disturbs nobody: it has a client id of its own, unless it is given one, and publishes only empty messages,
which receivers ignore. `check_board(BoardFacts.read())` looks at the board that the device runs on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_sdk.diagnosis.access import check_access
from edge_sdk.diagnosis.board import BoardFacts, check_board
from edge_sdk.diagnosis.certificates import check_authority, check_own_certificate
from edge_sdk.diagnosis.coordinator import check_coordinator
from edge_sdk.diagnosis.finding import Finding, Status
from edge_sdk.diagnosis.limits import check_limits
from edge_sdk.diagnosis.line import check_line
from edge_sdk.diagnosis.session import Session, open_session
from edge_sdk.errors import BrokerSettingsInvalid
from edge_sdk.transport import MEMORY, Settings, check
from edge_sdk.wire import Topics, check_name

__all__ = ["BoardFacts", "Finding", "Status", "check_board", "diagnose"]


def diagnose(
    settings: Settings,
    *,
    federation: str | None = None,
    device: str | None = None,
    trust: bytes | None = None,
    known: bytes | None = None,
) -> Iterator[Finding]:
    """Yield findings one by one, each as soon as it is known. After a broken one, the checks that need it are left out.

    Args:
        settings: how a device would connect; a device that is connected under the same client id loses its connection.
        federation, device: the names whose topics and coordinator are checked; without them only the broker is.
        trust: the coordinator's public key, if it is known from elsewhere.
        known: the public key that the device's home trusts, if it trusts one.

    Raises:
        BrokerSettingsInvalid: the settings make no sense, see `transport.check`, or are not those of an MQTT broker.
        MessageInvalid: not a name of a federation or a device.
    """
    check(settings)
    if settings.address.scheme == MEMORY:
        raise BrokerSettingsInvalid("A memory:// broker makes no sense here: it has no way that could be looked at.")
    topics = Topics(federation) if federation else None
    if device:
        check_name(device)
    if settings.exposed:
        yield Finding(
            "broker",
            "warning",
            f"The password goes to {settings.address.endpoint} in clear.",
            "mqtt:// is not encrypted: whoever is on the way can read it, and be this device.",
            "Use mqtts:// and --ca; samples/broker has a broker for that. On a network of your own it may do.",
        )
    authority, own = list(check_authority(settings.tls)), list(check_own_certificate(settings.tls, device))
    yield from (*authority, *own)
    line = list(check_line(settings, use_authority=not _any_broken(authority), use_certificate=not _any_broken(own)))
    yield from line
    if _any_broken((*authority, *own, *line)):
        return
    opened = open_session(settings)
    if isinstance(opened, Finding):
        yield opened
        return
    with opened as session:
        yield from _on_a_connection(session, topics, device, trust, known)


def _on_a_connection(
    session: Session, topics: Topics | None, device: str | None, trust: bytes | None, known: bytes | None
) -> Iterator[Finding]:
    yield from check_limits(session)
    if topics:
        if device:
            yield from check_access(session, topics, device)
        yield from check_coordinator(session, topics, trust, known)


def _any_broken(findings: Iterable[Finding]) -> bool:
    return any(finding.broken for finding in findings)
