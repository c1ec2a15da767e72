"""The line to the broker: its name, its port, and encryption."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from edge_sdk.diagnosis.certificates import check_validity
from edge_sdk.diagnosis.finding import Finding
from edge_sdk.errors import TransportError
from edge_sdk.transport import Settings, Tls

DEADLINE = 10.0  # seconds of every step
# OpenSSL's names of what is wrong with a chain, by number.
_NOT_YET, _EXPIRED = 9, 10
_WRONG_NAMES = frozenset({62, 64})
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"})
_UNKNOWN = frozenset({2, 7, 18, 19, 20, 21})


def endpoint(settings: Settings) -> tuple[str, int]:
    """Host and port.

    Raises:
        TransportError: the URL makes no sense.
    """
    try:
        host, port = settings.host, settings.port or (8883 if settings.scheme == "mqtts" else 1883)
    except ValueError as error:
        raise TransportError(f"The broker's URL makes no sense: {error}.") from error
    if settings.scheme not in ("mqtt", "mqtts") or not host:
        raise TransportError("The broker's URL makes no sense: use mqtt://host:port or mqtts://host:port.")
    return host, port


def context(tls: Tls, *, use_certificate: bool = True, verify: bool = True) -> ssl.SSLContext:
    """As the transport's, or one that takes any broker, to see its certificate."""
    made = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if not verify:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if tls.certificate is not None and use_certificate:
        made.load_cert_chain(str(tls.certificate), None if tls.key is None else str(tls.key))
    return made


def check_line(settings: Settings, *, use_authority: bool, use_certificate: bool) -> Iterator[Finding]:
    """Whether anybody answers there, and whether it is the broker that was meant.

    use_authority: whether its authority's file is good; without, encryption is not looked at.
    use_certificate: whether this device's own may be shown.
    """
    host, port = endpoint(settings)
    try:
        with socket.create_connection((host, port), DEADLINE):
            yield Finding("broker", "ok", f"{host}:{port} answers.")
    except OSError as error:
        yield _unreachable(host, port, error)
        return
    if settings.scheme == "mqtts" and use_authority:
        tls = settings.tls or Tls()
        try:
            yield from _check_tls(host, port, tls, use_certificate)
        except OSError as error:
            yield _unreachable(host, port, error)


def _unreachable(host: str, port: int, error: OSError) -> Finding:
    if isinstance(error, socket.gaierror):
        what, why = f"There is no machine called {host!r}.", "The name is not known to this network's name server."
        advice = "Check the spelling; try the broker's IP address."
    elif isinstance(error, ConnectionRefusedError):
        what, why = f"Nothing listens on {host}:{port}.", "The machine is there, but the broker is not, or not there."
        advice = "Start the broker, and check the port (mqtt 1883, mqtts 8883) and its `listener` line."
    elif isinstance(error, TimeoutError):
        what, why = (
            f"{host}:{port} does not answer within {DEADLINE:g} s.",
            "A firewall drops it, or it is switched off.",
        )
        advice = "Check the address, and that the port is open from this network."
    else:
        what, why = f"{host}:{port} cannot be reached: {error.strerror or error}.", "There is no way to it from here."
        advice = "Check this machine's network, and the address."
    return Finding("broker", "broken", what, why, advice)


def _check_tls(host: str, port: int, tls: Tls, use_certificate: bool) -> Iterator[Finding]:
    from cryptography import x509

    try:
        shown = _handshake(host, port, context(tls, use_certificate=use_certificate, verify=False))
    except (ssl.SSLError, ConnectionError) as error:
        yield _no_tls(host, port, error)
        return
    certificate = x509.load_der_x509_certificate(shown)
    validity = list(check_validity(certificate, "The broker's certificate"))
    yield from validity
    try:
        _handshake(host, port, context(tls, use_certificate=use_certificate))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in (_NOT_YET, _EXPIRED) or not any(finding.broken for finding in validity):
            yield _unverified(host, certificate, tls, error)
    except ssl.SSLError as error:
        yield _no_tls(host, port, error)
    else:
        yield Finding("certificate", "ok", f"The broker is {host}, says an authority that is trusted here.")


def _handshake(host: str, port: int, with_context: ssl.SSLContext) -> bytes:
    """The certificate that the broker shows, as DER."""
    with (
        socket.create_connection((host, port), DEADLINE) as line,
        with_context.wrap_socket(line, server_hostname=host) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def last_word(settings: Settings) -> str:
    """What the broker says before it ends an encrypted connection on which nothing was asked; empty if nothing.

    In TLS 1.3 it looks at a device's certificate only after the device has found the connection to be made.
    """
    host, port = endpoint(settings)
    try:
        with (
            socket.create_connection((host, port), DEADLINE) as line,
            context(settings.tls or Tls()).wrap_socket(line, server_hostname=host) as encrypted,
        ):
            encrypted.recv(1)
    except OSError as error:
        return str(error)
    return ""


def _no_tls(host: str, port: int, error: OSError) -> Finding:
    if isinstance(error, ConnectionError | ssl.SSLEOFError) or getattr(error, "reason", "") in _NO_TLS:
        what, why = (
            f"{host}:{port} does not speak TLS.",
            "It is the port of a listener without encryption, or no broker.",
        )
        advice = "Use the port of the encrypted listener (usually 8883), or mqtt:// if there is none."
    else:
        what, why = (
            f"{host}:{port} and this device agree on no encryption: {error}.",
            "One of them is too old or strict.",
        )
        advice = "Compare `tls_version` and `ciphers` of the broker with this Python's OpenSSL."
    return Finding("broker", "broken", what, why, advice)


def _unverified(host: str, certificate: object, tls: Tls, error: ssl.SSLCertVerificationError) -> Finding:
    code = error.verify_code
    if code in _WRONG_NAMES:
        names = ", ".join(_names(certificate)) or "none"
        what = f"The broker's certificate is not for {host!r}: it names {names}."
        why = "It may be another machine that answers here."
        advice = "Use a name that it has, or make the broker a certificate with this one (certificates --host)."
    elif code in _UNKNOWN:
        by = "the authority in --ca" if tls.ca else "any authority that this system knows"
        what, why = f"The broker's certificate was not signed by {by}.", "Anybody could have made it."
        advice = (
            "Get the authority's certificate (ca.pem) of this very broker from whoever runs it, and give it as --ca."
        )
    else:
        what, why = f"The broker's certificate cannot be trusted: {error.verify_message}.", "Devices will refuse it."
        advice = "Make the broker a new certificate, or look at its authority's: that may have run out as well."
    return Finding("certificate", "broken", what, why, advice)


def _names(certificate: object) -> list[str]:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate), "parsed before"
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]
