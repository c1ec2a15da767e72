"""A whole federation: coordinator, devices, brokers.

Training is replaced by a deterministic trainer that makes real low-rank adapters around targets which depend on a
hidden group (tests/integration/devices.py). What is tested is everything around training: transport, transfers, rounds,
clustering, aggregation, storage, restarts.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.adapter import Adapter, concatenate, distance, load, norm
from edge_sdk.errors import (
    BrokerUnreachable,
    ConfigurationError,
    DeadlineExceeded,
    Rejected,
    Superseded,
    UnknownFederation,
)
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.transport.memory import MemoryBroker
from edge_sdk.wire.invitation import Invitation, read_invitation
from tests.coordinator.adapters import BASE_ID
from tests.integration.coordinators import Coordinator, devices, write_federation
from tests.integration.devices import Device, profile, target, train

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["memory", "embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        with MemoryBroker() as memory:
            yield memory.url
    elif request.param == "embedded":
        with EmbeddedBroker() as embedded:
            yield embedded.url
    else:
        assert MOSQUITTO, "this test needs Mosquitto: apt-get install mosquitto"
        port = free_port()
        settings = tmp_path / "mosquitto.conf"
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        process = subprocess.Popen([MOSQUITTO, "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def check_outcome(device: Device, groups: dict[int, set[str]]) -> None:
    """The device is in a cluster of its own group, and brought home adapters that draw near its group's target."""
    assert device.error is None
    assert device.result is not None
    assert device.result.finished
    assert groups[device.number % 2] == {device.result.cluster}
    adapters = device.result.adapters
    assert set(adapters) == {"root", "cluster", *(f"cluster-{c}" for names in groups.values() for c in names)}
    assert adapters["cluster"].read_bytes() == adapters[f"cluster-{device.result.cluster}"].read_bytes()
    root, cluster = load(adapters["root"]), load(adapters["cluster"])
    assert root.base_id == cluster.base_id == BASE_ID
    goal = target(device.group)
    left = distance(concatenate([(root, 1.0), (cluster, 1.0)]), goal)
    assert left < 0.2 * norm(goal)
    assert left < 0.5 * distance(root, goal)


def test_devices_find_their_like_and_learn_together(broker: str, tmp_path: Path) -> None:
    coordinator = Coordinator(write_federation(tmp_path, broker))
    members = [device.join() for device in devices(broker, tmp_path)]
    coordinator.join()

    groups = {parity: {d.result.cluster for d in members if d.number % 2 == parity and d.result} for parity in (0, 1)}
    for device in members:
        check_outcome(device, groups)
        assert device.result.updates == 3  # type: ignore[union-attr]
        assert device.trained == [1, 2, 3]
    assert groups[0] != groups[1]

    closed = coordinator.named("round_closed")
    assert [(event["round"], event["stage"], event["updates"]) for event in closed] == [
        (1, "root", 6),
        (2, "cluster", 6),
        (3, "cluster", 6),
    ]
    assert coordinator.named("refused") == []
    assert len(coordinator.named("update_counted")) == 18
    traffic = coordinator.events[-1]["bytes"]
    sent = sum(device.result.bytes_up for device in members)  # type: ignore[union-attr]
    assert 0.95 * sent < traffic["up"] < 1.05 * sent


def test_the_coordinator_restarts_in_the_middle_of_a_round(embedded: str, tmp_path: Path) -> None:
    """Half of the devices have delivered round 2 when it stops. Nobody trains twice, every update counts once."""
    path = write_federation(tmp_path, embedded)
    first = Coordinator(path)
    restarted = threading.Event()

    def slow(plan: RoundPlan) -> None:
        if plan.round == 2:
            assert restarted.wait(60)

    fast = devices(embedded, tmp_path, range(3))
    late = [
        Device(number, embedded, tmp_path / f"device-{number}", before_training=slow).start() for number in range(3, 6)
    ]
    first.wait_for("update_counted", 6 + 3)
    first.stop()
    assert first.service.state.round == 1
    second = Coordinator(path)
    second.wait_for("coordinator_started")
    restarted.set()
    members = [device.join() for device in [*fast, *late]]
    second.join()

    groups = {parity: {d.result.cluster for d in members if d.number % 2 == parity and d.result} for parity in (0, 1)}
    for device in members:
        check_outcome(device, groups)
        assert device.trained == [1, 2, 3]
    counted = [(event["round"], event["device"]) for c in (first, second) for event in c.named("update_counted")]
    assert sorted(counted) == [(number, f"device-{d}") for number in (1, 2, 3) for d in range(6)]
    assert [event["updates"] for event in second.named("round_closed")] == [6, 6]


def test_the_coordinator_is_killed_and_resumes(embedded: str, tmp_path: Path) -> None:
    """kill -9 with half of round 2 delivered."""
    path = write_federation(tmp_path, embedded)
    command = [sys.executable, "-m", "coordinator.cli", "serve", str(path), "--once"]
    restarted = threading.Event()

    def slow(plan: RoundPlan) -> None:
        if plan.round == 2:
            assert restarted.wait(60)

    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert "coordinating" in first.stdout.readline()
    members = devices(embedded, tmp_path, range(3))
    members += [
        Device(number, embedded, tmp_path / f"device-{number}", before_training=slow).start() for number in range(3, 6)
    ]
    delivered = (line for line in first.stdout if "delivered" in line)
    for _ in range(6 + 3):
        next(delivered)
    first.kill()
    first.wait(10)
    first.stdout.close()
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert "coordinating, 1 of 3 rounds done" in second.stdout.readline()
    restarted.set()
    for device in members:
        assert device.join().error is None
        assert device.trained == [1, 2, 3]
        assert device.result is not None
        assert device.result.finished
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert output.count("with 6 updates") == 2


def test_what_a_server_optimiser_remembers_outlives_a_restart(tmp_path: Path) -> None:
    """It stops before the last round, whose step goes on from the earlier ones."""

    def learnt(optimiser: str, restart: bool) -> Adapter:
        folder = tmp_path / f"{optimiser}-{restart}"
        folder.mkdir()
        restarted = threading.Event()

        def wait(plan: RoundPlan) -> None:
            if restart and plan.round == 4:
                assert restarted.wait(60)

        with MemoryBroker() as broker:
            path = write_federation(folder, broker.url, rounds=4, more=f'[server_optimiser]\nmethod = "{optimiser}"\n')
            coordinator = Coordinator(path)
            members = [
                Device(number, broker.url, folder / f"device-{number}", before_training=wait).start()
                for number in range(6)
            ]
            if restart:
                coordinator.wait_for("round_started", 4)
                coordinator.stop()
                coordinator = Coordinator(path)
                coordinator.wait_for("coordinator_started")
                restarted.set()
            for device in members:
                assert device.join().error is None
            coordinator.join()
            result = members[0].result
            assert result is not None
            assert result.finished
            return load(result.adapters["cluster"])

    whole, stopped, without = learnt("momentum", False), learnt("momentum", True), learnt("none", False)
    assert distance(stopped, whole) < 1e-3 * norm(whole)
    assert distance(without, whole) > 0.05 * norm(whole)


def test_a_device_that_restarts_offers_what_it_has_trained(tmp_path: Path) -> None:
    """Device 0 vanishes between training and handing in; its next session trains nothing for that round."""
    with MemoryBroker() as broker:
        coordinator = Coordinator(write_federation(tmp_path, broker.url, rounds=2))
        others = devices(broker.url, tmp_path, range(1, 6))
        home = tmp_path / "device-0"

        class PowerCutError(BaseException):  # an ordinary error of an observer ends nothing
            pass

        def cut(event: dict[str, Any]) -> None:
            if event["event"] == "trained":
                raise PowerCutError

        def learn(plan: RoundPlan) -> TrainedUpdate:
            return train("apples", 0, plan)

        membership = Membership(broker.url, "tastes", "device-0", profile("apples", 0), home, learn, cut)
        with membership, pytest.raises(PowerCutError):
            membership.run()
        again = Device(0, broker.url, home).start().join()
        for device in others:
            assert device.join().error is None
        coordinator.join()
        assert again.error is None
        assert again.trained == [2]
        assert "update_resumed" in [event["event"] for event in again.events]
        assert [event["updates"] for event in coordinator.named("round_closed")] == [6, 6]


def test_a_slow_device_counts_a_round_later(tmp_path: Path) -> None:
    """Round 2 closes at its deadline while device 5 still trains for it. Its update counts in round 3, for which it
    then trains nothing."""
    with MemoryBroker() as broker:
        path = write_federation(tmp_path, broker.url, rounds=4, more="late = 1\n")
        path.write_text(path.read_text().replace("deadline = 60.0", "deadline = 8.0"))
        coordinator = Coordinator(path)

        def slow(plan: RoundPlan) -> None:
            if plan.round == 2:
                coordinator.wait_for("round_started", 3)

        last = Device(5, broker.url, tmp_path / "device-5", before_training=slow).start()
        members = [device.join() for device in [*devices(broker.url, tmp_path, range(5)), last]]
        coordinator.join()
        groups = {
            parity: {d.result.cluster for d in members if d.number % 2 == parity and d.result} for parity in (0, 1)
        }
        for device in members:
            check_outcome(device, groups)
        assert last.trained == [1, 2, 4]
        closed = coordinator.named("round_closed")
        assert [event["updates"] for event in closed] == [6, 5, 6, 6]
        assert [event["late"] for event in closed] == [{}, {}, {"device-5": 1}, {}]
        assert coordinator.named("refused") == []


def test_a_device_leaves_early_with_the_adapters_of_that_time(tmp_path: Path) -> None:
    with MemoryBroker() as broker:
        coordinator = Coordinator(write_federation(tmp_path, broker.url))
        others = devices(broker.url, tmp_path, range(1, 6))
        guest = Device(0, broker.url, tmp_path / "device-0").start(rounds=2).join()
        for device in others:
            assert device.join().error is None
        coordinator.join()
        assert guest.error is None
        assert guest.result is not None
        assert (guest.result.finished, guest.result.updates) == (False, 2)
        assert {"root", "cluster"} <= set(guest.result.adapters)
        assert coordinator.named("round_closed")[-1]["updates"] == 5


def test_a_newcomer_after_the_last_round_gets_the_adapters_of_its_like(tmp_path: Path) -> None:
    with MemoryBroker() as broker:
        path = write_federation(tmp_path, broker.url, rounds=2)
        coordinator = Coordinator(path)
        members = [device.join() for device in devices(broker.url, tmp_path)]
        coordinator.join()
        again = Coordinator(path, once=False)  # comes back with everything it knew
        newcomer = Device(7, broker.url, tmp_path / "device-7").start().join()
        again.stop()
        assert newcomer.trained == []
        assert newcomer.result is not None
        assert newcomer.result.cluster == members[1].result.cluster  # type: ignore[union-attr]
        assert "cluster" in newcomer.result.adapters


def outsider(broker: str, federation: str, home: Path, **changes: Any) -> Membership:
    """A device that never gets to train."""

    def never(plan: RoundPlan) -> TrainedUpdate:
        raise AssertionError("was asked to train")

    return Membership(broker, federation, "x", profile("apples", 0, **changes), home, never)


class TestAdmission:
    def test_invited_devices_only_and_a_revoked_one_leaves(self, tmp_path: Path) -> None:
        with MemoryBroker() as broker:
            path = write_federation(tmp_path, broker.url, more='join = "invited"\n', devices=1)
            coordinator = Coordinator(path, once=False)
            with (
                outsider(broker.url, "tastes", tmp_path / "x") as membership,
                pytest.raises(Rejected, match="NotInvited"),
            ):
                membership.run(answer=30)
            command = [sys.executable, "-m", "coordinator.cli"]
            text = subprocess.check_output([*command, "invite", str(path), "guest"], text=True)
            invitation = read_invitation(text)
            revoked = threading.Event()

            def shut_out(plan: RoundPlan) -> TrainedUpdate:
                if plan.round == 2:
                    subprocess.run([*command, "revoke", str(path), "guest"], check=True, capture_output=True)
                    revoked.set()
                return train("apples", 0, plan)

            guest = Membership(
                broker.url, "tastes", "guest", profile("apples", 0), tmp_path / "guest", shut_out,
                invitation=invitation,
            )  # fmt: skip
            with guest, pytest.raises((Rejected, DeadlineExceeded)):
                guest.run(deadline=5.0)
            assert revoked.is_set()
            coordinator.wait_for("device_left")
            coordinator.stop()
            assert [event["code"] for event in coordinator.named("refused")][:2] == ["NotInvited", "Revoked"]
            assert coordinator.service.state.devices["guest"].left
            assert len(coordinator.named("update_counted")) == 1

    def test_an_invitation_for_others(self, tmp_path: Path) -> None:
        invitation = Invitation("tastes", "pi-5", bytes(32), bytes(16))
        with pytest.raises(ConfigurationError, match="is for 'pi-5'"):
            Membership(
                "memory://x", "tastes", "pi-4", profile("apples", 0), tmp_path, lambda plan: train("apples", 0, plan),
                invitation=invitation,
            )  # fmt: skip


class TestRefusals:
    def test_another_base_model(self, tmp_path: Path) -> None:
        with MemoryBroker() as broker:
            coordinator = Coordinator(write_federation(tmp_path, broker.url))
            with (
                outsider(broker.url, "tastes", tmp_path / "x", base_id="c" * 64) as membership,
                pytest.raises(Rejected, match="BaseModelMismatch"),
            ):
                membership.run(answer=30)
            coordinator.stop()
            assert "x" not in coordinator.service.state.devices

    def test_an_unknown_federation(self, tmp_path: Path) -> None:
        with (
            MemoryBroker() as broker,
            outsider(broker.url, "nowhere", tmp_path / "x") as membership,
            pytest.raises(UnknownFederation, match="nowhere"),
        ):
            membership.run(answer=0.2)

    def test_a_coordinator_that_is_gone(self, tmp_path: Path) -> None:
        with MemoryBroker() as broker:
            coordinator = Coordinator(write_federation(tmp_path, broker.url))
            coordinator.wait_for("coordinator_started")
            coordinator.stop()
            with (
                outsider(broker.url, "tastes", tmp_path / "x") as membership,
                pytest.raises(UnknownFederation, match="offline"),
            ):
                membership.run(answer=0.2)

    def test_no_broker(self, tmp_path: Path) -> None:
        with (
            outsider(f"mqtt://127.0.0.1:{free_port()}", "tastes", tmp_path / "x") as membership,
            pytest.raises(BrokerUnreachable),
        ):
            membership.run(answer=0.5)

    def test_an_update_of_wrong_shapes_is_refused_and_the_round_goes_on(self, tmp_path: Path) -> None:
        with MemoryBroker() as broker:
            coordinator = Coordinator(write_federation(tmp_path, broker.url, rounds=2))
            others = devices(broker.url, tmp_path, range(1, 6))

            def wrong(plan: RoundPlan) -> Any:
                trained = train("apples", 0, plan)
                if plan.round == 1:
                    layers = {f"unet.other{i}": f for i, f in enumerate(trained.adapter.layers.values())}
                    return TrainedUpdate(type(trained.adapter)(layers), trained.stats)
                return trained

            told: list[dict[str, Any]] = []
            with Membership(
                broker.url, "tastes", "device-0", profile("apples", 0), tmp_path / "device-0", wrong, told.append
            ) as membership:
                assert membership.run().updates == 1
            for device in others:
                assert device.join().error is None
            coordinator.join()
            assert [event["code"] for event in coordinator.named("refused")] == ["AdapterMismatch"]
            assert [event["updates"] for event in coordinator.named("round_closed")] == [5, 6]
            assert "update_refused" in [event["event"] for event in told]


def test_two_coordinators_of_one_store_do_not_fight(tmp_path: Path) -> None:
    """The later one takes over, the earlier one sees its epoch and ends."""
    with MemoryBroker() as broker:
        path = write_federation(tmp_path, broker.url)
        first = Coordinator(path)
        first.wait_for("coordinator_started")
        second = Coordinator(path)
        second.wait_for("coordinator_started")
        first.join(Superseded)
        (started,) = second.named("coordinator_started")
        assert [event["epoch"] for event in first.named("coordinator_superseded")] == [started["epoch"]]
        second.stop()


def test_the_command_line_serves_a_federation(embedded: str, tmp_path: Path) -> None:
    """As the demo starts it: a process of its own that writes events and ends when everybody is served."""
    path = write_federation(tmp_path, embedded, rounds=2)
    events = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "coordinator.cli"]
    process = subprocess.Popen(
        [*command, "serve", str(path), "--once", "--events", str(events)], stdout=subprocess.PIPE, text=True
    )
    members = [device.join() for device in devices(embedded, tmp_path)]
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(device.error is None for device in members)
    assert "round 2 closed" in output
    names = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    assert names[0] == "coordinator_started"
    assert names[-1] == "coordinator_stopped"
    assert names.count("update_counted") == 12
    status = subprocess.run([*command, "status", str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert "finished, 2 rounds closed, 2 clusters" in status.stdout


def test_the_command_line_stops_on_a_signal(embedded: str, tmp_path: Path) -> None:
    path = write_federation(tmp_path, embedded)
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator.cli", "serve", str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "coordinating" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "stopped" in output
