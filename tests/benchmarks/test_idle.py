"""Bars of benchmarks.idle, and the devices that it plays."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from benchmarks.idle import bars, processor_seconds
from benchmarks.network.idle_devices import Player
from benchmarks.network.world import Coordinator, Place

ROWS = [
    {"devices": 1, "says": "hello", "core": 0.001},
    {"devices": 10_000, "says": "hello", "core": 0.03},
    {"devices": 1000, "says": "join", "core": 0.9},
]


def test_the_bar_is_that_of_most_devices_that_say_hello() -> None:
    (bar,) = bars(ROWS)
    assert (bar.name, bar.value, bar.holds) == ("10,000 idle devices: share of a core", 0.03, False)
    assert bars([ROWS[0], {**ROWS[1], "core": 0.01}])[0].holds


def test_processor_time_is_that_of_a_process() -> None:
    before = processor_seconds(os.getpid())
    began = time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert processor_seconds(os.getpid()) > before


@pytest.mark.parametrize("says", ["hello", "join"])
def test_devices_that_are_played_join_and_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    monkeypatch.setattr("benchmarks.network.idle_devices.LONGEST", 0.1)
    monkeypatch.setattr("benchmarks.network.idle_devices._REPEAT", 1.0)
    monkeypatch.setattr("edge_sdk.membership.rounds.machine.intervals.LONGEST", 0.1)
    with Place(tmp_path / "place") as place, Coordinator(place.folder, place.broker.url, "idle", 4, rounds=1):
        player = Player(place.broker.url, "idle", 3, says, 0)
        player.join()
        ended = threading.Event()
        thread = threading.Thread(target=player.be_idle, args=(ended,))
        thread.start()
        until = time.monotonic() + 60.0
        while player.counts["answered"] < 6:
            assert time.monotonic() < until
            time.sleep(0.01)
        ended.set()
        thread.join()
        player.close()
    assert player.counts["said"] >= 6
