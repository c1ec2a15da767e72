"""`impasto-coordinator simulate`: a federation file carried out offline, in one process, on a folder of devices.

folders.py    which devices there are, and which of their pictures are held out
devices.py    a device: real training, its prompt code, its loss
run.py        the real rounds over all of them
results.py    what came of it, as JSON and as adapter files
console.py    what a person sees

Training needs torch, which a coordinator does without: everything here is imported by that command only.
"""

from __future__ import annotations

from coordinator.simulation.offline.console import Screen, print_result
from coordinator.simulation.offline.folders import read_folders
from coordinator.simulation.offline.results import check_places, write_adapters, write_json
from coordinator.simulation.offline.run import Run

__all__ = ["Run", "Screen", "check_places", "print_result", "read_folders", "write_adapters", "write_json"]
