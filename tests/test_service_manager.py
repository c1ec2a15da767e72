"""Words to systemd, heard on real sockets; and by whom they are said: by the loop that works, and by nobody else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator import cli
from edge_sdk.errors import MembershipStopped
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.service_manager import ServiceManager
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.transport.memory import MemoryBroker
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device, train
from tests.models import tiny_bundle, tiny_model
from tests.training.samples import write_squares

FEDERATION = """
name = "squares"
broker = "{broker}"
bundle = "{bundle}"
min_devices = 1
rounds = 1
root_rounds = 1
quorum = 1.0
deadline = 120.0
rank = 2
steps = 2
"""


class Manager:
    """The socket of a service manager."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """All that has been said since the last call."""
        said: list[str] = []
        with suppress(BlockingIOError):
            while True:
                said.append(self._socket.recv(4096).decode())
        return said

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """A list that fills with all that is said inside: the kernel keeps ten words only."""
        said: list[str] = []

        def listen() -> None:
            while (word := self._socket.recv(4096)) != b"END":
                said.append(word.decode())

        self._socket.setblocking(True)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield said
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.sendto(b"END", self._address)
            thread.join(60)
            self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


def environment(tmp_path: Path, seconds: float | None = None) -> dict[str, str]:
    watchdog = {} if seconds is None else {"WATCHDOG_USEC": str(int(seconds * 1e6)), "WATCHDOG_PID": str(os.getpid())}
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), **watchdog}


def test_ready_once_then_alive_within_the_interval(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("edge_sdk.service_manager.time.monotonic", lambda: now[0])
    service = ServiceManager(environment(tmp_path, 30.0))
    service.working()
    assert manager.heard() == ["READY=1\nWATCHDOG=1"]
    service.working()
    now[0] += 9.9
    service.working()
    assert manager.heard() == []
    now[0] += 0.2
    service.working()
    assert manager.heard() == ["WATCHDOG=1"]
    service.status("round 1\nof 5 starts\x1b[0m")
    service.stopping()
    assert manager.heard() == ["STATUS=round 1 of 5 starts\\x1b[0m", "STOPPING=1"]


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}],
)
def test_without_a_watchdog_of_ours_only_readiness_is_told(
    tmp_path: Path, manager: Manager, watchdog: dict[str, str]
) -> None:
    service = ServiceManager({**environment(tmp_path), **watchdog})
    for _ in range(3):
        service.working()
    assert manager.heard() == ["READY=1\nWATCHDOG=1"]


@pytest.mark.skipif(not Path("/proc/net/unix").exists(), reason="the abstract name space is Linux's")
def test_a_socket_in_the_abstract_name_space() -> None:
    name = f"impasto-test-{os.getpid()}"
    made = Manager(f"\0{name}")
    try:
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).working()
        assert made.heard() == ["READY=1\nWATCHDOG=1"]
    finally:
        made.close()


@pytest.mark.parametrize("socket_name", ["", "nonsense", "/nowhere/notify", "/dev/null"])
def test_without_a_manager_nothing_happens(socket_name: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": socket_name, "WATCHDOG_USEC": "1000"})
    service.working()
    service.status("working")
    service.stopping()


def test_a_busy_manager_holds_nothing_up_and_hears_later_that_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    service = ServiceManager(environment(tmp_path))
    for number in range(5000):  # far more than its queue takes
        service.status(f"{number}")
    service.working()
    busy = manager.heard()
    assert busy[0] == "STATUS=0"
    assert "READY=1\nWATCHDOG=1" not in busy
    service.working()
    service.working()
    assert manager.heard() == ["READY=1\nWATCHDOG=1"]


def test_the_loops_of_device_and_coordinator_feed_it_and_a_hanging_loop_does_not(tmp_path: Path) -> None:
    threads: dict[str, list[int]] = {"device": [], "coordinator": []}
    during: list[int] = []
    training, goes_on, turned = threading.Event(), threading.Event(), threading.Semaphore(0)

    def work(group: str, number: int, plan: RoundPlan) -> TrainedUpdate:
        during.append(len(threads["device"]))
        training.set()
        if not goes_on.wait(60):
            raise MembershipStopped("The test has ended.")
        during.append(len(threads["device"]))
        return train(group, number, plan)

    def of_coordinator() -> None:
        threads["coordinator"].append(threading.get_ident())
        turned.release()

    def of_device() -> None:
        threads["device"].append(threading.get_ident())

    with MemoryBroker() as broker:
        path = write_federation(tmp_path, broker.url, rounds=1, devices=1)
        coordinator = Coordinator(path, on_turn=of_coordinator)
        device = Device(0, broker.url, tmp_path / "home", learns=work, on_turn=of_device).start()
        assert training.wait(60)
        for _ in range(len(threads["coordinator"]) + 3):  # three turns at least while the device trains
            assert turned.acquire(timeout=60)
        goes_on.set()
        device.join()
        coordinator.join()
    assert device.error is None
    # The device's loop was in the training all the while, and told nothing.
    assert during[0] == during[1] > 0
    assert len(threads["device"]) > during[1]
    assert {name: len(set(found)) for name, found in threads.items()} == {"device": 1, "coordinator": 1}
    assert threading.get_ident() not in threads["device"] + threads["coordinator"]


def test_both_commands_tell_it_what_they_do(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer((other := Manager(str(tmp_path / "coordinator"))).close)
    pictures, file = write_squares(tmp_path / "pictures", 8), tmp_path / "squares.toml"
    join = [
        "join",
        "-f",
        "squares",
        "-b",
        tiny_bundle(),
        "-m",
        tiny_model(),
        "-p",
        pictures,
        "--home",
        tmp_path / "home",
    ]
    with manager.listening() as heard, EmbeddedBroker() as broker:
        file.write_text(FEDERATION.format(broker=broker.url, bundle=tiny_bundle()), "utf-8")
        command = [sys.executable, "-c", "import edge_sdk.cli; edge_sdk.cli.main()", *map(str, join)]
        device = subprocess.Popen(
            [*command, "--broker", broker.url, "--threads", "1"],
            env={**os.environ, **environment(tmp_path, 3600.0), "WATCHDOG_PID": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "coordinator"))
            served = CliRunner().invoke(cli.app, ["serve", str(file), "--once"])
            said, _ = device.communicate(timeout=120)
        finally:
            device.kill()
            device.wait()
    assert served.exit_code == 0, served.output
    assert device.returncode == 0, said
    assert heard.count("READY=1\nWATCHDOG=1") == 1
    assert heard.index("STATUS=joined; 1 rounds") > heard.index("READY=1\nWATCHDOG=1")
    assert any(text.startswith("STATUS=round 1 of 1 starts") for text in heard)
    assert heard[-1] == "STOPPING=1"
    assert other.heard() == ["READY=1\nWATCHDOG=1", "STOPPING=1"]
