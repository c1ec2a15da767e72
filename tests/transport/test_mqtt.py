"""Behaviour of MQTT alone: reconnection, limits that the broker states, refusals, TLS."""

from __future__ import annotations

import errno
import gc
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from paho.mqtt.client import Client

from edge_sdk.errors import BrokerUnreachable, DeadlineExceeded, PayloadTooLarge, TransportError
from edge_sdk.transport import Settings, Tls, Will, connect, create, hang_up
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.transport.mqtt.tls import is_hopeless
from tests.faults.proxy import Fault, Proxy
from tests.transport.brokers import Mosquitto
from tests.transport.inbox import DEADLINE, Inbox
from tests.transport.scripted import ScriptedBroker


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


class States(Inbox):
    """An `on_connection` callback that tests can wait on."""

    def changed(self, online: bool) -> None:
        self(str(online), b"")

    def wait_until(self, *expected: bool) -> None:
        self.wait(lambda messages: [topic for topic, _ in messages] == [str(state) for state in expected])


# --- losing the connection ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["iotcore", "mosquitto"])
def test_after_a_restart_of_the_broker_subscriptions_are_back(kind: str, tmp_path: Path) -> None:
    broker = EmbeddedBroker() if kind == "iotcore" else Mosquitto(tmp_path)
    with broker:
        inbox, states = Inbox(), States()
        receiver = connect(broker.url, client_id="receiver", on_connection=states.changed)
        receiver.subscribe("a/+", inbox)
        sender = connect(broker.url, client_id="sender")
        sender.publish("a/b", b"1")
        inbox.wait_for(1)
        broker.stop()
        states.wait_until(False)
        broker.start()
        states.wait_until(False, True)
        sender.publish("a/b", b"2")  # waits until the sender is back, too
        assert inbox.wait_for(2) == [("a/b", b"1"), ("a/b", b"2")]
        sender.close()
        receiver.close()


def test_a_short_drop_loses_nothing_and_does_not_publish_the_will(mosquitto: Mosquitto) -> None:
    with Proxy(mosquitto.port) as proxy:
        inbox, watched, states = Inbox(), Inbox(), States()
        watcher = connect(mosquitto.url, client_id="watcher")
        watcher.subscribe("drop/state", watched)
        device = connect(
            proxy.url, client_id="device", will=Will("drop/state", b"dead", delay=30), on_connection=states.changed
        )
        device.subscribe("drop/down", inbox)
        watcher.publish("drop/down", b"1")
        inbox.wait_for(1)
        proxy.cut()
        states.wait_until(False)
        watcher.publish("drop/down", b"2")  # kept by the broker for the session
        states.wait_until(False, True)
        watcher.publish("drop/down", b"3")
        payloads = {payload for _, payload in inbox.wait(lambda m: len({payload for _, payload in m}) >= 3)}
        assert payloads == {b"1", b"2", b"3"}
        watcher.publish("drop/state", b"end")
        assert watched.wait_for(1) == [("drop/state", b"end")]
        device.close()
        watcher.close()


def test_a_delayed_will_comes_when_the_client_stays_away(mosquitto: Mosquitto) -> None:
    inbox = Inbox()
    watcher = connect(mosquitto.url, client_id="watcher")
    watcher.subscribe("delay/state", inbox)
    connect(mosquitto.url, client_id="device", will=Will("delay/state", b"dead", delay=1)).abort()
    assert inbox.wait_for(1) == [("delay/state", b"dead")]
    watcher.close()


def test_a_reconnection_resends_no_more_than_the_window() -> None:
    with ScriptedBroker() as broker:
        transport = connect(broker.url, client_id="x", window=4, publish_deadline=0.2)
        for i in range(4):
            transport.publish("a", bytes([i]))
        with pytest.raises(DeadlineExceeded, match="acknowledged nothing"):
            transport.publish("a", b"no room")
        broker.wait_for_publishes(0, 4)
        broker.cut()
        broker.wait_for_publishes(1, 4)
        assert broker.publishes(0) == broker.publishes(1) == 4
        with pytest.raises(DeadlineExceeded, match="not acknowledged"):
            transport.flush(0.1)
        transport.abort()


def test_publishing_while_the_broker_is_away_ends_at_the_deadline(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        states = States()
        transport = connect(broker.url, client_id="x", publish_deadline=0.2, on_connection=states.changed)
        broker.stop(kill=True)
        states.wait_until(False)
        with pytest.raises(DeadlineExceeded, match="No connection"):
            transport.publish("a", b"")
        with pytest.raises(DeadlineExceeded, match="confirm"):
            transport.subscribe("a", Inbox())
        transport.close()


def test_in_a_hurry_nothing_waits_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """Calls that wait already end, and later ones do not wait."""
    with Mosquitto(tmp_path) as broker:
        states, errors = States(), Inbox()
        transport = connect(broker.url, client_id="x", publish_deadline=3600, on_connection=states.changed)
        broker.stop(kill=True)
        states.wait_until(False)

        def publish() -> None:
            try:
                transport.publish("a", b"")
            except DeadlineExceeded as error:
                errors(str(error), b"")

        waiting = threading.Thread(target=publish, daemon=True)
        waiting.start()
        transport.hurry()
        errors.wait_for(1)
        hang_up(transport, "a/state", b"gone")
        with pytest.raises(TransportError, match="closed"):
            publish()


def test_a_last_word_is_retained_and_without_it_the_will_is_published(mosquitto: Mosquitto) -> None:
    inbox = Inbox()
    watcher = connect(mosquitto.url, client_id="watcher")
    watcher.subscribe("last/+", inbox)
    for name, word in (("said", b"gone"), ("too-long", bytes(2000))):
        will = Will(f"last/{name}", b"dead")
        hang_up(connect(mosquitto.url, client_id=name, will=will, max_payload=1000), f"last/{name}", word)
    assert inbox.wait_for(2) == [("last/said", b"gone"), ("last/too-long", b"dead")]
    watcher.close()


def test_a_message_whose_connection_has_closed_meanwhile_is_no_fault(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paho's answer goes through sockets that another thread may be closing."""
    asked = threading.Event()

    def ack(client: Client, mid: int, qos: int) -> None:
        asked.set()
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(Client, "ack", ack)
    receiver, sender = (connect(mosquitto.url, client_id=name) for name in ("closing", "sender"))
    inbox = Inbox()
    receiver.subscribe("closing", inbox)
    sender.publish("closing", b"1")
    inbox.wait_for(1)
    assert asked.wait(DEADLINE)
    for transport in (receiver, sender):
        transport.close()
    assert "handler failed" not in caplog.text


def test_closing_does_not_wait_for_an_attempt_to_connect() -> None:
    """The server takes the connection and is silent in the TLS handshake; the attempt outlives the transport."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = create(Settings(url=f"mqtts://127.0.0.1:{server.getsockname()[1]}", client_id="silent"))
        errors = Inbox()

        def try_to_connect() -> None:
            try:
                transport.connect(DEADLINE)
            except BrokerUnreachable as error:
                errors(str(error), b"")

        attempt = threading.Thread(target=try_to_connect, daemon=True)
        attempt.start()
        server.settimeout(DEADLINE)
        peer, _ = server.accept()
        with peer:
            assert peer.recv(1)
            transport.hurry()
            errors.wait_for(1)
            peer.setblocking(False)
            received = iter(lambda: peer.recv(65536), b"")
            with pytest.raises(BlockingIOError):  # not the end: the attempt is still under way
                list(received)
        attempt.join(DEADLINE)
    for thread in threading.enumerate():
        if thread.name == "paho-mqtt-client-silent":
            thread.join(DEADLINE)
    gc.collect()  # a socket left open would warn, and warnings are errors


def test_connecting_waits_for_a_broker_that_is_still_starting(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    connected = threading.Event()

    def device() -> None:
        connect(broker.url, client_id="early", deadline=DEADLINE).close()
        connected.set()

    thread = threading.Thread(target=device)
    thread.start()
    with broker:
        assert connected.wait(DEADLINE)
        thread.join(DEADLINE)


# --- limits that the broker states ----------------------------------------------------------------------------------


def test_the_brokers_maximum_packet_size_is_kept_to_the_byte(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, "max_packet_size 5000") as broker:
        inbox = Inbox()
        transport = connect(broker.url, client_id="x", reconnect_delay=(60, 60))
        assert transport.max_payload < 5000 - 256
        transport.subscribe("a", inbox)
        with pytest.raises(PayloadTooLarge, match="maximum packet size"):
            transport.publish("a", bytes(5000))
        largest = next(size for size in range(5000, 0, -1) if _fits(transport, size))
        assert len(inbox.wait_for(1)[0][1]) == largest
        assert 5000 - largest <= 11
        transport.close()


def test_what_is_in_flight_and_does_not_fit_the_broker_that_came_back_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise paho resends it for ever: the broker disconnects it each time, and nothing behind it passes."""
    small, (first, second) = Mosquitto(tmp_path, "max_packet_size 5000"), (Inbox(), Inbox())
    with ScriptedBroker() as silent, small, Proxy(int(silent.url.rpartition(":")[2])) as proxy:
        transport = connect(proxy.url, client_id="x", window=3, reconnect_delay=(0.05, 0.1))
        for payload in (b"1", bytes(6000), b"2"):
            transport.publish("a", payload)
        silent.wait_for_publishes(0, 3)
        observer = connect(small.url, client_id="observer")
        observer.subscribe("a", first)
        proxy.redirect(small.port)
        silent.cut()
        assert [payload for _, payload in first.wait_for(2)] == [b"1", b"2"]
        transport.flush(DEADLINE)
        transport.subscribe("b", second)
        for number in range(5):  # more than the window
            transport.publish("b", bytes([number]))
        second.wait_for(5)
        assert "1 messages in flight were dropped" in caplog.text
        transport.close()
        observer.close()


def _fits(transport: object, size: int) -> bool:
    try:
        transport.publish("a", bytes(size))  # type: ignore[attr-defined]
    except PayloadTooLarge:
        return False
    return True


def test_the_brokers_receive_maximum_is_kept(tmp_path: Path) -> None:
    """Mosquitto cuts clients off that exceed it."""
    with Mosquitto(tmp_path, "max_inflight_messages 2") as broker:
        inbox, states = Inbox(), States()
        receiver = connect(broker.url, client_id="receiver")
        receiver.subscribe("a", inbox)
        sender = connect(broker.url, client_id="sender", window=16, on_connection=states.changed)
        for i in range(200):
            sender.publish("a", bytes([i]))
        assert [payload[0] for _, payload in inbox.wait_for(200)] == list(range(200))
        assert states.messages == []
        sender.close()
        receiver.close()


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_peer_that_does_not_answer_is_named_within_the_deadline() -> None:
    with ScriptedBroker(answer=None) as broker, pytest.raises(BrokerUnreachable, match=r"within 0\.3 s"):
        connect(broker.url, client_id="x", deadline=0.3)


def test_a_subscription_that_is_refused_or_not_answered_is_named() -> None:
    with ScriptedBroker(subscribed=0x87) as broker:
        transport = connect(broker.url, client_id="x")
        with pytest.raises(TransportError, match="Not authorized"):
            transport.subscribe("others/#", Inbox())
        transport.abort()
    with ScriptedBroker() as broker:
        transport = connect(broker.url, client_id="x", publish_deadline=0.2)
        with pytest.raises(DeadlineExceeded, match="confirm"):
            transport.subscribe("a", Inbox())
        transport.abort()


@pytest.mark.parametrize(("code", "reason"), [(0x84, "Unsupported protocol version"), (0x8A, "Banned")])
def test_a_refusal_by_the_broker_is_named_at_once(code: int, reason: str) -> None:
    answer = bytes([0x20, 3, 0, code, 0])
    with ScriptedBroker(answer) as broker, pytest.raises(BrokerUnreachable, match=reason):
        connect(broker.url, client_id="x", deadline=DEADLINE)


def test_wrong_passwords_are_refused_at_once_and_right_ones_work(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "pi-4", "p@ss/word"], check=True, capture_output=True)
    acl = tmp_path / "acl"
    acl.write_text("user pi-4\ntopic readwrite mine/#\n", "utf-8")
    with Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}") as broker:
        with pytest.raises(BrokerUnreachable, match="refused the connection: Not authorized"):
            connect(broker.url, client_id="x", deadline=DEADLINE)
        address = broker.url.partition("://")[2]
        with pytest.raises(BrokerUnreachable, match="refused") as caught:
            connect(f"mqtt://pi-4:wrong@{address}", client_id="x", deadline=DEADLINE)
        assert "wrong" not in str(caught.value)
        inbox = Inbox()
        transport = connect(f"mqtt://pi-4:p%40ss%2Fword@{address}", client_id="x")
        transport.subscribe("mine/a", inbox)
        transport.publish("mine/a", b"1")
        inbox.wait_for(1)
        transport.close()
        apart = connect(broker.url, client_id="x", username="pi-4", password="p@ss/word")
        apart.close()


@pytest.mark.parametrize(
    "url", ["", "stickers", "http://host", "mqtt://", "mqtt://host:port", "mqtt://host:99999", "memory://", "mqtt:/x"]
)
def test_urls_that_make_no_sense_are_refused(url: str) -> None:
    with pytest.raises(TransportError, match="URL"):
        connect(url, client_id="x", deadline=0.1)


def test_passwords_do_not_show_in_errors() -> None:
    with pytest.raises(TransportError) as caught:
        connect("mqt://me:secret@host", client_id="x")
    assert "secret" not in str(caught.value)


# --- TLS ------------------------------------------------------------------------------------------------------------


def _openssl(folder: Path, *arguments: str) -> None:
    assert shutil.which("openssl"), "openssl is not installed: apt-get install openssl."
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate of it for the broker and one for a device."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n", "utf-8")
    for name in ("broker", "pi-4"):
        _openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    return folder


def test_tls_with_certificates_on_both_sides(certificates: Path, tmp_path: Path) -> None:
    lines = [
        f"cafile {certificates / 'ca.pem'}",
        f"certfile {certificates / 'broker.pem'}",
        f"keyfile {certificates / 'broker.key'}",
        "require_certificate true",
        "use_identity_as_username true",
    ]
    ours = Tls(certificates / "ca.pem", certificates / "pi-4.pem", certificates / "pi-4.key")
    with Mosquitto(tmp_path, *lines, tls=True) as broker:
        inbox = Inbox()
        transport = connect(broker.url, client_id="x", tls=ours)
        transport.subscribe("a", inbox)
        transport.publish("a", bytes(100_000))
        assert inbox.wait_for(1) == [("a", bytes(100_000))]
        transport.close()
        with pytest.raises(BrokerUnreachable, match="certificate"):  # the system does not trust our authority
            connect(broker.url, client_id="x", deadline=DEADLINE)
        with pytest.raises(TransportError, match="TLS files"):
            connect(broker.url, client_id="x", tls=Tls(tmp_path / "absent.pem"))


@pytest.fixture
def encrypted(certificates: Path, tmp_path: Path) -> Iterator[tuple[Mosquitto, Tls]]:
    """A broker with TLS alone, and what a client needs."""
    lines = [f"certfile {certificates / 'broker.pem'}", f"keyfile {certificates / 'broker.key'}"]
    with Mosquitto(tmp_path, *lines, tls=True) as broker:
        yield broker, Tls(certificates / "ca.pem")


def test_a_handshake_that_breaks_off_is_tried_again(encrypted: tuple[Mosquitto, Tls]) -> None:
    broker, tls = encrypted
    faults = [Fault("cut", "up", 0), Fault("cut", "up", 100), Fault("reset", "down", 100), Fault("cut", "down", 300)]
    with Proxy(broker.port, faults) as proxy:
        url = proxy.url.replace("mqtt:", "mqtts:")
        connect(url, client_id="x", tls=tls, reconnect_delay=(0.05, 0.1), deadline=DEADLINE).close()
        assert sum(proxy.struck.values()) == 4


def test_a_peer_that_ends_every_handshake_is_named_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"mqtts://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(BrokerUnreachable, match=r"within 0\.5 s"):
            connect(url, client_id="x", deadline=0.5, reconnect_delay=(0.05, 0.1))
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("reason", "hopeless"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", True),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", True),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", True),
        ("TLSV1_ALERT_PROTOCOL_VERSION", True),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", True),
        ("UNSUPPORTED_PROTOCOL", True),
        ("WRONG_VERSION_NUMBER", True),
        ("TLSV1_ALERT_INTERNAL_ERROR", False),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", False),
        (None, False),
    ],
)
def test_only_what_would_fail_again_is_hopeless(reason: str | None, hopeless: bool) -> None:
    error = ssl.SSLError(1, "in words")
    error.reason = reason  # type: ignore[assignment]
    assert is_hopeless(error) == hopeless


def test_an_end_is_no_refusal() -> None:
    assert is_hopeless(ssl.SSLCertVerificationError(1, "certificate verify failed"))
    for error in (ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed"), ConnectionResetError(), None):
        assert not is_hopeless(error)
