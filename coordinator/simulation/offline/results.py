"""What came of an offline run, as JSON and as adapter files."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from coordinator.simulation import Outcome
from edge_sdk import durable
from edge_sdk.adapter import save
from edge_sdk.errors import ConfigurationError


class DeviceResult(msgspec.Struct, frozen=True, kw_only=True):
    """One device. pictures, held_out: how many it learnt from, and was judged on (0: on those that it learnt from);
    losses: mean denoising losses of the base model alone, and with what the federation gave it."""

    cluster: int
    pictures: int
    held_out: int
    max_rank: int
    loss_before: float
    loss_after: float
    bytes_up: int
    bytes_down: int


class RoundResult(msgspec.Struct, frozen=True, kw_only=True):
    """One round. first_loss, last_loss: training losses of its first and its last steps, medians over the devices;
    bytes: of all devices since the beginning; retained_energy: by cluster in a cluster round; refused: device -> why it
    did not count; assignment: device -> cluster, where the devices were clustered before it; filter: whom it believed,
    if there is one."""

    round: int
    stage: str
    updates: int
    first_loss: float
    last_loss: float
    bytes_up: int
    bytes_down: int
    retained_energy: float | dict[str, float | None] | None
    aggregation_seconds: float
    refused: dict[str, str]
    assignment: dict[str, int] | None
    filter: dict[str, Any] | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. federation: the file's settings that it went by."""

    federation: dict[str, Any]
    base_id: str
    devices: dict[str, DeviceResult]
    rounds: list[RoundResult]


def check_places(out: Path | None, json: Path | None) -> None:
    """Find out before the work whether its results can be written; makes nothing.

    Raises:
        ConfigurationError: they cannot, or would mix with what is there.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigurationError(f"{out} is there already: name a new folder for the adapters, or an empty one.")
        above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        try:
            durable.check(above / "root.safetensors")
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write into {above} ({error.strerror}): name another folder for the adapters than {out}."
            ) from error
    if json is not None:
        try:
            if not json.absolute().parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "there is no such folder")
            durable.check(json)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write {json} ({error.strerror}): name a file in a folder that is there."
            ) from error


def write_json(result: Result, file: Path) -> None:
    """The whole result; the file appears whole or not at all."""
    durable.write(file, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def write_adapters(outcomes: Mapping[str, Outcome], out: Path, *, home_factor: bool) -> list[Path]:
    """What was learnt, in the layout of a device's home: root.safetensors and clusters/<n>.safetensors.

    home_factor: what a device keeps to itself makes every device's adapter another one, which then lies in
    devices/<name>/cluster.safetensors; there is none for the cluster.
    """
    adapters = {}
    for name, outcome in sorted(outcomes.items()):
        for role, adapter in outcome.adapters.items():
            if role == "root":
                adapters[out / "root.safetensors"] = adapter
            elif role == "cluster" and home_factor:
                adapters[out / "devices" / name / "cluster.safetensors"] = adapter
            elif role != "cluster" and not home_factor:
                adapters[out / "clusters" / f"{role.removeprefix('cluster-')}.safetensors"] = adapter
    for file, adapter in adapters.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        save(adapter, file)
    return list(adapters)
