"""A broker's URL: what it says is heeded or refused, and no piece of a password shows."""

from __future__ import annotations

import traceback

import pytest

from edge_sdk.errors import BrokerSettingsInvalid
from edge_sdk.transport.address import Address, read_address, redacted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", Address("mqtt", "broker", 1883)),
        ("MQTTS://broker/", Address("mqtts", "broker", 8883)),
        ("mqtt://broker:", Address("mqtt", "broker", 1883)),
        ("mqtt://10.0.0.1:65535", Address("mqtt", "10.0.0.1", 65535)),
        ("mqtt://[::1]", Address("mqtt", "::1", 1883)),
        ("mqtts://[fe80::1%25eth0]:1", Address("mqtts", "fe80::1%eth0", 1)),
        ("mqtt://pi-4@broker", Address("mqtt", "broker", 1883, "pi-4")),
        ("mqtt://pi-4:@broker", Address("mqtt", "broker", 1883, "pi-4")),
        ("mqtt://pi%204:p%23a%2Fb%40c%3A%25@broker", Address("mqtt", "broker", 1883, "pi 4", "p#a/b@c:%")),
        ("mqtt://pi-4:a@b:c@[::1]:9", Address("mqtt", "::1", 9, "pi-4", "a@b:c")),
        ("mqtt://j%C3%BCrgen:p%C3%A4ss@bröker.example", Address("mqtt", "bröker.example", 1883, "jürgen", "päss")),
        ("memory://tastes", Address("memory", "tastes", 0)),
    ],
)
def test_what_a_url_says(url: str, expected: Address) -> None:
    found = read_address(url)
    assert found == expected


SECRET = "h7Kq"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        (f"mqtt://me:{SECRET}#x{SECRET}@broker", "%23"),
        (f"mqtt://me:{SECRET}/x{SECRET}@broker:1883", "%2F"),
        (f"mqtt://me:1883/{SECRET}@broker", "%2F"),
        (f"mqtt://me:{SECRET}?{SECRET}@broker", "%3F"),
        (f"mqtt://me:{SECRET}\\{SECRET}@broker", "%5C"),
        (f"mqtt://me:%{SECRET}@broker", "%25"),
        (f"mqtt://me:{SECRET}%E9@broker", "UTF-8"),
        (f"mqtt://me:{SECRET}%00@broker", "zero"),
        (f"mqtt://me:{SECRET} {SECRET}@broker", "space"),
        (f"mqtt://me:{SECRET}\n@broker", "invisible"),
        (f"mqtt://me:{SECRET}%40broker", "port"),
        (f"mqtt://me:{SECRET}", "port"),
        (f"mqt://me:{SECRET}@broker", "mqtt://host:port"),
        (f"me:{SECRET}@broker", "mqtt://host:port"),
        (f"mqtt:me:{SECRET}@broker", "mqtt://host:port"),
        (f"memory://me:{SECRET}@broker", "users"),
    ],
)
def test_a_refusal_says_what_to_write_and_shows_no_piece_of_the_password(url: str, advice: str) -> None:
    with pytest.raises(BrokerSettingsInvalid) as caught:
        read_address(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert advice in str(caught.value)
    assert SECRET not in "\n".join(line for line in shown.splitlines() if "_senseless(" not in line)
    assert SECRET not in repr(caught.value.__cause__) + redacted(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("broker:1883", "mqtt://host:port"),
        ("", "mqtt://host:port"),
        ("http://broker", "mqtt://host:port"),
        ("mqtt://", "no host"),
        ("mqtt://:1883", "no host"),
        ("mqtt://a..b", "no host"),
        (f"mqtt://{'a' * 64}", "no host"),
        ("mqtt://br%6Fker", "no host"),
        ("mqtt://broker:0", "1 to 65535"),
        ("mqtt://broker:65536", "1 to 65535"),
        ("mqtt://broker:-1", "1 to 65535"),
        ("mqtt://broker:١٨٨٣", "1 to 65535"),
        ("mqtt://broker:port", "1 to 65535"),
        ("mqtt://::1", "brackets"),
        ("mqtt://[::1", "brackets"),
        ("mqtt://[broker]:1883", "brackets"),
        ("mqtt://[::1]1883", "brackets"),
        ("mqtt://broker/path", "no path"),
        ("mqtt://broker?tls=1", "no path"),
        ("mqtt://broker#1", "no path"),
        ("memory://", "has a name"),
    ],
)
def test_what_nobody_would_heed_is_refused(url: str, why: str) -> None:
    with pytest.raises(BrokerSettingsInvalid, match=r"Broker URL .* makes no sense") as caught:
        read_address(url)
    assert why in str(caught.value)


def test_how_it_is_shown() -> None:
    assert read_address("mqtt://me:secret@[::1]").endpoint == "[::1]:1883"
    assert repr(read_address("mqtts://me:secret@broker")) == "Address(mqtts://broker:8883)"
    assert redacted("mqtt://me:secret@broker:1883") == "mqtt://broker:1883"


@pytest.mark.parametrize(
    ("url", "here"),
    [("mqtt://localhost", True), ("mqtt://127.1.2.3", True), ("mqtt://[::1]", True), ("memory://x", True),
     ("mqtt://broker", False), ("mqtt://10.0.0.1", False), ("mqtt://localhost.example", False)],
)  # fmt: skip
def test_what_stays_on_this_machine(url: str, here: bool) -> None:
    assert read_address(url).is_loopback == here
