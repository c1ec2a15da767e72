"""kill -9 of the coordinator, one instruction after the other, and of the broker with all that it knew.

The round goes on, every committed update counts once, and no device trains anything twice.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from coordinator import config
from coordinator.store import Database
from edge_sdk.membership import RoundPlan
from edge_sdk.transport import Settings
from tests.coordinator.adapters import BASE_ID
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device
from tests.transport.brokers import Mosquitto

DEVICES, ROUNDS = 3, 3
DEADLINE = 120.0


def federation(folder: Path, broker: Mosquitto) -> Path:
    more = '[clustering]\nmethod = "single"\n'
    return write_federation(folder, broker.url, rounds=ROUNDS, more=more, devices=DEVICES)


def over(broker: Mosquitto) -> Settings:
    return Settings(url=broker.url, client_id="", reconnect_delay=(1, 1))


def audit(path: Path, members: list[Device]) -> None:
    """From the coordinator's database and from what the devices did."""
    for device in members:
        assert device.error is None
        assert device.trained == list(range(1, ROUNDS + 1)), "started over"
        assert device.result is not None
        assert device.result.finished
    loaded = config.load(path)
    database = Database(loaded.database, loaded.name, BASE_ID)
    rows, state = database.updates(), database.load()
    database.close()
    assert state.phase == "finished"
    names = [f"device-{number}" for number in range(DEVICES)]
    assert [(row["round"], row["device"]) for row in rows] == [
        (n, name) for n in range(1, ROUNDS + 1) for name in names
    ]
    assert len({row["sha256"] for row in rows}) == len(rows)


def test_the_coordinator_is_killed_at_every_point_of_a_round(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        path = federation(tmp_path, broker)
        command = [sys.executable, "-m", "tests.faults.dying_coordinator", str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as lives:
            members = [Device(i, over(broker), tmp_path / f"device-{i}").start() for i in range(DEVICES)]
            for device in members:
                device.join()
            _, reason = lives.communicate(timeout=DEADLINE)
        assert lives.returncode == 0, reason
        audit(path, members)


def test_the_broker_is_killed_and_forgets_everything(tmp_path: Path) -> None:
    """While devices train, and when a part of a round's updates is committed."""
    with Mosquitto(tmp_path) as broker:
        path = federation(tmp_path, broker)
        killed: list[str] = []

        def kill(moment: str) -> None:
            killed.append(moment)
            broker.stop(kill=True)
            broker.start()

        def training(plan: RoundPlan) -> None:
            if plan.round == 1:
                kill("training")

        def note(event: dict[str, Any]) -> None:
            if event["event"] == "update_counted" and event["round"] == 2 and "committed" not in killed:
                kill("committed")

        coordinator = Coordinator(path, settings=over(broker), on_event=note)
        members = [
            Device(i, over(broker), tmp_path / f"device-{i}", *([training] if i == 0 else [])).start()
            for i in range(DEVICES)
        ]
        for device in members:
            device.join()
        coordinator.join()
        assert killed == ["training", "committed"]
        audit(path, members)
