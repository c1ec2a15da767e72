"""Reasons for a missing connection to a broker, or for its refusals: what was found, why, and what to do next.

`impasto doctor` shows them in full, errors and events of a transport in short.
"""

from __future__ import annotations

import datetime
import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_sdk.transport.mqtt.tls import CRL_NOT_YET, NOT_YET, is_hopeless

Section = Literal["broker", "certificate", "clock"]

# OpenSSL's error numbers for a certificate chain.
_EXPIRED = 10
_WRONG_NAMES = frozenset({62, 64})
_UNKNOWN_AUTHORITY = frozenset({2, 7, 18, 19, 20, 21})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
# Reason codes of MQTT 5.
UNSUPPORTED_VERSION, BAD_CLIENT_ID, BAD_CREDENTIALS, NOT_AUTHORISED = 0x84, 0x85, 0x86, 0x87
BANNED, PACKET_TOO_LARGE, TAKEN_OVER = 0x8A, 0x95, 0x8E
TOPIC_REFUSED, QUOTA_EXCEEDED = 0x90, 0x97
FORBIDDEN = frozenset({NOT_AUTHORISED, TOPIC_REFUSED})  # by the broker's rules; trying again would not help
BUSY = frozenset({0x88, 0x89, 0x8B, 0x97, 0x9F})  # unavailable, busy, shutting down, quota, connection rate

# Reason code -> a feature that a federation needs and the broker lacks, and what to do.
_CANNOT = {
    0x9A: ("The broker keeps no retained messages.", "Set `retain_available true` in mosquitto.conf, or its like."),
    0x9B: ("The broker allows QoS 0 only.", "Set `max_qos 1` or more in mosquitto.conf, or its like."),
}


@dataclass(frozen=True)
class Reason:
    """The reason for a trouble with a broker.

    Attributes:
        section: its subject.
        what: what was found; why: why that is so, or matters; next: what to do.
        final: True if trying again would not help.
        said: the other side's own words.
    """

    section: Section
    what: str
    why: str
    next: str
    final: bool = False
    said: str = ""

    def __str__(self) -> str:
        """The reason in short: what was found, and what to do."""
        return f"{self.what} {self.next}"


def of_connecting(
    error: BaseException | None, host: str, endpoint: str, *, encrypted: bool, own_authority: bool
) -> Reason:
    """The reason for an attempt that ended with an error before MQTT began.

    own_authority: True if the broker is checked against an authority of ours (--ca), not those that the system trusts.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return of_certificate(error, host, own_authority=own_authority)
    hung_up_on = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
    if isinstance(error, ssl.SSLError) or (encrypted and hung_up_on):
        return of_alert(error, endpoint) or no_tls(error, endpoint)
    return unreachable(error, host, endpoint)


def unreachable(error: BaseException | None, host: str, endpoint: str, seconds: float | None = None) -> Reason:
    """The reason for an address where nobody answers.

    seconds: time that was waited for an answer, if known.
    """
    if isinstance(error, socket.gaierror | UnicodeError):
        temporary = getattr(error, "errno", None) == socket.EAI_AGAIN
        what = f"There is no machine called {host!r}."
        why = "The name is not known to this network's name server."
        if temporary:
            what, why = f"The name {host!r} cannot be looked up now.", "This network's name server does not answer."
        advice = "Check the spelling and this machine's network; try the broker's IP address."
    elif isinstance(error, ConnectionRefusedError):
        what, why = f"Nothing listens on {endpoint}.", "The machine is there, but the broker is not, or not there."
        advice = "Start the broker, and check the port (mqtt 1883, mqtts 8883) and its `listener` line."
    elif isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        within = f" within {seconds:g} s" if seconds else ""
        what, why = f"{endpoint} does not answer{within}.", "A firewall drops it, or it is switched off."
        advice = "Check the address, and that the port is open from this network."
    elif isinstance(error, ConnectionError):
        what, why = (
            f"{endpoint} ends the connection.",
            "It is starting or stopping, or something between cuts the line.",
        )
        advice = "Look into the broker's log."
    else:
        words = getattr(error, "strerror", None) or error or "no answer"
        what, why = f"{endpoint} cannot be reached: {words}.", "There is no way to it from here."
        advice = "Check this machine's network, and the address."
    return Reason("broker", what, why, advice)


def of_certificate(
    error: ssl.SSLCertVerificationError, host: str, *, own_authority: bool, names: Sequence[str] = ()
) -> Reason:
    """The reason for a broker's certificate that is refused here; not final if it is not valid yet, as clocks are set.

    names: the names in the certificate, if they are known.
    """
    code = error.verify_code
    if code in (NOT_YET, CRL_NOT_YET):
        return Reason(
            "clock",
            f"The broker's certificate is not valid yet: this clock says {_clock()}.",
            "Either it was made with a clock that is ahead, or this clock is behind: devices without a battery begin "
            "in the past, and get the time from the network later.",
            "Set the clock (`timedatectl set-ntp true`).",
        )
    if code == _EXPIRED:
        what, why = f"The broker's certificate ran out; this clock says {_clock()}.", "Nobody accepts it any more."
        advice = "If the clock is right: ask whoever runs the broker for a new certificate on it."
    elif code in _WRONG_NAMES:
        named = f": it names {', '.join(names) or 'none'}" if names else ""
        what, why = f"The broker's certificate is not for {host!r}{named}.", "Another machine may answer here."
        advice = "Use a name that it has, or make the broker a certificate with this one (certificates --host)."
    elif code in _UNKNOWN_AUTHORITY:
        by = "the authority in --ca" if own_authority else "any authority that this system knows"
        what, why = f"The broker's certificate was not signed by {by}.", "Anybody could have made it."
        advice = (
            "Get the authority's certificate (ca.pem) of this very broker from whoever runs it, and give it as --ca."
        )
    else:
        what, why = f"The broker's certificate cannot be trusted: {error.verify_message}.", "Devices will refuse it."
        advice = "Make the broker a new certificate, or look at its authority's: that may have run out as well."
    return Reason("certificate", what, why, advice, final=True)


def of_alert(error: BaseException | str | None, endpoint: str) -> Reason | None:
    """The reason for a TLS alert with which the broker ended the connection; None if it is not a known one."""
    said = getattr(error, "reason", None) or str(error or "")
    said = said.upper().replace(" ", "_")
    if "CERTIFICATE_REQUIRED" in said or "HANDSHAKE_FAILURE" in said:
        what, why = "The broker asks this device for a certificate.", "It lets nobody in without one."
        advice = "Give certificate and key (--certificate, --key): whoever runs the broker makes them."
    elif "CERTIFICATE_EXPIRED" in said or "CERTIFICATE_REVOKED" in said:
        what, why = "The broker does not accept this device's certificate any more.", "It has run out or was revoked."
        advice = "Ask whoever runs the broker for a new one."
    elif any(word in said for word in ("UNKNOWN_CA", "BAD_CERTIFICATE", "DECRYPT_ERROR", "CERTIFICATE_UNKNOWN")):
        what, why = "The broker does not accept this device's certificate.", "Another authority has signed it."
        advice = "Get a certificate from the authority of this broker (--certificate, --key)."
    else:
        return None
    return Reason("broker", what, why, advice, final=True)


def no_tls(error: BaseException | None, endpoint: str) -> Reason:
    """The reason for a failed TLS handshake."""
    broken_off = isinstance(error, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if broken_off or getattr(error, "reason", "") in _NO_TLS:
        what, why = f"{endpoint} does not speak TLS.", "It is the port of a listener without encryption, or no broker."
        advice = "Use the port of the encrypted listener (usually 8883), or mqtt:// if there is none."
        # A broker that is starting, or a failing network, also breaks off in the middle of a handshake.
        return Reason("broker", what, why, advice, final=not broken_off)
    what, why = f"{endpoint} and this side agree on no encryption: {error}.", "One of them is too old or strict."
    advice = "Compare `tls_version` and `ciphers` of the broker with this Python's OpenSSL."
    return Reason("broker", what, why, advice, final=is_hopeless(error))


def hung_up(endpoint: str, *, encrypted: bool) -> Reason:
    """The reason for a connection that ended before the broker answered CONNECT."""
    if encrypted:
        what, why = f"{endpoint} ends the connection.", "It refuses this device's certificate, or is no MQTT broker."
        advice = "Look into the broker's log: it says why."
    else:
        what, why = f"{endpoint} does not answer as an MQTT broker.", "It may expect an encrypted connection."
        advice = (
            "Use mqtts:// if that port is an encrypted listener; check that it is an MQTT broker at all, and that it "
            "may have more clients (`max_connections`)."
        )
    return Reason("broker", what, why, advice)


def silent(endpoint: str) -> Reason:
    """The reason for a broker that was there before, accepts the connection, and does not answer CONNECT any more."""
    return Reason(
        "broker",
        f"{endpoint} takes the connection, and does not answer any more.",
        "The broker hangs or is overloaded, or something between keeps its answers.",
        "Look at the broker's machine and into its log; it is tried again.",
    )


def cut(endpoint: str) -> Reason:
    """The reason for a good connection that was lost without a DISCONNECT."""
    return Reason(
        "broker",
        f"The connection to {endpoint} was lost.",
        "The broker has ended, or the network between.",
        "It comes back by itself as soon as the broker is reachable.",
    )


def of_refusal(code: int, words: str, user: str | None) -> Reason:
    """The reason for the broker's refusal, by the reason code in its CONNACK."""
    final = True
    if code == UNSUPPORTED_VERSION:
        what, why = "The broker does not speak MQTT 5.", "Impasto needs its reason codes, limits and session expiry."
        advice = "Use Mosquitto 1.6 or later, EMQX, or another broker with MQTT 5."
    elif code in (BAD_CREDENTIALS, NOT_AUTHORISED):
        who = f"user {user!r} with this password" if user else "anybody without a user name or a certificate"
        what, why = f"The broker does not let in {who} ({words}).", "It does not know who this is."
        advice = "Give user name and password (--username, --password-file), or certificate and key (--certificate, "
        advice += "--key), as the broker's operator says."
    elif code in BUSY:
        what, why = f"The broker is overloaded or shutting down ({words}).", "It asks to be left alone for a while."
        advice, final = "Try again later; raise `max_connections` if it stays so.", False
    elif code in _CANNOT:
        what, advice = _CANNOT[code]
        why = "Coordinator and devices tell by retained messages who is there, and lose none at QoS 1."
    elif code == BANNED:
        what, why = f"The broker has banned this device ({words}).", "Its operator, or a guard against floods, did."
        advice = "Ask the broker's operator."
    else:
        what, why = f"The broker refuses the connection: {words}.", "This is its own word for the reason."
        advice = "Look into the broker's log, which says more."
    return Reason("broker", what, why, advice, final, words)


def of_farewell(code: int, words: str) -> Reason:
    """The reason for the end of an accepted connection, by the reason code in the broker's DISCONNECT."""
    what, why = f"The broker has ended the connection: {words}.", "This is its own word for the reason."
    if code == PACKET_TOO_LARGE:
        advice = "Raise its largest packet: `max_packet_size 135168` in mosquitto.conf, or its like."
    elif code == TAKEN_OVER:
        advice = "Another client came with the same client id: give each its own, or none."
    elif code in _CANNOT:
        what, advice = _CANNOT[code]
    elif code in (BAD_CREDENTIALS, NOT_AUTHORISED):
        advice = (
            "Ask the broker's operator whether this user may still connect, and publish on all topics that it needs "
            "(docs/protocol.md, section 3): some brokers end the connection over a topic that it may not use."
        )
    elif code in BUSY:
        advice = "It should be back soon."
    else:
        advice = "Look into the broker's log, which says more."
    return Reason("broker", what, why, advice, said=words)


def _clock() -> str:
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
