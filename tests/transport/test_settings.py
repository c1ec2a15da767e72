"""Settings of a connection: what contradicts itself or would have no effect is refused, before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import BrokerSettingsInvalid
from edge_sdk.transport import Settings, Tls, check, create
from tests.transport.authority import Authority


@pytest.mark.parametrize(
    ("url", "values", "words"),
    [
        ("mqtt://broker", {"tls": Tls(ca="ca.pem")}, "^ca would have no effect.*mqtts://"),
        ("mqtt://broker", {"tls": Tls(certificate="a.pem", key="a.key")}, "^certificate and key would have no effect"),
        ("mqtt://broker", {"tls": Tls(key="a.key")}, "^key would have no effect"),
        ("memory://broker", {"tls": Tls(ca="ca.pem")}, "^ca would have no effect"),
        ("mqtts://broker", {"tls": Tls(key="a.key")}, "without its certificate"),
        ("mqtt://broker", {"password": "secret"}, "without a user name"),
        ("mqtts://:secret@broker", {}, "without a user name"),
        ("mqtt://anna@broker", {"username": "ben"}, "two: a user name"),
        ("mqtt://anna:1@broker", {"password": "2"}, "two: a password"),
        ("memory://broker", {"username": "anna"}, "knows no users"),
        ("mqtt://broker", {"keepalive": 0}, "keepalive = 0"),
        ("mqtt://broker", {"keepalive": 65536}, "keepalive"),
        ("mqtt://broker", {"window": 0}, "window"),
        ("mqtt://broker", {"max_payload": 0}, "max_payload"),
        ("mqtt://broker", {"publish_deadline": 0.0}, "publish_deadline"),
        ("mqtt://broker", {"reconnect_delay": (2, 1)}, "reconnect_delay"),
        ("mqtt://broker", {"reconnect_delay": (0, 1)}, "reconnect_delay"),
        ("mqtt://broker", {"client_id": "x" * 70000}, "client_id"),
        ("mqtt://broker", {"bandwidth": 1.0}, "bandwidth"),
    ],
)
def test_what_would_have_no_effect_or_makes_no_sense(url: str, values: dict[str, Any], words: str) -> None:
    for refuse in (check, create):
        with pytest.raises(BrokerSettingsInvalid, match=words) as caught:
            refuse(Settings(url, **values))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "values", "expected"),
    [
        ("mqtt://anna@broker", {"password": "1"}, ("anna", "1")),
        ("mqtt://anna:1@broker", {"username": "anna", "password": "1"}, ("anna", "1")),
        ("mqtt://broker", {"username": "anna"}, ("anna", None)),
        ("mqtt://broker", {"username": "", "password": ""}, (None, None)),
        ("mqtts://broker", {"tls": Tls("ca.pem", "a.pem")}, (None, None)),
    ],
)
def test_what_goes_together(url: str, values: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    settings = Settings(url, **values)
    check(settings)
    assert settings.credentials == expected


def test_a_password_shows_in_no_repr() -> None:
    shown = repr(Settings("mqtts://anna:s3cret@broker:1", password="s3cret", keepalive=7))
    assert "s3cret" not in shown
    assert "anna" not in shown
    assert "url='mqtts://broker:1'" in shown
    assert "keepalive=7" in shown


@pytest.mark.parametrize(
    ("url", "exposed"),
    [("mqtt://anna:1@broker", True), ("mqtts://anna:1@broker", False), ("mqtt://anna@broker", False),
     ("mqtt://anna:1@127.0.0.1", False)],
)  # fmt: skip
def test_whether_a_password_goes_in_clear(url: str, exposed: bool) -> None:
    assert Settings(url).exposed == exposed


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.make("pi-4")
    _, other = authority.make("pi-5")
    for tls, words in (
        (Tls(tmp_path / "absent.pem"), "ca .*absent.pem: No such file"),
        (Tls(authority.ca, tmp_path / "absent.pem", key), "certificate .*absent.pem"),
        (Tls(authority.ca, certificate, other), "pi-4.pem with the key .*pi-5.key: the key belongs to another"),
        (Tls(key), "ca .*pi-4.key"),
    ):
        with pytest.raises(BrokerSettingsInvalid, match=words):
            create(Settings("mqtts://127.0.0.1", tls=tls))
