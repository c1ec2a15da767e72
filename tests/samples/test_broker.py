"""samples/broker as it is: a real Mosquitto with its configuration, rules and certificates."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from coordinator import config
from coordinator.server.service import Service
from edge_sdk.errors import BrokerSettingsInvalid, BrokerUnreachable, ConfigurationError, TransportError
from edge_sdk.membership import RoundPlan
from edge_sdk.transport import Settings, Tls, Transport, Will, create
from edge_sdk.wire.messages import MAX_CHUNK, CoordinatorState, Presence, decode
from edge_sdk.wire.topics import Topics
from samples.broker import certificates
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device
from tests.transport.brokers import MOSQUITTO_PATH, free_port, wait_until_listening
from tests.transport.inbox import DEADLINE, Inbox

FOLDER = Path(certificates.__file__).parent
NAMES = [f"device-{number}" for number in range(6)]


@dataclass(frozen=True)
class Secured:
    port: int
    folder: Path

    def settings(self, name: str, scheme: str = "mqtts") -> Settings:
        """As somebody who has this certificate."""
        files = (self.folder / f"{ending}" for ending in ("ca.pem", f"{name}.pem", f"{name}.key"))
        return Settings(url=f"{scheme}://127.0.0.1:{self.port}", tls=Tls(*files))

    def connect(self, name: str, **changes: Any) -> Transport:
        transport = create(replace(self.settings(name), **changes))
        transport.connect(20.0)
        return transport


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("broker")
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("certificates", "*.db"))
    certificates.make(folder / "certificates", NAMES, ["localhost", "127.0.0.1"], 2)
    port = free_port()
    text = (folder / "mosquitto.conf").read_text("utf-8")
    assert "listener 8883\n" in text
    # A free port of this machine alone; and started by root it would not be allowed to read what root has made.
    (folder / "mosquitto.conf").write_text(text.replace("listener 8883\n", f"listener {port} 127.0.0.1\nuser root\n"))
    executable = shutil.which("mosquitto", path=MOSQUITTO_PATH)
    assert executable, "Mosquitto is not installed: apt-get install mosquitto, or brew install mosquitto."
    process = subprocess.Popen([executable, "-c", "mosquitto.conf"], cwd=folder, stderr=subprocess.PIPE)
    try:
        wait_until_listening(port, process)
        yield Secured(port, folder / "certificates")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_the_rules_are_those_of_the_protocol() -> None:
    page = (FOLDER.parents[1] / "docs" / "protocol.md").read_text("utf-8")
    rules = [line for line in (FOLDER / "acl").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert "\n".join(rules) in page


def test_a_federation_over_tls(broker: Secured, tmp_path: Path) -> None:
    """The coordinator by its file, devices by certificates of their own."""
    more = "".join(
        f'{key} = "{broker.folder / name}"\n'
        for key, name in (("ca", "ca.pem"), ("certificate", "coordinator.pem"), ("key", "coordinator.key"))
    )
    path = write_federation(tmp_path, f"mqtts://127.0.0.1:{broker.port}", rounds=2, more=more)
    coordinator = Coordinator(path)
    members = [Device(number, broker.settings(name), tmp_path / name).start() for number, name in enumerate(NAMES)]
    for device in members:
        assert device.join().error is None
        assert device.trained == [1, 2]
    coordinator.join()


@pytest.mark.parametrize("client_id", ["", "device-0", "device-1", "stickers.device-1", "coordinator"])
def test_nobody_speaks_for_another(broker: Secured, client_id: str) -> None:
    """The certificate decides who a device is, not the name that it gives."""
    topics = Topics("stickers")
    up = Inbox()
    coordinator = broker.connect("coordinator")
    device = broker.connect("device-0", client_id=client_id)
    coordinator.subscribe(topics.all_up, up)
    coordinator.subscribe(topics.all_presence, up)
    for forged in (
        topics.control("device-1", "up"),
        topics.presence("device-1"),
        topics.coordinator_state,
        topics.control("device-0", "down"),
        topics.chunks("device-1", "down"),
    ):
        device.publish(forged, b"forged")
    device.publish(topics.control("device-0", "up"), b"mine")
    assert up.wait_for(1) == [(topics.control("device-0", "up"), b"mine")]
    device.close()
    coordinator.close()


def test_nobody_ends_anothers_session(broker: Secured, tmp_path: Path) -> None:
    """While a federation is at work, a device connects with every id that the others might have. Each device announces
    itself once after a connection, and would do so again if it had lost it."""
    more = "".join(
        f'{key} = "{broker.folder / name}"\n'
        for key, name in (("ca", "ca.pem"), ("certificate", "coordinator.pem"), ("key", "coordinator.key"))
    )
    path = write_federation(tmp_path, f"mqtts://127.0.0.1:{broker.port}", rounds=2, more=more, devices=2)
    topics, announced = Topics("tastes"), Inbox()
    listener = broker.connect("coordinator")
    listener.subscribe(topics.presence("device-1"), announced)
    listener.subscribe(topics.coordinator_state, announced)

    def attack(plan: RoundPlan) -> None:
        epoch = coordinator.named("coordinator_started")[0]["epoch"]
        names = ("device-1", "coordinator", "impasto-device-1", f"coordinator.{epoch}", f"{epoch}")
        for client_id in {*names, *(f"tastes.{name}" for name in names), *(f"tastes/{name}" for name in names)}:
            broker.connect("device-0", client_id=client_id).close()

    coordinator = Coordinator(path)
    victim = Device(1, broker.settings("device-1"), tmp_path / "device-1").start()
    attacker = Device(0, broker.settings("device-0"), tmp_path / "device-0", before_training=attack).start()
    for device in (victim, attacker):
        assert device.join().error is None
        assert device.trained == [1, 2]
    coordinator.join()
    listener.publish(topics.presence("device-1"), b"", retain=True)  # behind all that was said before
    everything = announced.wait(lambda messages: messages[-1][1] == b"")
    words = [decode(payload) for _, payload in everything if payload]
    for kind in (Presence, CoordinatorState):
        said = [word.online for word in words if isinstance(word, kind)]
        assert said[said.index(True) :] == [True, False], "one birth, and the last word"
    listener.close()


def test_an_exact_client_id_is_used_where_rules_ask_for_it(broker: Secured) -> None:
    """Then a second session of that id ends the first one: its owner has to see to it."""
    topics, lost = Topics("stickers"), threading.Event()

    def changed(online: bool) -> None:
        if not online:
            lost.set()

    first = broker.connect("device-0", client_id="thing", on_connection=changed, reconnect_delay=(60, 60))
    first.publish(topics.presence("device-0"), b"first")
    second = broker.connect("device-0", client_id="thing")
    assert lost.wait(60)
    first.abort()
    second.close()


def test_nobody_dies_for_another(broker: Secured) -> None:
    """The broker publishes no will on a topic of another device."""
    topics = Topics("wills")
    seen = Inbox()
    coordinator = broker.connect("coordinator")
    coordinator.subscribe(topics.all_presence, seen)
    for of in ("device-1", "device-0"):
        broker.connect("device-0", will=Will(topics.presence(of), of.encode(), retain=False)).abort()
    assert seen.wait_for(1) == [(topics.presence("device-0"), b"device-0")]
    coordinator.close()


def test_nobody_listens_to_another(broker: Secured) -> None:
    """Topics are forbidden by name and by wildcards."""
    topics = Topics("stickers")
    heard = Inbox()
    coordinator, device = broker.connect("coordinator"), broker.connect("device-0")
    for topic_filter in (topics.all_down("device-1"), "impasto/1/+/dev/+/down/+", "impasto/#"):
        with suppress(TransportError):  # refused, or granted and nothing comes
            device.subscribe(topic_filter, heard)
    with suppress(TransportError):
        device.subscribe(topics.all_down("device-0"), heard)
    coordinator.publish(topics.control("device-1", "down"), b"another's")
    coordinator.publish(topics.chunks("device-1", "down"), b"another's")
    coordinator.publish(topics.control("device-0", "down"), b"mine")
    mine = (topics.control("device-0", "down"), b"mine")
    everything = heard.wait(lambda messages: mine in messages)
    assert {message for message in everything if "/dev/" in message[0]} == {mine}
    device.close()
    coordinator.close()


def test_nobody_comes_between_a_device_and_a_helper(broker: Secured) -> None:
    topics = Topics("stickers")
    asked, answered = Inbox(), Inbox()
    helper, device = broker.connect("coordinator"), broker.connect("device-0")
    helper.subscribe(topics.all_assist_up("desk-1"), asked)
    helper.subscribe(topics.all_helper_states, asked)
    for topic_filter in (topics.all_assist_down("device-1"), "impasto/1/+/assist/+/+/down/+", "impasto/1/+/assist/#"):
        with suppress(TransportError):
            device.subscribe(topic_filter, answered)
    with suppress(TransportError):
        device.subscribe(topics.all_assist_down("device-0"), answered)
    for forged in (
        topics.assist("desk-1", "device-1", "up"),
        topics.assist("desk-1", "device-0", "down"),
        topics.assist_chunks("desk-1", "device-1", "down"),
        topics.helper_state("desk-1"),
    ):
        device.publish(forged, b"forged")
    device.publish(topics.assist("desk-1", "device-0", "up"), b"mine")
    assert asked.wait_for(1) == [(topics.assist("desk-1", "device-0", "up"), b"mine")]
    helper.publish(topics.assist("desk-1", "device-1", "down"), b"another's")
    helper.publish(topics.assist_chunks("desk-1", "device-1", "down"), b"another's")
    helper.publish(topics.assist("desk-1", "device-0", "down"), b"mine")
    mine = (topics.assist("desk-1", "device-0", "down"), b"mine")
    everything = answered.wait(lambda messages: mine in messages)
    assert {message for message in everything if message[0].endswith(("/control", "/chunk"))} == {mine}
    device.close()
    helper.close()


def test_a_coordinator_that_starts_sees_every_device_that_may_join(broker: Secured) -> None:
    """All that is retained comes at once, together with the chunks that it may have asked for."""
    (count,) = (field.default for field in fields(config.Federation) if field.name == "max_devices")
    topics = Topics("crowd")
    writer = broker.connect("coordinator", client_id="writer", window=1000)
    for number in range(count):
        writer.publish(topics.presence(f"d{number}"), b"x" * 40, retain=True)
    writer.flush(DEADLINE)
    seen, chunks = Inbox(), Inbox()
    coordinator = broker.connect("coordinator", client_id="reader")
    coordinator.subscribe(topics.all_up, chunks)
    coordinator.subscribe(topics.all_presence, seen)
    for number in range(8 * 32):
        writer.publish(topics.chunks(f"d{number % 8}", "up"), bytes(MAX_CHUNK))
    assert len(chunks.wait_for(8 * 32)) == 8 * 32
    assert {topic for topic, _ in seen.wait_for(count)} == {topics.presence(f"d{number}") for number in range(count)}
    for number in range(count):  # for the other tests
        writer.publish(topics.presence(f"d{number}"), b"", retain=True)
    writer.close()
    coordinator.close()


@pytest.mark.parametrize("wrong", ["no certificate", "of another authority", "not encrypted"])
def test_strangers_stay_outside(broker: Secured, tmp_path: Path, wrong: str) -> None:
    settings = broker.settings("device-0", "mqtt" if wrong == "not encrypted" else "mqtts")
    if wrong == "not encrypted":
        with pytest.raises(BrokerSettingsInvalid, match="would have no effect"):
            create(settings)
        settings = Settings(url=settings.url)
    elif wrong == "no certificate":
        settings = Settings(url=settings.url, tls=Tls(broker.folder / "ca.pem"))
    elif wrong == "of another authority":
        certificates.make(tmp_path, ["device-0"], ["127.0.0.1"], 2)
        own = Tls(broker.folder / "ca.pem", tmp_path / "device-0.pem", tmp_path / "device-0.key")
        settings = Settings(url=settings.url, tls=own)
    with pytest.raises(BrokerUnreachable):
        create(settings).connect(3.0)


def test_what_is_there_stays_and_keys_are_their_owners(tmp_path: Path) -> None:
    first = certificates.make(tmp_path, ["pi-4"], ["broker.example"], 30)
    assert {path.name for path in first} == {
        f"{name}.{ending}" for name in ("ca", "broker", "coordinator", "pi-4") for ending in ("pem", "key")
    }
    before = {path: path.read_bytes() for path in first}
    second = certificates.make(tmp_path, ["pi-4", "pi-5"], ["broker.example"], 30)
    assert [path.name for path in second] == ["pi-5.key", "pi-5.pem"]
    assert {path: path.read_bytes() for path in first} == before
    for path in tmp_path.glob("*.key"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_password_comes_from_a_file(tmp_path: Path) -> None:
    path = write_federation(tmp_path, "mqtt://127.0.0.1:1883", more='username = "c"\npassword_file = "password"\n')
    with pytest.raises(ConfigurationError, match="password_file"):
        Service(config.load(path))
    (tmp_path / "password").write_text("secret\n")
    assert config.load(path).connection().credentials == ("c", "secret")
