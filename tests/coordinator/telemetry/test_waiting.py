"""The coordinator says what it waits for, and how its broker does: real brokers that go, come back, and refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import config
from coordinator.cli import main
from coordinator.rounds import Awaited, Device, Member, Round, Rules, State, awaited
from coordinator.server.service import Service
from coordinator.telemetry.broker import look
from edge_sdk.adapter import Share
from edge_sdk.errors import AccessDenied, BrokerSettingsInvalid, PayloadTooLarge
from edge_sdk.transport import Settings, Will, create
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire.messages import Join, Presence, encode
from edge_sdk.wire.topics import Topics
from tests.coordinator.adapters import BASE_ID
from tests.coordinator.played import Devices, federation
from tests.coordinator.words import words
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.coordinators import devices as started
from tests.integration.devices import profile
from tests.transport.brokers import Mosquitto, free_port, quick


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short silence is one already."""
    monkeypatch.setattr("coordinator.telemetry.reminders._SILENCE", 0.2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def test_one_device_of_two(broker: Mosquitto, tmp_path: Path) -> None:
    coordinator = Coordinator(federation(tmp_path, broker.url, 2))
    nobody = coordinator.told(lambda event: event["event"] == "waiting")
    assert (nobody["what"], nobody["there"], nobody["needed"]) == ("devices", 0, 2)
    devices = Devices(broker.url)
    devices.say("pi-4", Join(profile=profile("apples", 0)))
    waiting = coordinator.told(lambda event: event["event"] == "waiting" and event["there"] == 1)
    assert words(waiting).startswith("waiting for devices to begin with: 1 of 2 are there (")
    devices.say("pi-5", Join(profile=profile("apples", 1)))
    training = coordinator.told(lambda event: event["event"] == "waiting" and event["what"] == "updates")
    assert training["awaited"] == ["pi-4", "pi-5"]
    assert 0 < training["left"] <= 60
    assert words(training).startswith("waiting for updates of pi-4, pi-5: 0 are there, 1 are enough")
    assert "the round's deadline is in" in words(training)
    coordinator.stop()
    devices.transport.close()


def test_a_broker_that_goes_and_comes_back(broker: Mosquitto, tmp_path: Path) -> None:
    given: list[bool] = []
    settings = Settings(broker.url, reconnect_delay=(0.05, 0.1), publish_deadline=1, on_connection=given.append)
    coordinator = Coordinator(federation(tmp_path, broker.url, 2), settings=settings)
    coordinator.wait_for("coordinator_started")
    broker.stop()
    coordinator.wait_for("broker_lost")
    coordinator.wait_for("broker_unreachable")
    waiting = coordinator.told(lambda event: event["event"] == "waiting" and event["what"] == "broker")
    assert "Nothing listens" in waiting["reason"]
    assert "Nothing listens" in words(waiting)
    broker.start()
    coordinator.wait_for("broker_back")
    for name, said in (
        ("broker_lost", "lost the broker, trying to come back: "),
        ("broker_unreachable", "no connection to the broker yet, trying again: "),
        ("broker_back", "the broker is back after "),
    ):
        assert words(coordinator.named(name)[0]).startswith(said)
    assert given == [False, True]
    assert look(quick(broker.url), "tastes").online
    coordinator.stop()


def test_rules_that_keep_the_coordinator_from_speaking(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read impasto/#\n", "utf-8")
    with Mosquitto(tmp_path, f"acl_file {acl}") as broker:
        coordinator = Coordinator(federation(tmp_path, broker.url, 2))
        coordinator.wait_for("broker_refused")
        event = coordinator.named("broker_refused")[0]
        assert event["code"] == AccessDenied.__name__
        assert "coordinator/state: Not authorized" in words(event)
        coordinator.stop()


def rules(*read: str) -> str:
    """Of a broker that lets the coordinator read only these topics of its federation."""
    topics = "".join(f"topic read impasto/1/tastes/{topic}\n" for topic in read)
    return f"user coordinator\ntopic write impasto/#\n{topics}user devices\ntopic readwrite impasto/#\n"


def test_rules_that_keep_the_coordinator_from_hearing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mosquitto confirms every subscription and delivers nothing: the coordinator waited for devices for ever."""
    monkeypatch.setattr("coordinator.server.connection._ECHO", 0.3)
    acl = tmp_path / "acl"
    acl.write_text(rules(), "utf-8")
    with Mosquitto(tmp_path, f"acl_file {acl}") as broker:
        settings = Settings(broker.url, username="coordinator")
        coordinator = Coordinator(federation(tmp_path, broker.url, 2), settings=settings)
        coordinator.wait_for("broker_refused")
        event = coordinator.named("broker_refused")[0]
        assert event["code"] == AccessDenied.__name__
        assert "delivers nothing of impasto/1/tastes/coordinator/state" in words(event)
        assert "samples/broker/acl" in words(event)
        coordinator.stop()


def test_rules_that_keep_it_from_hearing_devices_that_show_presence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.server.connection._ECHO", 0.3)
    acl = tmp_path / "acl"
    acl.write_text(rules("coordinator/state", "dev/+/state"), "utf-8")
    with Mosquitto(tmp_path, f"acl_file {acl}") as broker:
        settings = Settings(broker.url, username="coordinator")
        coordinator = Coordinator(federation(tmp_path, broker.url, 2), settings=settings)
        device = create(Settings(broker.url, username="devices"))
        device.connect(5)
        for name in ("pi-4", "pi-5"):
            device.publish(Topics("tastes").presence(name), encode(Presence(online=True, epoch=1)), retain=True)
            device.publish(Topics("tastes").control(name, "up"), encode(Join(profile=profile("apples", 0))))
        waiting = coordinator.told(lambda event: event["event"] == "waiting" and event["unjoined"] == 2)
        assert "2 more show presence and have not joined" in words(waiting)
        assert not coordinator.named("broker_refused"), "it hears itself"
        device.close()
        coordinator.stop()


def test_a_federation_over_small_packets(tmp_path: Path) -> None:
    """The chunks of both sides fit."""
    with Mosquitto(tmp_path, "max_packet_size 4500") as broker:
        path = write_federation(tmp_path, broker.url, rounds=2, devices=2)
        coordinator = Coordinator(path)
        for device in started(broker.url, tmp_path, range(2)):
            device.join()
            assert device.error is None
            assert device.result is not None
            assert device.result.updates == 2
        coordinator.join()
        assert not coordinator.named("send_failed")
        assert not coordinator.named("broker_refused")


def test_packets_that_are_too_small_for_any_federation(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, "max_packet_size 2000") as broker:
        coordinator = Coordinator(federation(tmp_path, broker.url, 2)).join(PayloadTooLarge)
        assert "max_packet_size" in str(coordinator.error)


def test_settings_that_would_have_no_effect(tmp_path: Path) -> None:
    path = federation(tmp_path, "mqtt://127.0.0.1", 2)
    for settings, said in (
        (Settings("mqtt://127.0.0.1", will=Will("a", b"")), "will of its own"),
        (Settings("mqtt://127.0.0.1", password="secret"), "without a user name"),
    ):
        with pytest.raises(BrokerSettingsInvalid, match=said):
            Service(config.load(path), settings=settings)


RULES = Rules(
    base_id=BASE_ID, min_devices=4, rounds=3, root_rounds=0, quorum=0.5, deadline=60, grace=10, extensions=0, rank=4,
    min_rank=1, steps=1, batch_size=1, learning_rate=1e-3, seed=0, max_update=1000, privacy="plain",
)  # fmt: skip


def test_what_is_waited_for_is_read_from_the_state() -> None:
    devices = {
        "a": Device(max_rank=4, epoch=1),
        "b": Device(max_rank=4, epoch=1, until=105.0),
        "gone": Device(max_rank=4, epoch=1, until=60.0),
        "left": Device(max_rank=4, epoch=1, left=True, until=60.0),
    }
    member = Member(None, 4, None, 0, Share.BOTH)
    assert awaited(RULES, State(devices=devices), 100) == Awaited("devices", 2, 4)
    assert awaited(RULES, State(devices=devices, round=1), 100) == Awaited("devices", 2, 2)
    current = Round(
        number=1, attempt=1, stage="root", opened=70, deadline=130, probation=130, cohort=dict.fromkeys(devices, member)
    )
    training = State(phase="training", devices=devices, current=current)
    assert awaited(RULES, training, 100) == Awaited("updates", 0, 2, ("a", "b"), 130)
    assert awaited(RULES, State(phase="aggregating", devices=devices, current=current), 100) is None
    assert awaited(RULES, State(phase="finished", devices=devices), 100) == Awaited("goodbyes", 2, 4, ("a", "b"))
    assert awaited(RULES, State(phase="finished", devices={"left": devices["left"]}), 100) is None


def test_every_line_is_in_words() -> None:
    base = {"time": 0.0, "bytes": {"up": 0, "down": 0}}
    for event, expected in (
        ({"event": "password_exposed", "broker": "b:1883"}, "note: the password goes to b:1883 in clear"),
        ({"event": "broker_refused", "code": "C", "reason": "[r]"}, "the broker refuses (C): [r]"),
        (
            {
                "event": "waiting",
                "what": "devices",
                "awaited": [],
                "seconds": 5.0,
                "there": 1,
                "needed": 2,
                "unjoined": 0,
            },
            "waiting for devices to begin with: 1 of 2 are there (5 s so far)",
        ),
        (
            {"event": "waiting", "what": "goodbyes", "awaited": list("abcdefg"), "seconds": 5.0},
            "waiting for a, b, c, d, e and 2 more to fetch the last adapters and leave (5 s so far)",
        ),
        (
            {"event": "send_failed", "code": "C", "reason": "r", "messages": 7},
            "not sent 7 messages (C): r",
        ),
    ):
        assert words(base | event).startswith(expected)


class TestStatus:
    def run(self, capsys: pytest.CaptureFixture[str], path: Path) -> str:
        with pytest.raises(SystemExit) as end:
            main(["status", str(path)])
        assert end.value.code in (0, None)
        return " ".join(capsys.readouterr().out.split())

    def test_while_it_runs_and_after(
        self, broker: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = federation(tmp_path, broker.url, 2)
        coordinator = Coordinator(path)
        coordinator.wait_for("coordinator_started")
        devices = Devices(broker.url)
        devices.say("pi-4", Join(profile=profile("apples", 0)))
        coordinator.wait_for("device_joined")
        said = self.run(capsys, path)
        assert "waiting for devices to begin with: 1 of 2 are there" in said
        assert f"broker: 127.0.0.1:{broker.port} answers; the coordinator is online" in said
        coordinator.stop()
        assert "the coordinator is not online: impasto-coordinator serve" in self.run(capsys, path)
        devices.transport.close()
        broker.stop()
        monkeypatch.setattr("coordinator.telemetry.broker.DEADLINE", 1.0)
        said = self.run(capsys, path)
        assert "broker: out of reach" in said
        assert f"Nothing listens on 127.0.0.1:{broker.port}" in said


def test_a_look_at_a_broker_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.telemetry.broker.DEADLINE", 1.0)
    monkeypatch.setattr("coordinator.telemetry.broker._PATIENCE", 0.5)
    with MemoryBroker() as here:
        assert look(Settings(here.url), "tastes").reason == ""
        assert not look(Settings(here.url), "tastes").online
    assert "Nothing listens" in look(Settings(f"mqtt://127.0.0.1:{free_port()}"), "tastes").reason
