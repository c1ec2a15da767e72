"""Devices and a coordinator come to the end of their rounds over lines that do whatever lines do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.transport import Settings
from tests.faults.proxy import KINDS, Fault, Kind, Proxy, schedule
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device
from tests.transport.brokers import Mosquitto

DEVICES, ROUNDS = 2, 2


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:  # one each: devices trust the first key that they meet, also a retained one
        yield broker


def over(proxy: Proxy) -> Settings:
    """Lines that swallow everything are found out by their silence: the shorter, the quicker is this test."""
    return Settings(url=proxy.url, client_id="", keepalive=1, reconnect_delay=(1, 1))


def run(broker: Mosquitto, folder: Path, faults: dict[str, list[Fault]]) -> list[Proxy]:
    """A whole federation, each party over a proxy of its own; every update counts once, nobody trains twice."""
    path = write_federation(
        folder, broker.url, rounds=ROUNDS, more='[clustering]\nmethod = "single"\n', devices=DEVICES
    )
    with contextlib.ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(broker.port, faults[name])) for name in faults}
        coordinator = Coordinator(path, settings=over(proxies["coordinator"]))
        members = [
            Device(number, over(proxies[f"device-{number}"]), folder / f"device-{number}").start()
            for number in range(DEVICES)
        ]
        for device in members:
            assert device.join().error is None
            assert device.trained == [1, 2]
            assert device.result is not None
            assert device.result.finished
        coordinator.join()
    counted = [(event["round"], event["device"]) for event in coordinator.named("update_counted")]
    assert sorted(counted) == [(number, f"device-{d}") for number in (1, 2) for d in range(DEVICES)]
    return list(proxies.values())


@pytest.mark.parametrize("kind", KINDS)
def test_rounds_go_on_after(kind: Kind, broker: Mosquitto, tmp_path: Path) -> None:
    """The fault hits each party and direction once, while adapters are on their way."""
    faults = {
        "coordinator": [Fault(kind, "down", after=5000), Fault(kind, "up", after=5000)],
        "device-0": [Fault(kind, "up", after=3000)],
        "device-1": [Fault(kind, "down", after=3000)],
    }
    proxies = run(broker, tmp_path, faults)
    assert all(proxy.struck[kind] for proxy in proxies)


def test_rounds_go_on_after_one_fault_after_another(broker: Mosquitto, tmp_path: Path) -> None:
    kinds: list[Kind] = ["cut", "reset", "blackhole", "duplicate"]
    names = ("coordinator", *(f"device-{number}" for number in range(DEVICES)))
    faults = {name: schedule(seed, 3, kinds, largest=2500) for seed, name in enumerate(names)}
    proxies = run(broker, tmp_path, faults)
    assert sum(proxy.struck.total() for proxy in proxies) > len(names)
