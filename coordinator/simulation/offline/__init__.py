"""`impasto-coordinator simulate`: the rounds of a federation file, offline, in one process, on a folder of devices.

folders.py    the devices, and their pictures that are held out
devices.py    a device: real training, its prompt code, its loss
run.py        the real rounds over all devices
results.py    the results, as JSON and as adapter files
console.py    output on the terminal

Training needs torch, which a coordinator does not: only that command imports this package.
"""

from __future__ import annotations

from coordinator.simulation.offline.console import Screen, print_result
from coordinator.simulation.offline.folders import read_folders
from coordinator.simulation.offline.results import check_places, write_adapters, write_json
from coordinator.simulation.offline.run import Run

__all__ = ["Run", "Screen", "check_places", "print_result", "read_folders", "write_adapters", "write_json"]
