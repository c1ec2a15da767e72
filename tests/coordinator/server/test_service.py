"""The service against devices that the test plays, message by message; whole federations are in tests/integration."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from coordinator import config
from coordinator.identity.admission import REVOKED
from coordinator.identity.keys import Keys
from coordinator.rounds import Event, Joined, Member, Trace
from coordinator.runner import Runner
from coordinator.server.service import Service
from coordinator.store import Database, open_blobs
from edge_sdk.adapter import Adapter, Factors, Share
from edge_sdk.errors import Superseded
from edge_sdk.transport import Settings
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.transport.memory import MemoryBroker, MemoryTransport
from edge_sdk.wire.messages import (
    CoordinatorState,
    Join,
    Leave,
    Presence,
    Pull,
    Refused,
    RoundDone,
    RoundStart,
    encode,
)
from edge_sdk.wire.signing import Signer, new_key
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.coordinator.played import DEADLINE, TOPICS, Devices, federation
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device, profile


def opposite(adapter: Adapter) -> Adapter:
    """Nearly -1 times each factor: the same product, but the mean of both A is nearly zero."""
    layers = {n: Factors(-f.a * f.a.dtype.type(1 - 1e-6), -f.b) for n, f in adapter.layers.items()}
    return Adapter(layers, adapter.base_id)


def test_updates_with_opposite_factors_are_aggregated(url: str, tmp_path: Path) -> None:
    coordinator, devices = Coordinator(federation(tmp_path, url, 2)), Devices(url)
    coordinator.wait_for("coordinator_started")
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    devices.offer("a", random_adapter(1))
    devices.offer("b", opposite(random_adapter(1)))
    assert [done.accepted for done in devices.hear(RoundDone, {"a", "b"})] == [True, True]
    coordinator.stop()


def test_a_round_that_cannot_be_aggregated_does_not_end_the_coordinator(url: str, tmp_path: Path) -> None:
    """Every number is allowed, but their mean is too large. The next start survives it, too."""
    path = federation(tmp_path, url, 2)
    coordinator, devices = Coordinator(path), Devices(url)
    coordinator.wait_for("coordinator_started")
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    layers = {n: Factors(np.zeros_like(f.a), np.zeros_like(f.b)) for n, f in random_adapter(1).layers.items()}
    for factors in layers.values():
        factors.a[0], factors.b[:, 0] = 9900, 9900
    devices.offer("a", Adapter(layers, BASE_ID))
    devices.offer("b", opposite(Adapter(layers, BASE_ID)))
    assert devices.hear(RoundDone, {"a", "b"}) == 2 * [RoundDone(round=1, accepted=False, updates=0)]
    assert [(start.round, start.frozen) for start in devices.hear(RoundStart, {"a", "b"})] == 2 * [(2, [])]
    assert [event["code"] for event in coordinator.named("round_failed")] == ["AdapterValueError"]
    coordinator.stop()
    again = Coordinator(path)
    again.wait_for("coordinator_started")
    devices.say("a", Join(profile=profile("apples", 0)))
    assert devices.hear(RoundStart, {"a"})[0].round == 2
    again.stop()


def test_a_clustering_that_fails_does_not_end_the_coordinator(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    path.write_text(
        f'{path.read_text()}[clustering]\nmethod = "adapter"\n'
    )  # which needs updates from the first round on
    coordinator, devices = Coordinator(path), Devices(url)
    coordinator.wait_for("coordinator_started")
    devices.say("a", Join(profile=profile("apples", 0)))
    coordinator.wait_for("device_joined")
    known = coordinator.service.state.devices["a"]
    coordinator.stop()
    loaded = config.load(path)
    database = Database(loaded.database, "tastes", BASE_ID)
    wrong = open_blobs(loaded.blobs).put(b"no adapter")
    lost = Trace(wrong, Member(None, 4, None, 7, Share.BOTH))
    database.save(replace(database.load(), devices={"a": replace(known, trace=lost)}))
    database.close()
    again = Coordinator(path)
    again.wait_for("coordinator_started")
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    assert [event["code"] for event in again.named("clustering_failed")] == ["AdapterFormatError"]
    again.stop()


def test_whatever_ends_it_devices_are_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices, feed = Devices(url), Runner.feed

    def fail(runner: Runner, event: Event) -> None:
        if isinstance(event, Joined):
            raise OSError("no space left on device")
        feed(runner, event)

    monkeypatch.setattr(Runner, "feed", fail)
    coordinator = Coordinator(federation(tmp_path, url, 2))
    assert devices.states.get(timeout=DEADLINE).online
    devices.say("a", Join(profile=profile("apples", 0)))
    coordinator.join(OSError)
    assert not devices.states.get(timeout=DEADLINE).online


def test_subscriptions_are_those_of_the_protocol_and_none_is_shared(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One coordinator owns a federation."""
    filters: list[str] = []
    subscribe = MemoryTransport.subscribe

    def noted(transport: MemoryTransport, topic_filter: str, handler: Any) -> None:
        filters.append(topic_filter)
        subscribe(transport, topic_filter, handler)

    monkeypatch.setattr(MemoryTransport, "subscribe", noted)
    path = write_federation(tmp_path, url, rounds=1, devices=1)
    coordinator = Coordinator(path)
    assert Device(0, url, tmp_path / "device").start().join().error is None
    coordinator.join()
    root = "impasto/1/tastes"
    assert sorted(filters) == [
        f"{root}/coordinator/state",
        f"{root}/coordinator/state",
        f"{root}/dev/+/state",
        f"{root}/dev/+/up/+",
        f"{root}/dev/device-0/down/+",
    ]


def test_a_federation_with_a_bandwidth_comes_to_its_end(url: str, tmp_path: Path) -> None:
    path = write_federation(tmp_path, url, rounds=2, more='bandwidth = "1 MB/s"\n', devices=3)
    coordinator = Coordinator(path)
    members = [Device(number, url, tmp_path / f"device-{number}").start() for number in range(3)]
    assert [device.join().error for device in members] == [None] * 3
    coordinator.join()
    received = [e["size"] for device in members for e in device.events if e["event"] == "adapter_received"]
    chunks, sent = coordinator.named("status")[-1]["messages"]["down"]["chunk"]
    assert len(received) == 6
    assert (chunks, sent) == (6, sum(received) + 6 * 36), "each once"


class Others:
    """Somebody beside the coordinator who may publish on its topic, as a broker without rules lets everybody."""

    def __init__(self, url: str, path: Path) -> None:
        loaded = config.load(path)
        self.devices = Devices(url)
        self.home = loaded.home
        self.signer = Keys(self.home, "tastes").signer  # the coordinator's own

    def say(self, payload: bytes) -> None:
        self.devices.transport.publish(TOPICS.coordinator_state, payload, retain=True)

    def retain(self, epoch: int, signer: Signer | None = None, *, online: bool = True) -> CoordinatorState:
        state = (signer or self.signer).state(online=online, epoch=epoch, base_id=BASE_ID, level="plain")
        self.say(encode(state))
        return state

    def next_state(self) -> CoordinatorState:
        state = self.devices.states.get(timeout=DEADLINE)
        assert isinstance(state, CoordinatorState)
        return state


LATEST = 2**31 - 1


class TestOtherCoordinators:
    @pytest.mark.parametrize("online", [True, False])
    def test_a_state_that_was_left_behind_locks_nobody_out(self, url: str, tmp_path: Path, online: bool) -> None:
        path = federation(tmp_path, url, 2)
        others = Others(url, path)
        others.retain(7, online=online)
        coordinator = Coordinator(path)
        coordinator.wait_for("coordinator_started")
        others.devices.say("a", Join(profile=profile("apples", 0)))
        coordinator.wait_for("device_joined")
        assert coordinator.named("refused") == []
        coordinator.stop()

    def test_a_later_life_is_given_way_to_and_the_next_start_is_later_still(self, url: str, tmp_path: Path) -> None:
        """The clock does not matter: one that was wrong once locks no instance out for ever."""
        path = federation(tmp_path, url, 2)
        others = Others(url, path)
        others.retain(LATEST - 5)
        with pytest.raises(Superseded, match="start again"):
            Service(config.load(path)).run()
        again = Coordinator(path)
        again.wait_for("coordinator_started")
        assert again.named("coordinator_started")[0]["epoch"] == LATEST - 4
        again.stop()

    def test_so_is_one_whose_key_ours_vouches_for(self, url: str, tmp_path: Path) -> None:
        path = federation(tmp_path, url, 2)
        others = Others(url, path)
        coordinator = Coordinator(path)
        coordinator.wait_for("coordinator_started")
        later = Keys(others.home, "tastes")
        later.rotate()
        state = later.signer.state(
            online=True, epoch=LATEST, base_id=BASE_ID, level="plain", successions=later.successions
        )
        others.say(encode(state))
        coordinator.join(Superseded)

    @pytest.mark.parametrize("code", ["CoordinatorUntrusted", "SignatureInvalid", "MessageInvalid", "an older key"])
    def test_nobody_else_is_and_what_he_says_is_said_over(self, url: str, tmp_path: Path, code: str) -> None:
        path = federation(tmp_path, url, 2)
        others = Others(url, path)
        former, keys = others.signer, Keys(others.home, "tastes")
        keys.rotate()
        coordinator = Coordinator(path)
        ours = others.next_state()
        assert (ours.online, ours.key) == (True, keys.signer.public)
        if code == "CoordinatorUntrusted":
            others.retain(LATEST, Signer(new_key(), "tastes"))
        elif code == "SignatureInvalid":
            others.say(encode(replace(ours, epoch=LATEST)))
        elif code == "MessageInvalid":
            others.say(encode(Presence(online=True, epoch=LATEST)))
        else:  # which a thief may have
            others.retain(LATEST, former)
        assert others.devices.states.get(timeout=DEADLINE) != ours
        assert others.next_state() == ours
        others.devices.say("a", Join(profile=profile("apples", 0)))
        coordinator.wait_for("device_joined")
        expected = "CoordinatorUntrusted" if code == "an older key" else code
        assert [(event["device"], event["code"]) for event in coordinator.named("refused")] == [("", expected)]
        coordinator.stop()

    def test_one_that_was_there_before_is_refused_by_name(self, url: str, tmp_path: Path) -> None:
        """It stopped the coordinator for ever before."""
        path = federation(tmp_path, url, 2)
        others = Others(url, path)
        foreign = others.retain(LATEST, Signer(new_key(), "tastes"))
        assert others.next_state() == foreign
        coordinator = Coordinator(path)
        assert others.next_state().key == others.signer.public
        others.devices.say("a", Join(profile=profile("apples", 0)))
        coordinator.wait_for("device_joined")
        (refused,) = coordinator.named("refused")
        assert refused["code"] == "CoordinatorUntrusted"
        assert "samples/broker/acl" in refused["reason"]
        coordinator.stop()

    def test_a_topic_that_was_cleared_is_filled_again(self, tmp_path: Path) -> None:
        with MemoryBroker() as broker:
            path = federation(tmp_path, broker.url, 2)
            coordinator = Coordinator(path)
            others = Others(broker.url, path)
            ours = others.next_state()
            others.devices.transport.subscribe(
                TOPICS.coordinator_state, lambda _, data: others.devices.states.put(data)
            )
            assert others.devices.states.get(timeout=DEADLINE) == encode(ours)
            others.say(b"")
            assert others.devices.states.get(timeout=DEADLINE) == b""
            assert others.devices.states.get(timeout=DEADLINE) == encode(ours)
            assert coordinator.named("refused") == []
            coordinator.stop()


def test_devices_that_vanish_while_they_upload_block_nobody(url: str, tmp_path: Path) -> None:
    coordinator, devices = Coordinator(federation(tmp_path, url, 10)), Devices(url)
    coordinator.wait_for("coordinator_started")
    names = [f"d{i}" for i in range(10)]
    devices.join(*names)
    devices.hear(RoundStart, set(names))
    for i, name in enumerate(names[:8]):
        devices.offer(name, random_adapter(i), serve=False)
    devices.hear(Pull, set(names[:8]))
    for name in names[:4]:
        devices.say(name, Leave())
    for name in names[4:8]:
        devices.transport.publish(TOPICS.presence(name), encode(Presence(online=False, epoch=5)), retain=True)
    for _ in range(20):  # repeating it does no harm
        devices.offer("d8", random_adapter(8))
    devices.offer("d9", random_adapter(9))
    coordinator.wait_for("update_counted", 2)
    coordinator.stop()
    assert {event["device"] for event in coordinator.named("update_counted")} == {"d8", "d9"}


class TestThoseWhoTakeNoPart:
    def test_one_that_was_revoked_and_keeps_quiet_is_not_waited_for(self, url: str, tmp_path: Path) -> None:
        coordinator, devices = Coordinator(federation(tmp_path, url, 3), once=False), Devices(url)
        coordinator.wait_for("coordinator_started")
        devices.join("a", "b", "silent")
        devices.hear(RoundStart, {"a", "b", "silent"})
        coordinator.service._admissions.revoke("silent")
        devices.offer("a", random_adapter(1))
        devices.offer("b", random_adapter(2))
        starts = devices.hear(RoundStart, {"a", "b"})  # long before the deadline
        assert [start.round for start in starts] == [2, 2]
        assert [event["cohort"] for event in coordinator.named("round_started")] == [["a", "b", "silent"], ["a", "b"]]
        (left,) = coordinator.named("device_left")
        assert (left["device"], left["reason"]) == ("silent", "Revoked")
        heard = [message for device, message in devices.said if device == "silent"]
        assert [(m.code, m.about) for m in heard if isinstance(m, Refused)] == [("Revoked", "join")]
        # It helps itself to what the others were told of.
        wanted = starts[0].manifests[0].sha256
        devices.say("silent", Pull(sha256=wanted, missing=b"\x01", credit=1))
        assert devices.hear(Refused, {"silent"}) == [
            Refused(code="Revoked", reason=REVOKED.reason, about=wanted),
        ]
        coordinator.stop()
        codes = [event["code"] for event in coordinator.named("refused") if event["device"] == "silent"]
        assert codes == ["Revoked", "Revoked"]

    def test_no_round_is_opened_with_one_that_was_revoked(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("coordinator.server.departures._LOOK", 1e9)  # from the start on it is looked at rounds only
        coordinator, devices = Coordinator(federation(tmp_path, url, 3), once=False), Devices(url)
        coordinator.wait_for("coordinator_started")
        devices.join("a", "silent")
        coordinator.wait_for("device_joined", 2)
        coordinator.service._admissions.revoke("silent")
        devices.say("b", Join(profile=profile("apples", 2)))
        devices.hear(RoundStart, {"a", "b"})
        coordinator.stop()
        assert [event["cohort"] for event in coordinator.named("round_started")] == [["a", "b"]]

    def test_one_that_has_left_is_sent_nothing_until_it_is_back(self, url: str, tmp_path: Path) -> None:
        coordinator, devices = Coordinator(federation(tmp_path, url, 2), once=False), Devices(url)
        coordinator.wait_for("coordinator_started")
        pull = Pull(sha256="c" * 64, missing=b"\x01", credit=1)
        for message in (Join(profile=profile("apples", 1)), Leave(), pull, Join(profile=profile("apples", 1)), pull):
            devices.say("a", message)
        refused = [devices.hear(Refused, {"a"})[0] for _ in range(2)]
        assert [message.code for message in refused] == ["HasLeft", "NotOffered"]
        coordinator.stop()


def test_what_is_dropped_is_told(url: str, tmp_path: Path) -> None:
    """The loop is busy while more comes than it keeps."""
    devices = Devices(url)

    def flood(event: dict[str, Any]) -> None:
        if event["event"] == "device_joined" and event["device"] == "a":
            for _ in range(700):
                devices.transport.publish(TOPICS.chunks("a", "up"), bytes(131072))
            devices.transport.publish(TOPICS.control("b", "up"), encode(Join(profile=profile("apples", 1))))
            devices.transport.subscribe("flood/end", lambda *_: devices.states.put("end"))
            devices.transport.publish("flood/end", b"")
            while devices.states.get(timeout=DEADLINE) != "end":
                pass

    coordinator = Coordinator(federation(tmp_path, url, 3), on_event=flood)
    coordinator.wait_for("coordinator_started")
    devices.say("a", Join(profile=profile("apples", 0)))
    coordinator.wait_for("messages_dropped")
    coordinator.stop()
    (event,) = coordinator.named("messages_dropped")
    assert (event["messages"], event["chunks"] > 100) == (0, True)


def test_stopping_does_not_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    broker = EmbeddedBroker().start()
    started = threading.Event()
    service = Service(
        config.load(federation(tmp_path, broker.url, 2)),
        settings=Settings(url=broker.url, publish_deadline=3600),
        on_event=lambda event: started.set(),
    )
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    assert started.wait(DEADLINE)
    broker.stop()
    service.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
