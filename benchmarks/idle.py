"""Idle devices' cost to their coordinator: processor time and bytes, between the rounds.

    python -m benchmarks.idle [--quick] [--seed N] [--json FILE]

One process plays the devices over one connection to a Mosquitto on loopback: each is the device's own machine with a
key of its own, and shows presence. They join a federation that waits for one more; then each says hello as its machine
wants it, at the longest interval, and the coordinator answers. Measured is the coordinator's processor time over a
window in which nothing else happens, and the same of a federation with a single idle device. Before the hello existed,
a device said `join` again every 10 s; the last row says it, of fewer devices.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.network.world import Coordinator, Place
from benchmarks.shared.harness import Bar, Report, Row, arguments, value_of

DEVICES, QUICK_DEVICES = 10_000, 300
WINDOW, QUICK_WINDOW = 120.0, 10.0  # seconds
# Devices that say `join` every 10 s are measured in a smaller number: at 10,000 the coordinator would not keep up.
REPEATING, QUICK_REPEATING = 1000, 100
_BAR = 0.02  # of a core
_JOINING = 900.0
_NAME = "idle"


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    report = Report(chosen, seeds=[chosen.seed])
    devices, repeating = (QUICK_DEVICES, QUICK_REPEATING) if chosen.quick else (DEVICES, REPEATING)
    window = QUICK_WINDOW if chosen.quick else WINDOW
    folder = Path(tempfile.mkdtemp(prefix="impasto-idle-"))
    try:
        for count, says in ((1, "hello"), (devices, "hello"), (repeating, "join")):
            report.rows.append(measured(folder / f"{says}-{count}", count, says, window, chosen.seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.bars += bars(report.rows)
    report.finish()


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bar: the share of a core that the most idle devices cost."""
    most = max((row for row in rows if row["says"] == "hello"), key=lambda row: value_of(row, "devices"))
    return [Bar(f"{most['devices']:,} idle devices: share of a core", value_of(most, "core"), _BAR)]


def measured(folder: Path, devices: int, says: str, window: float, seed: int) -> Row:
    """The cost of so many idle devices that say `hello`, or `join` every 10 s."""
    with Place(folder) as place:
        more = f"max_devices = {devices + 1}\n"
        with Coordinator(place.folder, place.broker.url, _NAME, devices + 1, rounds=1, more=more) as coordinator:
            player = {"url": place.broker.url, "federation": _NAME, "count": devices, "says": says, "seed": seed}
            place.workers.start("benchmarks.network.idle_devices", player)
            place.workers.wait_for("joined", 1, seconds=_JOINING)
            place.workers.say()
            place.workers.wait_for("idle", 1)
            before, began = processor_seconds(coordinator.pid), time.monotonic()
            time.sleep(window)
            spent, seconds = processor_seconds(coordinator.pid) - before, time.monotonic() - began
            place.workers.say()
            (told,) = place.workers.wait_for("ended", 1)
    return {
        "devices": devices,
        "says": says,
        "messages_a_second": told["said"] / seconds,
        "answered": told["answered"] / max(1, told["said"]),
        "bytes_a_device_and_day": (told["up"] + told["down"]) / devices / seconds * 86_400,
        "core": spent / seconds,
    }


def processor_seconds(process: int) -> float:
    """Processor time of a process and all of its threads so far."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
