"""Transfers that go on where they stood: the coordinator is killed in the middle of an upload over a slow line."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge_sdk.membership.link import Link
from edge_sdk.transport import Settings
from edge_sdk.wire.transfer import decode_chunk, make_manifest
from tests.integration.devices import Device
from tests.integration.test_federation import write_federation
from tests.transport.brokers import Mosquitto

CHUNK = 1024


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The chunks that devices send, by index, in pieces of 1 KiB."""
    indices: list[int] = []
    publish = Link._publish

    def watched(self: Link, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if topic.endswith("/up/chunk"):
            indices.append(decode_chunk(payload).index)
        publish(self, topic, payload, retain=retain)

    monkeypatch.setattr(Link, "_publish", watched)
    monkeypatch.setattr("edge_sdk.membership.client.make_manifest", partial(make_manifest, chunk_size=CHUNK))
    return indices


def test_a_coordinator_killed_in_the_middle_of_an_upload_pulls_only_what_is_missing(
    tmp_path: Path, sent: list[int]
) -> None:
    with Mosquitto(tmp_path) as broker:
        path = write_federation(tmp_path, broker.url, rounds=1)
        path.write_text(path.read_text().replace("min_devices = 6", "min_devices = 1"))
        command = [sys.executable, "-m", "coordinator.cli", "serve", str(path), "--once"]
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        slow = Settings(url=broker.url, client_id="", bandwidth=2048.0)
        device = Device(0, slow, tmp_path / "home").start()
        spool = tmp_path / "tastes.coordinator" / "spool"
        wait_until(lambda: sum(file.stat().st_size for file in spool.glob("*")) > 2 * CHUNK)
        first.kill()
        first.wait(10)
        (file,) = spool.iterdir()
        kept = file.stat().st_size // (CHUNK + 36)
        assert device.error is None
        before = list(sent)
        second = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert device.join().error is None
    assert device.trained == [1]
    assert "with 1 updates" in second.stdout
    assert before[:kept] == list(range(kept))
    assert not set(range(kept)) & set(sent[len(before) :])
    assert list(spool.iterdir()) == []


def wait_until(so: Callable[[], bool]) -> None:
    pause, until = threading.Event(), time.monotonic() + 60
    while not so():
        assert time.monotonic() < until
        pause.wait(0.02)
