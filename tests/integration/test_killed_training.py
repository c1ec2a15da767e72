"""kill -9 of an app while it trains: the next one goes on from the checkpoint, and ends where the first would have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.config import parse
from coordinator.server.service import Service
from edge_sdk import Device
from edge_sdk.adapter import to_bytes
from edge_sdk.transport.embedded import EmbeddedBroker
from tests.models import tiny_bundle, tiny_model
from tests.training.samples import write_squares

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

FEDERATION = """
name = "squares"
broker = "{broker}"
bundle = "{bundle}"
min_devices = 1
rounds = 1
root_rounds = 1
quorum = 1.0
deadline = 600.0
grace = 600.0
rank = 4
steps = 5
"""
# An app that kills itself after the third step.
APP = """
import os, signal, sys
from edge_sdk import Device
from edge_sdk.training import Trainer

bundle, model, pictures, home, broker = sys.argv[1:]
Trainer.train.__kwdefaults__["checkpoint_seconds"] = 0.0  # at every step, not every 20 s

def on_step(progress):
    if progress.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

device = Device(bundle, model=model, pictures=pictures, home=home, threads=1)
if broker:
    with device.join(broker, federation="squares", on_step=on_step) as membership:
        membership.run(deadline=240.0)
else:
    device.learn(steps=5, rank=4, on_step=on_step)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("pictures"), 8)


def device_at(home: Path, pictures: Path) -> Device:
    return Device(tiny_bundle(), model=tiny_model(), pictures=pictures, home=home, threads=1)


def kill_while_it_trains(device: Device, broker: str = "") -> None:
    places = map(str, (device.bundle, device.model, device.pictures, device.home, broker))
    done = subprocess.run([sys.executable, "-c", APP, *places], capture_output=True, text=True, timeout=240)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(device.adapters) == []
    assert len(list(device.home.glob("*.checkpoint"))) == 1


def take_part(device: Device, broker: str) -> list[int]:
    """The steps that it trained."""
    steps: list[int] = []
    with device.join(broker, federation="squares", on_step=lambda progress: steps.append(progress.step)) as membership:
        result = membership.run(deadline=240.0)
    assert (result.finished, result.updates) == (True, 1)
    return steps


@contextmanager
def coordinated(folder: Path) -> Iterator[str]:
    """The broker of a federation of one round."""
    with EmbeddedBroker() as broker:
        service = Service(parse(FEDERATION.format(broker=broker.url, bundle=tiny_bundle()), folder=folder))
        serving = threading.Thread(target=service.run, kwargs={"once": True}, daemon=True)
        serving.start()
        try:
            yield broker.url
        finally:
            service.stop()
            serving.join(60)


def test_learning_goes_on(pictures: Path, tmp_path: Path) -> None:
    killed, whole = device_at(tmp_path / "killed", pictures), device_at(tmp_path / "whole", pictures)
    kill_while_it_trains(killed)
    steps: list[int] = []
    resumed = killed.learn(steps=5, rank=4, on_step=lambda progress: steps.append(progress.step))
    assert steps == [4, 5]
    assert to_bytes(resumed.adapter) == to_bytes(whole.learn(steps=5, rank=4).adapter)
    assert not list(killed.home.glob("*.checkpoint"))


def test_a_round_goes_on(pictures: Path, tmp_path: Path) -> None:
    """The federation gets the same update as from a device that was not killed."""
    killed, whole = device_at(tmp_path / "killed", pictures), device_at(tmp_path / "whole", pictures)
    with coordinated(tmp_path / "first") as broker:
        kill_while_it_trains(killed, broker)
        assert take_part(killed, broker) == [4, 5]
    with coordinated(tmp_path / "second") as broker:
        assert take_part(whole, broker) == [1, 2, 3, 4, 5]
    assert to_bytes(killed.adapter("root")) == to_bytes(whole.adapter("root"))
    assert not list(killed.home.glob("*.checkpoint"))
