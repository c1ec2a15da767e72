"""Results of an offline run, as JSON and as adapter files."""

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
    """Result of one device.

    Attributes:
        cluster: its cluster.
        pictures: number of pictures that it learnt from.
        held_out: number of pictures that it was evaluated on; 0: on those that it learnt from.
        max_rank: largest rank that it trains.
        loss_before, loss_after: mean denoising losses of the base model alone, and with the federation's adapters.
        bytes_up, bytes_down: bytes that it sent and fetched.
    """

    cluster: int
    pictures: int
    held_out: int
    max_rank: int
    loss_before: float
    loss_after: float
    bytes_up: int
    bytes_down: int


class RoundResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one round.

    Attributes:
        round: number of the round.
        stage: "root" or "cluster".
        updates: number of counted updates.
        first_loss, last_loss: training losses of the first and the last steps, medians over the devices.
        bytes_up, bytes_down: bytes of all devices since the beginning.
        retained_energy: share of energy that truncation kept, by cluster in a cluster round.
        aggregation_seconds: duration of the aggregation.
        refused: device -> name of the reason why its update did not count.
        assignment: device -> cluster, if the devices were clustered before the round.
        filter: verdict of the filter, if there is one.
    """

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
    """Result of a whole run.

    Attributes:
        federation: settings of the federation file, without those that only a serving coordinator uses.
        base_id: id of the base model.
        devices: result of each device, by name.
        rounds: result of each round.
    """

    federation: dict[str, Any]
    base_id: str
    devices: dict[str, DeviceResult]
    rounds: list[RoundResult]


def check_places(out: Path | None, json: Path | None) -> None:
    """Check before the work that its results can be written; creates nothing.

    Raises:
        ConfigurationError: a result cannot be written, or would mix with other files.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigurationError(f"{out} is there already: name a new folder for the adapters, or an empty one.")
        existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        try:
            durable.check(existing / "root.safetensors")
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write into {existing} ({error.strerror}): name another folder for the adapters than {out}."
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
    """Write the whole result; the file appears whole or not at all."""
    durable.write(file, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def write_adapters(outcomes: Mapping[str, Outcome], out: Path, *, home_factor: bool) -> list[Path]:
    """Write the adapters in the layout of a device's home: root.safetensors and clusters/<n>.safetensors.

    With `home_factor`, devices keep a factor to themselves, so every device has an adapter of its own. It is written to
    devices/<name>/cluster.safetensors, and there is none for the cluster.
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
