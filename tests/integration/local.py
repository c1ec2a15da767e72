"""Federations of level "local": their file, and the groups that plain k-means by sums finds among their devices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from coordinator.methods.clustering.by_sums import Groups, State, begin, step
from coordinator.methods.clustering.by_sums.machine import Plan
from edge_sdk.privacy import answer
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.integration.devices import BASIS, Device, coarse_code

LOCAL = """
name = "tastes"
broker = "{broker}"
slots = "impasto.json"
privacy = "local"
min_devices = {devices}
rounds = {rounds}
root_rounds = {root_rounds}
deadline = 60.0
grace = {grace}
rank = 4

[aggregation]
masked = true
largest_change = 8.0
patience = {patience}
method = "{method}"
{masks}
[interaction]
method = "none"
"""


def write_local(
    folder: Path,
    broker: str,
    rounds: int = 1,
    devices: int = 8,
    patience: float = 30.0,
    grace: float = 20.0,
    root_rounds: int = 0,
    method: str = "fedit",
    masks: str = "",
    more: str = "",
) -> Path:
    slots = [{"name": name, "in_features": i, "out_features": o} for name, (i, o, _) in SLOTS.items()]
    described = {"base_id": BASE_ID, "slots": slots, "prompt_basis": {"id": BASIS.hex()}}
    (folder / "impasto.json").write_text(json.dumps(described))
    path = folder / "tastes.toml"
    text = LOCAL.format(
        broker=broker, rounds=rounds, devices=devices, patience=patience, grace=grace, root_rounds=root_rounds,
        method=method, masks=masks,
    )  # fmt: skip
    path.write_text(text + more)
    return path


def choosing(url: str, folder: Path, count: int) -> list[Device]:
    """Devices that choose their clusters alone, started."""
    return [Device(number, url, folder / f"device-{number}", local=True).start() for number in range(count)]


def plain_groups(codes: Sequence[bytes], epoch: int, clustering: int = 1) -> Groups:
    """The groups that k-means by plain sums of these devices' answers finds."""
    seed = hashlib.sha256(msgspec.msgpack.encode(["tastes", 0, epoch, clustering])).digest()
    found: State | Groups = begin(Plan(epoch=epoch, clustering=clustering, seed=seed))
    while isinstance(found, State):
        question = found.question
        answers = [answer(question, code) for code in codes]
        found = step(found, len(codes), np.sum(answers, axis=0, dtype=np.uint32))
    return found


def code_of(device: Device) -> bytes:
    return coarse_code(device.group, device.number)
