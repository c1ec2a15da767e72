"""Federations under masks: their file, the devices' plain vectors, and the mean that comes of these."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np

from edge_sdk.adapter import Adapter, Share, beginning, load
from edge_sdk.secure_aggregation import decoded, from_bytes, layout_of, mean_of, sizes_of, vector_of
from edge_sdk.wire import Masking, TrainingStats
from tests.coordinator.adapters import SLOTS
from tests.integration.coordinators import write_federation
from tests.integration.devices import Device

MASKED = """
[aggregation]
method = "{method}"
masked = true
largest_change = 8.0
patience = {patience}

[clustering]
method = "{clustering}"
"""


def write_masked(
    folder: Path,
    url: str,
    rounds: int = 1,
    devices: int = 6,
    clustering: str = "single",
    patience: float = 30.0,
    grace: float = 20.0,
    method: str = "fedit",
) -> Path:
    more = MASKED.format(clustering=clustering, patience=patience, method=method)
    more += "min_cluster = 3\n" if clustering == "prompt" else ""
    path = write_federation(folder, url, rounds, more, devices)
    path.write_text(path.read_text().replace("grace = 20.0", f"grace = {grace}"))
    return path


class Plain:
    """The devices' plain vectors and updates, as they leave the training. It may stop a device there."""

    def __init__(self) -> None:
        self.vectors: dict[tuple[str, bytes], bytes] = {}  # by device and start: the last one
        self.updates: dict[tuple[str, bytes], tuple[Adapter, TrainingStats]] = {}
        self.maskings: list[tuple[Masking, Share]] = []
        self.dying: set[str] = set()  # devices that die when all others have said whom they mask for

    def note(
        self, update: Adapter, start: Adapter, stats: TrainingStats, masking: Masking, share: Share, *slots: int
    ) -> bytes:
        name, made = threading.current_thread().name, vector_of(update, start, stats, masking, share, *slots)
        if name in self.dying:
            self.dying.discard(name)
            raise PowerCutError
        self.vectors[name, key_of(start)] = made
        self.updates[name, key_of(start)] = update, stats
        self.maskings.append((masking, share))
        return made

    def mean(self, start: Adapter, names: Collection[str], share: Share = Share.BOTH) -> Adapter:
        """The mean that the plain integer sum of these devices' vectors gives."""
        vectors = [from_bytes(self.vectors[name, key_of(start)]) for name in names]
        total = np.sum(vectors, axis=0, dtype=np.uint32)
        return mean_of(start, [decoded(layout_of(sizes_of(start), self.maskings[0][0], share), total, len(vectors))])


class PowerCutError(Exception):
    """A device dies."""


def key_of(adapter: Adapter) -> bytes:
    return b"".join(factors.a.tobytes() + factors.b.tobytes() for _, factors in sorted(adapter.layers.items()))


def members_of(url: str, folder: Path, count: int) -> list[Device]:
    return [Device(number, url, folder / f"device-{number}").start() for number in range(count)]


def initial(seed: int) -> Adapter:
    return beginning(None, SLOTS, 4, seed)


def brought(device: Device, name: str = "root") -> Adapter:
    assert device.error is None
    assert device.result is not None
    return load(device.result.adapters[name])


def check_same(found: Adapter, wanted: Adapter) -> None:
    """Bit for bit, in float32 as adapters are stored."""
    assert found.layers.keys() == wanted.layers.keys()
    for name, factors in wanted.layers.items():
        np.testing.assert_array_equal(found.layers[name].a, factors.a.astype(np.float32))
        np.testing.assert_array_equal(found.layers[name].b, factors.b.astype(np.float32))
