"""TLS: a client's context, and the failures of a handshake that are permanent."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from edge_sdk.errors import BrokerSettingsInvalid
from edge_sdk.transport.base import Tls

# OpenSSL's error numbers for a certificate, and for a list of revoked ones, that is not valid yet.
NOT_YET, CRL_NOT_YET = 9, 11

# Parts of OpenSSL's names for errors of a certificate, of the protocol's version or of what both sides support.
_FOR_GOOD = (
    "ACCESS_DENIED",
    "CERTIFICATE",
    "HANDSHAKE_FAILURE",
    "INSUFFICIENT_SECURITY",
    "PROTOCOL",
    "UNKNOWN_CA",
    "UNRECOGNIZED_NAME",
    "VERSION",
)


def is_hopeless(error: BaseException | None) -> bool:
    """True if a handshake that failed like this would fail again.

    False for one that broke off, as a broker that is starting or a failing network also does that, and for a
    certificate that is not valid yet, as a board without a battery gets the time from the network later.
    """
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False
    if isinstance(error, ssl.SSLCertVerificationError):
        return getattr(error, "verify_code", None) not in (NOT_YET, CRL_NOT_YET)
    reason = getattr(error, "reason", None) or ""  # OpenSSL's own errors have one
    return any(word in reason for word in _FOR_GOOD)


def make_context(tls: Tls, heard: Callable[[OSError], None] | None = None) -> ssl.SSLContext:
    """A client's TLS context.

    Args:
        heard: called with the error that ends an encrypted connection, such as the broker's alert. In TLS 1.3, a broker
            checks a client's certificate only after the handshake has succeeded for the client.

    Raises:
        BrokerSettingsInvalid: the files cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    except (OSError, ssl.SSLError) as error:
        raise _unusable("ca", tls.ca, error) from error
    context.sslsocket_class = _Socket if heard is None else _telling(heard)
    if tls.certificate is not None:
        try:
            # An empty password: for an encrypted key, OpenSSL would otherwise ask on the terminal, and wait for ever.
            context.load_cert_chain(str(tls.certificate), None if tls.key is None else str(tls.key), password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise _unusable("certificate", tls.certificate, error, tls.key) from error
    return context


def _unusable(
    what: str, file: Path | str | None, error: Exception, key: Path | str | None = None
) -> BrokerSettingsInvalid:
    files = f"{file} with the key {key}" if key is not None else str(file)
    said = getattr(error, "strerror", None) or str(error)
    if "KEY_VALUES_MISMATCH" in said:
        said = "the key belongs to another certificate"
    return BrokerSettingsInvalid(
        f"Cannot use the TLS files: {what} {files}: {said}. Give files in PEM form (they begin with -----BEGIN), the "
        "key without a password, that this user may read."
    )


class _Socket(ssl.SSLSocket):
    """Socket that closes itself when its handshake fails, as paho drops such a socket without closing it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _telling(heard: Callable[[OSError], None]) -> type[_Socket]:
    """Class of sockets that call `heard` with the error that ended them."""

    class Telling(_Socket):
        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            try:
                return super().recv(buflen, flags)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except OSError as error:
                heard(error)
                raise

    return Telling
