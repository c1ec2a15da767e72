"""The embedded broker's life."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from edge_sdk.errors import BrokerUnreachable
from edge_sdk.transport import connect
from edge_sdk.transport.embedded import EmbeddedBroker


def test_it_starts_stops_and_starts_again_on_its_port() -> None:
    broker = EmbeddedBroker()
    with pytest.raises(BrokerUnreachable, match="not running"):
        _ = broker.url
    with broker:
        assert broker.start() is broker
        url = broker.url
        connect(url, client_id="x").close()
    with pytest.raises(BrokerUnreachable):
        connect(url, client_id="x", deadline=0.2)
    with broker:
        assert broker.url == url
        connect(url, client_id="x").close()
    broker.stop()


def test_it_listens_on_the_loopback_interface_only() -> None:
    with EmbeddedBroker() as broker, socket.socket() as other:
        other.bind(("127.0.0.2", broker.port))  # fails if it listened on all interfaces


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerUnreachable, match="could not start"):
            EmbeddedBroker(port).start()


def test_without_the_package_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['iotcore'] = None\n"
        "from edge_sdk.transport.embedded import EmbeddedBroker\n"
        "EmbeddedBroker().start()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "BrokerUnreachable" in result.stderr
    assert "impasto[broker]" in result.stderr
