"""Checks of certificates: the broker's authority, this device's own, and the validity of any."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.diagnosis.finding import Finding
from edge_sdk.transport import Tls

if TYPE_CHECKING:
    from cryptography import x509

_SOON = datetime.timedelta(days=30)
_ASK = "Ask whoever runs the broker for"


def check_authority(tls: Tls | None) -> Iterator[Finding]:
    """Check that the file of the broker's authority can be read, if one was given."""
    if tls is not None and tls.ca is not None:
        try:
            ssl.create_default_context(cafile=str(tls.ca))
        except (OSError, ssl.SSLError) as error:
            yield _unusable(Path(str(tls.ca)), "certificate of the broker's authority", error)


def check_own_certificate(
    tls: Tls | None, device: str | None, now: datetime.datetime | None = None
) -> Iterator[Finding]:
    """Check the files that this device would show a broker: readable, a pair, valid, and in its name."""
    if tls is None or tls.certificate is None:
        return
    found = _pair(tls)
    if isinstance(found, Finding):
        yield found
        return
    name = common_name(found)
    yield from check_validity(found, f"This device's certificate ({name!r})", now)
    if device and name != device:
        yield Finding(
            "certificate",
            "warning",
            f"The certificate is in the name of {name!r}, the device is {device!r}.",
            "Where a broker's rules go by the certificate's name, as those of samples/broker do, a device may only use "
            "the topics of that name.",
            f"Join as {name!r} (--device-id), or get a certificate for {device!r}.",
        )


def check_validity(
    certificate: x509.Certificate, whose: str, now: datetime.datetime | None = None
) -> Iterator[Finding]:
    """Check that a certificate is valid now, and for how long. A wrong clock shows here first."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = f"This clock says {now:%Y-%m-%d %H:%M} UTC."
    if now < begin:
        yield Finding(
            "clock",
            "broken",
            f"{whose} is not valid before {begin:%Y-%m-%d %H:%M} UTC. {clock}",
            "Either the certificate was made with a clock that is ahead, or this clock is behind: devices without a "
            "battery begin in the past.",
            "Set the clock (`timedatectl set-ntp true`), then look again.",
        )
    elif now > end:
        yield Finding(
            "certificate",
            "broken",
            f"{whose} ran out on {end:%Y-%m-%d %H:%M} UTC. {clock}",
            "Nobody accepts it any more.",
            f"If the clock is right: {_ASK[0].lower()}{_ASK[1:]} a new certificate.",
        )
    else:
        left = end - now
        soon = left < _SOON
        yield Finding(
            "certificate",
            "warning" if soon else "ok",
            f"{whose} holds for {left.days} more days.",
            "From then on nobody will accept it." if soon else "",
            f"{_ASK} a new one in time." if soon else "",
        )


def common_name(certificate: x509.Certificate) -> str:
    """The common name of the certificate's owner; empty if it has none."""
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _pair(tls: Tls) -> x509.Certificate | Finding:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate_file = Path(str(tls.certificate))
    key_file = Path(str(tls.key)) if tls.key else certificate_file
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError) as error:
        return _unusable(certificate_file, "certificate", error)
    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: it has a password
        return _unusable(key_file, "key", error)
    if key.public_key() != certificate.public_key():
        return Finding(
            "certificate",
            "broken",
            f"{key_file} is not the key of {certificate_file}.",
            "A certificate is worth nothing without its own key.",
            "Give the .pem and the .key of the same name; both come from one run of the tool that made them.",
        )
    return certificate


def _unusable(path: Path, what: str, error: Exception) -> Finding:
    return Finding(
        "certificate",
        "broken",
        f"{path} cannot be used as a {what}: {error}",
        "The broker may ask for it.",
        "Give a file in PEM form (it begins with -----BEGIN), without a password, that this user may read.",
    )
