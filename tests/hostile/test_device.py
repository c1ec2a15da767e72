"""Devices on a broker that keeps what was said, and says it again when it likes."""

from __future__ import annotations

import threading
from pathlib import Path

from coordinator import config
from coordinator.identity.keys import Keys
from edge_sdk.membership import RoundPlan
from edge_sdk.transport import Settings, create
from edge_sdk.wire import messages as m
from edge_sdk.wire.signing import Signer
from tests.coordinator.adapters import BASE_ID
from tests.coordinator.played import TOPICS
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device
from tests.transport.brokers import Mosquitto
from tests.transport.inbox import Inbox

DEADLINE = 60.0
STATE = TOPICS.coordinator_state
MINE, ANOTHERS = (TOPICS.control(f"device-{number}", "down") for number in (0, 1))


class Broker:
    """A client that may do what a broker could: it hears all that is said, and says it again."""

    def __init__(self, url: str) -> None:
        self.heard = Inbox()
        self._transport = create(Settings(url=url))
        self._transport.connect(20.0)
        self._transport.subscribe("impasto/1/tastes/dev/+/down/control", self.heard)
        self._transport.subscribe(STATE, self.heard)

    def recorded(self, topic: str) -> list[bytes]:
        """Signed steps, and the states of a coordinator that is online."""
        found = []
        for at, payload in list(self.heard.messages):
            message = m.decode(payload)
            state = isinstance(message, m.CoordinatorState) and message.online
            if at == topic and (state or isinstance(message, m.SignedStep)):
                found.append(payload)
        return found

    def say(self, topic: str, payload: bytes) -> None:
        self._transport.publish(topic, payload, retain=topic == STATE)

    def flush(self) -> None:
        self._transport.flush(20.0)

    def close(self) -> None:
        self._transport.close()


def test_what_was_signed_once_is_not_obeyed_again(tmp_path: Path) -> None:
    """Steps and states of the coordinator's earlier instance, and steps of another device, are repeated to its later
    one; among them a Finished of the earlier instance, after which the device would have gone home."""
    second_life = threading.Event()
    replayed: list[str] = []

    def wait(plan: RoundPlan) -> None:
        if plan.round == 2:
            assert second_life.wait(DEADLINE)

    def replay(plan: RoundPlan) -> None:
        if plan.round != 3:
            return
        for payload in old_steps:
            broker.say(MINE, payload)
            replayed.append("MessageOutdated")
        for payload in broker.recorded(ANOTHERS):
            broker.say(MINE, payload)
            replayed.append("SignatureInvalid")
        broker.say(STATE, old_state)
        broker.flush()  # before the device says that it has trained, and anybody answers

    with Mosquitto(tmp_path) as mosquitto:
        path = write_federation(tmp_path, mosquitto.url, rounds=4, devices=2)
        broker = Broker(mosquitto.url)
        first = Coordinator(path)
        victim = Device(0, mosquitto.url, tmp_path / "device-0", before_training=replay)
        other = Device(1, mosquitto.url, tmp_path / "device-1", before_training=wait)
        for device in (victim, other):
            device.start()
        first.wait_for("round_closed")
        first.stop()
        old_steps, (old_state, *_) = broker.recorded(MINE), broker.recorded(STATE)
        epoch = first.named("coordinator_started")[0]["epoch"]
        signer = Keys(config.load(path).home, "tastes").signer
        end = m.Finished(rounds=4, cluster=0, adapters=[])
        old_steps.append(m.encode(signer.signed(end, "device-0", epoch)))
        second = Coordinator(path)
        second.wait_for("coordinator_started")
        second_life.set()
        for device in (victim, other):
            assert device.join().error is None
        second.join()
        broker.close()
    assert len(old_steps) > 1
    refused = [event["code"] for event in victim.events if event["event"] == "step_refused"]
    assert refused[-len(replayed) :] == replayed
    untrusted = [event["code"] for event in victim.events if event["event"] == "coordinator_untrusted"]
    assert untrusted == ["MessageOutdated"]
    assert victim.trained == other.trained == [1, 2, 3, 4]
    for device in (victim, other):
        assert device.result
        assert device.result.finished
        assert {"root", "cluster"} <= set(device.result.adapters)
        assert all(file.is_file() for file in device.result.adapters.values())


def test_who_may_write_everywhere_cannot_send_a_device_home(tmp_path: Path) -> None:
    """On a broker without rules, a stranger shows a state as the coordinator, and sends a Finished under his own key
    and under none."""
    intruder = Signer(bytes(range(32)), "tastes")

    def attack(plan: RoundPlan) -> None:
        if plan.round != 2:
            return
        state = intruder.state(online=True, epoch=2**31 - 1, base_id=BASE_ID, level="plain")
        broker.say(STATE, m.encode(state))
        end = m.Finished(rounds=2, cluster=0, adapters=[])
        broker.say(MINE, m.encode(end))
        broker.say(MINE, m.encode(intruder.signed(end, "device-0", 2**31 - 1)))
        broker.flush()

    with Mosquitto(tmp_path) as mosquitto:
        path = write_federation(tmp_path, mosquitto.url, rounds=3, devices=2)
        broker = Broker(mosquitto.url)
        coordinator = Coordinator(path)
        devices = [
            Device(0, mosquitto.url, tmp_path / "device-0", before_training=attack).start(),
            Device(1, mosquitto.url, tmp_path / "device-1").start(),
        ]
        for device in devices:
            assert device.join().error is None
        coordinator.join()
        broker.close()
    assert [event["code"] for event in coordinator.named("refused")] == ["CoordinatorUntrusted"]
    told = devices[0].events
    assert [event["code"] for event in told if event["event"] == "step_refused"] == ["SignatureInvalid"] * 2
    assert [event["code"] for event in told if event["event"] == "coordinator_untrusted"] == ["CoordinatorUntrusted"]
    for device in devices:
        assert device.trained == [1, 2, 3]
        assert device.result
        assert device.result.finished
