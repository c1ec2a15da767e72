"""TLS: the context of a client, and which failures of a handshake are for good."""

from __future__ import annotations

import ssl

from edge_sdk.errors import TransportError
from edge_sdk.transport.base import Tls

# In OpenSSL's names of what is wrong with a certificate, with the protocol's version or with what both sides can do.
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
    """Whether a handshake that failed like this would fail again. One that breaks off would not: a broker that is
    starting, or a network between us, hangs up in the middle of it as well."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False
    reason = getattr(error, "reason", None) or ""  # OpenSSL's own errors have one
    return isinstance(error, ssl.SSLCertVerificationError) or any(word in reason for word in _FOR_GOOD)


def make_context(tls: Tls) -> ssl.SSLContext:
    """That of a client.

    Raises:
        TransportError: its files cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
        context.sslsocket_class = _Socket
        if tls.certificate is not None:
            context.load_cert_chain(str(tls.certificate), None if tls.key is None else str(tls.key))
    except (OSError, ssl.SSLError) as error:
        raise TransportError(f"Cannot use the TLS files {tls}: {error}.") from error
    return context


class _Socket(ssl.SSLSocket):
    """Closes itself when its handshake fails: paho drops such a socket without closing it."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise
