"""Transfers that go on where they stood."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge_sdk.membership.line.connection import Link
from edge_sdk.wire.transfer import decode_chunk, make_manifest
from tests.integration.coordinators import write_federation
from tests.integration.devices import Device
from tests.transport.brokers import Mosquitto

CHUNK = 1024


def test_a_coordinator_killed_in_the_middle_of_an_upload_pulls_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device sends the first of two chunks; with that one on its disk, the coordinator is killed."""
    sent: list[int] = []
    killed = threading.Event()
    publish = Link._publish

    def watched(self: Link, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        if topic.endswith("/up/chunk"):
            assert not sent or killed.wait(60)
            sent.append(decode_chunk(payload).index)
        return publish(self, topic, payload, retain=retain)

    monkeypatch.setattr(Link, "_publish", watched)
    monkeypatch.setattr("edge_sdk.membership.runner.make_manifest", partial(make_manifest, chunk_size=CHUNK))
    with Mosquitto(tmp_path) as broker:
        path = write_federation(tmp_path, broker.url, rounds=1, devices=1)
        command = [sys.executable, "-m", "coordinator.cli", "serve", str(path), "--once"]
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        device = Device(0, broker.url, tmp_path / "home").start()
        spool = tmp_path / "tastes.coordinator" / "spool"
        wait_until(lambda: any(map(has_chunks, spool.glob("*"))))
        first.kill()
        first.wait(10)
        killed.set()
        second = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert device.join().error is None
    assert device.trained == [1]
    assert "with 1 updates" in second.stdout
    assert sent.count(0) == 1
    assert 1 in sent
    assert list(spool.iterdir()) == []


def has_chunks(path: Path) -> bool:
    """True if the bits behind the content say so; the first of its two chunks comes first."""
    return path.read_bytes()[-1] == 1


def wait_until(so: Callable[[], bool]) -> None:
    pause, until = threading.Event(), time.monotonic() + 60
    while not so():
        assert time.monotonic() < until
        pause.wait(0.02)
