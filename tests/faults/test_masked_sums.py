"""Updates are summed under masks over lines that do whatever lines do: every round has the sum of all devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sdk.membership import runner
from edge_sdk.transport import Settings
from tests.faults.proxy import KINDS, Fault, Kind, Proxy
from tests.integration.coordinators import Coordinator
from tests.integration.devices import Device
from tests.integration.masked import Plain, brought, check_same, initial, write_masked
from tests.transport.brokers import Mosquitto

DEVICES = 3


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as started:
        yield started


def over(proxy: Proxy) -> Settings:
    return Settings(url=proxy.url, client_id="", keepalive=1, reconnect_delay=(1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_goes_on_after(kind: Kind, broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault hits the coordinator both ways and two of three devices once, among the messages of the sum."""
    faults = {
        "coordinator": [Fault(kind, "down", after=5000), Fault(kind, "up", after=5000)],
        "device-0": [Fault(kind, "up", after=3000)],
        "device-1": [Fault(kind, "down", after=3000)],
        "device-2": [],
    }
    plain = Plain()
    monkeypatch.setattr(runner, "vector_of", plain.note)
    path = write_masked(tmp_path, broker.url, devices=DEVICES, patience=20.0)
    with contextlib.ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(broker.port, faults[name])) for name in faults}
        coordinator = Coordinator(path, settings=over(proxies["coordinator"]))
        members = [
            Device(number, over(proxies[f"device-{number}"]), tmp_path / f"device-{number}").start()
            for number in range(DEVICES)
        ]
        for device in members:
            device.join()
        coordinator.join()
    for device in members:
        check_same(brought(device), plain.mean(initial(0), [other.name for other in members]))
        assert device.trained == [1]
    assert sum(proxy.struck[kind] for proxy in proxies.values()) >= 2
