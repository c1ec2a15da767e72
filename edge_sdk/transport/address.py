"""The broker's URL, parsed strictly: each part is used or refused, and errors show no password."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import unquote_to_bytes

from edge_sdk.errors import BrokerSettingsInvalid

MEMORY, PLAIN, ENCRYPTED = "memory", "mqtt", "mqtts"
_DEFAULT_PORTS = {PLAIN: 1883, ENCRYPTED: 8883}
_FORMS = "Use mqtt://host:port, mqtts://host:port or memory://name."
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f]")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class Address:
    """Address of a broker, and the user that we are there.

    Attributes:
        scheme: "mqtt", "mqtts" or "memory".
        host: a name or an IP address, IPv6 without brackets; of "memory" the broker's name.
        port: 1 to 65535; 0 for "memory".
        username, password: decoded; None where the URL has none.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def endpoint(self) -> str:
        """Host and port in words: "broker:1883", "[::1]:1883"."""
        if self.scheme == MEMORY:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if traffic to this address stays on this machine."""
        try:
            return self.scheme == MEMORY or ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:  # a name
            return self.host.lower() == "localhost" or self.host.lower().endswith(".localhost")

    def __repr__(self) -> str:
        return f"Address({self.scheme}://{self.endpoint})"


def read_address(url: str) -> Address:
    """Parse a broker's URL.

    Raises:
        BrokerSettingsInvalid: it makes no sense, or has a part that would have no effect.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in (*_DEFAULT_PORTS, MEMORY):
        raise _senseless(url, _FORMS)
    if _INVISIBLE.search(url):
        raise _senseless(url, f"It has a space or an invisible character in it. {_FORMS}")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if "@" in tail:
        raise _senseless(
            url,
            "Its user name or password has a character that ends a host's name. Write '#' as %23, '/' as %2F, '?' as "
            "%3F, '\\' as %5C, '@' as %40, ':' as %3A and '%' as %25; or give both apart from the URL.",
        )
    if tail not in ("", "/"):
        raise _senseless(url, f"Nothing follows the port: a broker has no path, query or fragment. {_FORMS}")
    userinfo, _, place = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    username, secret = _decoded(url, user) or None, _decoded(url, password) if colon else None
    if scheme == MEMORY:
        if not place or userinfo:
            raise _senseless(url, "A memory:// broker has a name, and knows neither users nor passwords.")
        return Address(scheme, place, 0)
    host, port = _place(url, place)
    return Address(scheme, host, port or _DEFAULT_PORTS[scheme], username, secret or None)


def redacted(url: str) -> str:
    """The URL without user and password, for messages and logs, however malformed it is."""
    scheme, separator, rest = url.partition("://")
    place = (rest if separator else url).rpartition("@")[2]
    # A colon without a port after it may begin a password.
    _, colon, port = place.rpartition(":")
    if colon and not _PORT.fullmatch(port.rstrip("/")) and not place.startswith("["):
        place = f"{place.partition(':')[0]}:…"
    return f"{scheme}://{place}" if separator else place


def _place(url: str, place: str) -> tuple[str, int | None]:
    """Host and port of a URL; None for a port that it does not state."""
    if place.startswith("["):
        inside, bracket, port = place[1:].partition("]")
        host = inside.replace("%25", "%")  # of a zone, as in fe80::1%25eth0
        try:
            IPv6Address(host)
            colon, port = port[:1], port[1:]
        except ValueError:
            bracket = ""
        if not bracket or colon not in ("", ":"):
            raise _senseless(url, "What stands in brackets is no IPv6 address. Write mqtt://[::1]:1883.")
    else:
        host, colon, port = place.partition(":")
        if ":" in port:
            raise _senseless(url, "It has several colons: write an IPv6 address in brackets, as in mqtt://[::1]:1883.")
        if not host or "%" in host or not _is_name(host):
            raise _senseless(url, f"It has no host, or none that there can be. {_FORMS}")
    if port and not (_PORT.fullmatch(port) and 0 < int(port) < 65536):
        raise _senseless(url, "What follows the host is no port: give a number from 1 to 65535.")
    return host, int(port) if port else None


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # an empty label, or one that is too long
        return False
    return True


def _decoded(url: str, part: str) -> str:
    """A part of the URL with its percent-encoded characters decoded."""
    problem = (
        "Its user name or password is percent-encoded wrongly: write '%' itself as %25, and other letters in UTF-8."
    )
    if _STRAY_PERCENT.search(part):
        raise _senseless(url, problem)
    try:
        decoded = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise _senseless(url, problem) from None  # the cause would show the password
    if "\0" in decoded:
        raise _senseless(url, "Its user name or password has a character zero in it, which MQTT knows not.")
    return decoded


def _senseless(url: str, why: str) -> BrokerSettingsInvalid:
    return BrokerSettingsInvalid(f"Broker URL {redacted(url)[:300]!r} makes no sense. {why}")
