"""Reasons for a missing connection and for a broker's refusals, in errors and callbacks. Real brokers."""

from __future__ import annotations

import os
import queue
import signal
from pathlib import Path

import pytest

from edge_sdk.errors import AccessDenied, BrokerUnreachable, PayloadTooLarge, TransportError
from edge_sdk.transport import Settings, Tls, Transport, Will, connect, create
from tests.transport.authority import Authority
from tests.transport.brokers import Mosquitto, free_port
from tests.transport.inbox import DEADLINE, Inbox
from tests.transport.scripted import ScriptedBroker
from tests.transport.test_mqtt import States


class Told:
    """An `on_trouble` callback that tests can wait on."""

    def __init__(self) -> None:
        self._errors: queue.Queue[TransportError] = queue.Queue()

    def __call__(self, error: TransportError) -> None:
        self._errors.put(error)

    def next(self) -> TransportError:
        return self._errors.get(timeout=DEADLINE)


def test_a_broker_that_goes_and_comes_back_is_told_with_the_reason(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        told, states = Told(), States()
        transport = connect(
            broker.url, on_trouble=told, on_connection=states.changed, reconnect_delay=(0.05, 0.1), deadline=DEADLINE
        )
        assert transport.trouble is None
        broker.stop()
        states.wait_until(False)
        error = told.next()
        assert isinstance(error, BrokerUnreachable)
        assert f"Nothing listens on 127.0.0.1:{broker.port}" in str(error)
        assert "Start the broker" in str(error)
        assert "Nothing listens" in str(transport.trouble)
        broker.start()
        states.wait_until(False, True)
        assert transport.trouble is None
        transport.close()


def test_a_broker_that_hangs_is_no_other_program(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        told = Told()
        transport = connect(broker.url, on_trouble=told, keepalive=1, reconnect_delay=(0.05, 0.1), deadline=DEADLINE)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            assert "takes the connection, and does not answer any more" in str(told.next())
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        transport.close()


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (0x95, "Packet too large", "max_packet_size"),
        (0x8E, "Session taken over", "client id"),
        (0x87, "Not authorized", "operator"),
        (0x98, "Administrative action", "log"),
        (0x9A, "keeps no retained messages", "retain_available true"),
        (0x9B, "QoS 0 only", "max_qos 1"),
    ],
)
def test_what_a_broker_says_when_it_ends_a_connection(code: int, words: str, advice: str) -> None:
    with ScriptedBroker() as broker:
        states = States()
        transport = connect(broker.url, on_connection=states.changed, reconnect_delay=(60, 60), deadline=DEADLINE)
        broker.say(bytes([0xE0, 2, code, 0]))
        states.wait_until(False)
        assert words in str(transport.trouble)
        assert advice in str(transport.trouble)
        transport.abort()


@pytest.mark.parametrize(
    ("line", "advice"), [("retain_available false", "retain_available true"), ("max_qos 0", "max_qos 1")]
)
def test_a_broker_that_cannot_what_a_federation_needs(tmp_path: Path, line: str, advice: str) -> None:
    will = Will("impasto/1/tastes/dev/me/state", b"gone")
    with Mosquitto(tmp_path, line) as broker, pytest.raises(BrokerUnreachable, match=advice):
        connect(broker.url, will=will, deadline=DEADLINE)


@pytest.mark.parametrize(("code", "words"), [(0x95, "Packet too large"), (0x97, "Quota exceeded"), (0xEE, "Unspec")])
def test_a_reason_that_a_puback_should_not_have_is_heard_out(code: int, words: str) -> None:
    with ScriptedBroker() as broker:
        told = Told()
        transport = connect(broker.url, on_trouble=told, deadline=DEADLINE)
        transport.publish("a", b"1")
        broker.wait_for_publishes(0, 1)
        broker.say(bytes([0x40, 4, 0, 1, code, 0]))
        assert words in str(told.next())
        with pytest.raises(TransportError, match=words):
            transport.flush(DEADLINE)
        transport.flush(DEADLINE)  # once for each refusal
        assert len(broker.connections) == 1
        transport.abort()


def test_a_message_that_the_rules_forbid(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite mine/#\n", "utf-8")
    with Mosquitto(tmp_path, f"acl_file {acl}") as broker:
        told = Told()
        transport = connect(broker.url, on_trouble=told, deadline=DEADLINE)
        transport.publish("mine/a", b"1")
        transport.publish("others/a", b"1")
        error = told.next()
        assert isinstance(error, AccessDenied)
        assert "others/a: Not authorized" in str(error)
        assert "Let users without a name publish there" in str(error)
        assert str(transport.trouble) == str(error)
        with pytest.raises(AccessDenied, match="others/a"):
            transport.flush(DEADLINE)
        transport.close()


def test_a_topic_that_a_broker_does_not_take_is_forbidden_by_its_rules() -> None:
    with ScriptedBroker() as broker:
        transport = connect(broker.url, username="pi-4", password="x", deadline=DEADLINE)
        transport.publish("a", b"1")
        broker.wait_for_publishes(0, 1)
        broker.say(bytes([0x40, 4, 0, 1, 0x90, 0]))
        with pytest.raises(AccessDenied, match="Let user 'pi-4' publish there"):
            transport.flush(DEADLINE)
        transport.abort()


def test_a_subscription_that_the_rules_forbid() -> None:
    with ScriptedBroker(subscribed=0x87) as broker:
        transport = connect(broker.url, deadline=DEADLINE)
        with pytest.raises(AccessDenied, match="Not authorized"):
            transport.subscribe("others/#", Inbox())
        transport.abort()


def test_a_message_that_is_too_large_though_no_limit_was_stated(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, "message_size_limit 5000") as broker:
        told, inbox = Told(), Inbox()
        transport = connect(broker.url, on_trouble=told, deadline=DEADLINE)
        transport.subscribe("a", inbox)
        transport.publish("a", bytes(6000))
        error = told.next()
        assert isinstance(error, PayloadTooLarge)
        assert "6000 bytes on a: Packet too large" in str(error)
        assert "message_size_limit" in str(error)
        transport.publish("a", b"after it")
        assert inbox.wait_for(1) == [("a", b"after it")]
        transport.close()


def unreachable(url: str, tls: Tls | None = None, deadline: float = DEADLINE) -> str:
    with pytest.raises(BrokerUnreachable) as caught:
        connect(url, tls=tls, deadline=deadline, reconnect_delay=(0.05, 0.1))
    return str(caught.value)


def test_why_nobody_is_reached() -> None:
    port = free_port()
    said = unreachable(f"mqtt://127.0.0.1:{port}", deadline=0.3)
    assert said.startswith(f"No MQTT broker at 127.0.0.1:{port} within 0.3 s: Nothing listens on")
    assert "There is no machine called 'nowhere.invalid'" in unreachable("mqtt://nowhere.invalid", deadline=1.0)
    said = unreachable(f"mqtt://[::1]:{port}", deadline=0.3)
    assert f"[::1]:{port}" in said


def test_a_port_that_is_another_listeners(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.make("broker")
    with Mosquitto(tmp_path) as plain:
        assert "does not speak TLS" in unreachable(f"mqtts://127.0.0.1:{plain.port}", deadline=1.0)
        plain.stop()
    lines = (f"certfile {certificate}", f"keyfile {key}")
    with Mosquitto(tmp_path, *lines, tls=True) as encrypted:
        assert "Use mqtts://" in unreachable(f"mqtt://127.0.0.1:{encrypted.port}", deadline=1.0)


class TestCertificates:
    def broker(self, folder: Path, files: tuple[Path, Path], *lines: str) -> Mosquitto:
        return Mosquitto(folder, f"certfile {files[0]}", f"keyfile {files[1]}", *lines, tls=True)

    def test_one_that_is_not_valid_yet_is_tried_until_the_deadline(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        with self.broker(tmp_path, authority.make("broker", begin=5)) as broker:
            said = unreachable(broker.url, Tls(authority.ca), deadline=0.5)
        assert "within 0.5 s" in said
        assert "not valid yet: this clock says 2" in said
        assert "Set the clock" in said

    def test_and_the_connection_comes_about_once_it_is(self, tmp_path: Path) -> None:
        """The certificate is replaced here, instead of a clock being set."""
        authority, told = Authority(tmp_path), Told()
        with self.broker(tmp_path, authority.make("broker", begin=5)) as broker:

            def replace_it(error: TransportError) -> None:
                told(error)
                if "not valid yet" in str(error):
                    broker.stop()
                    authority.make("broker")
                    broker.start()

            transport = create(Settings(broker.url, tls=Tls(authority.ca), reconnect_delay=(0.05, 0.1)))
            transport.connect(DEADLINE, replace_it)
            assert "not valid yet" in str(told.next())
            transport.close()

    @pytest.mark.parametrize(
        ("own", "begin", "end", "words"),
        [(True, -5, -1, "ran out; this clock says"), (False, -1, 5, "not signed by any authority that this system")],
    )
    def test_one_that_will_never_do_is_named_at_once(
        self, tmp_path: Path, own: bool, begin: float, end: float, words: str
    ) -> None:
        authority = Authority(tmp_path)
        with self.broker(tmp_path, authority.make("broker", begin, end)) as broker:
            said = unreachable(broker.url, Tls(authority.ca) if own else None)
        assert "refused the connection" in said
        assert words in said

    def test_what_the_broker_says_of_ours(self, tmp_path: Path) -> None:
        """In TLS 1.3 the broker's verdict on our certificate comes after the handshake."""
        authority = Authority(tmp_path)
        (tmp_path / "others").mkdir()
        strange = Authority(tmp_path / "others").make("pi-4")
        lines = (f"cafile {authority.ca}", "require_certificate true")
        with self.broker(tmp_path, authority.make("broker"), *lines) as broker:
            assert "asks this device for a certificate" in unreachable(broker.url, Tls(authority.ca))
            said = unreachable(broker.url, Tls(authority.ca, *strange))
            assert "does not accept this device's certificate" in said


def test_a_broker_that_is_busy_is_tried_again_and_named() -> None:
    with ScriptedBroker(bytes([0x20, 3, 0, 0x97, 0])) as broker:
        said = unreachable(broker.url, deadline=0.5)
        assert "within 0.5 s" in said
        assert "Quota exceeded" in said
        assert len(broker.connections) > 1


def test_what_goes_wrong_before_the_first_connection_is_told_once() -> None:
    told: list[str] = []
    transport: Transport = create(Settings(f"mqtt://127.0.0.1:{free_port()}", reconnect_delay=(0.05, 0.1)))
    with pytest.raises(BrokerUnreachable):
        transport.connect(1.0, lambda error: told.append(str(error)))
    assert len(told) == 1
    assert "Nothing listens" in told[0]
