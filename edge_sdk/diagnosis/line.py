"""The line to the broker: its name, its port, and encryption."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_sdk.diagnosis.certificates import check_validity
from edge_sdk.diagnosis.finding import Finding, broken
from edge_sdk.transport import ENCRYPTED, Address, Settings, Tls, reasons

if TYPE_CHECKING:
    from cryptography import x509

DEADLINE = 10.0  # seconds of every step
# OpenSSL's error numbers for a certificate that is not valid yet, and for one that has expired.
_ABOUT_TIME = (9, 10)


def context(tls: Tls, *, use_certificate: bool = True, verify: bool = True) -> ssl.SSLContext:
    """The transport's TLS context, or with `verify` off one that accepts any broker, to see its certificate."""
    made = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if not verify:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if tls.certificate is not None and use_certificate:
        made.load_cert_chain(str(tls.certificate), None if tls.key is None else str(tls.key))
    return made


def check_line(settings: Settings, *, use_authority: bool, use_certificate: bool) -> Iterator[Finding]:
    """Check that the broker answers, and that it is the one that was meant.

    use_authority: False if its authority's file is unusable; encryption is not checked then.
    use_certificate: True if this device's own certificate may be shown.
    """
    address = settings.address
    try:
        with socket.create_connection((address.host, address.port), DEADLINE):
            yield Finding("broker", "ok", f"{address.endpoint} answers.")
    except (OSError, UnicodeError) as error:
        yield _unreachable(address, error)
        return
    if address.scheme == ENCRYPTED and use_authority:
        tls = settings.tls or Tls()
        try:
            yield from _check_tls(address, tls, use_certificate)
        except OSError as error:
            yield _unreachable(address, error)


def _unreachable(address: Address, error: BaseException) -> Finding:
    return broken(reasons.unreachable(error, address.host, address.endpoint, DEADLINE))


def _check_tls(address: Address, tls: Tls, use_certificate: bool) -> Iterator[Finding]:
    from cryptography import x509

    try:
        shown = _handshake(address, context(tls, use_certificate=use_certificate, verify=False))
    except (ssl.SSLError, ConnectionError) as error:
        yield broken(reasons.no_tls(error, address.endpoint))
        return
    certificate = x509.load_der_x509_certificate(shown)
    validity = list(check_validity(certificate, "The broker's certificate"))
    yield from validity
    try:
        _handshake(address, context(tls, use_certificate=use_certificate))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in _ABOUT_TIME or not any(finding.broken for finding in validity):
            own, names = tls.ca is not None, _names(certificate)
            yield broken(reasons.of_certificate(error, address.host, own_authority=own, names=names))
    except ssl.SSLError as error:
        yield broken(reasons.no_tls(error, address.endpoint))
    else:
        yield Finding("certificate", "ok", f"The broker is {address.host}, says an authority that is trusted here.")


def _handshake(address: Address, with_context: ssl.SSLContext) -> bytes:
    """Complete a handshake and return the broker's certificate, as DER."""
    with (
        socket.create_connection((address.host, address.port), DEADLINE) as line,
        with_context.wrap_socket(line, server_hostname=address.host) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def last_word(settings: Settings) -> str:
    """The error with which the broker ends an encrypted connection before any request; empty if there is none.

    In TLS 1.3 a broker checks the device's certificate only after the handshake has succeeded for the device.
    """
    address = settings.address
    try:
        with (
            socket.create_connection((address.host, address.port), DEADLINE) as line,
            context(settings.tls or Tls()).wrap_socket(line, server_hostname=address.host) as encrypted,
        ):
            encrypted.recv(1)
    except OSError as error:
        return str(error)
    return ""


def _names(certificate: x509.Certificate) -> list[str]:
    """The names that a certificate is for; empty if it lists none."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]
