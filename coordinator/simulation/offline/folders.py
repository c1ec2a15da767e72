"""A folder of devices, with one sub-folder each.

    devices/
      anna/            pictures with captions, in one of the layouts of `edge_sdk.pictures`
        device.toml    optional; `max_rank = 4` if this device trains smaller ranks than the federation's
      ben/
        ...

Hidden folders, and files beside the sub-folders, are ignored. No picture is decoded here, and nothing is written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_sdk.errors import ConfigurationError, NoPictures, PictureError
from edge_sdk.pictures import JSON_LINES, TABLE, has_picture_suffix, list_pictures
from edge_sdk.wire import Rank

SETTINGS = "device.toml"


@dataclass(frozen=True)
class Folder:
    """The folder of one device.

    Attributes:
        name: name of the sub-folder.
        path: path of the sub-folder.
        learnt: indices of the pictures that it learns from, as `list_pictures` counts them.
        held_out: indices of the pictures that it is evaluated on.
        max_rank: largest rank that it trains.
    """

    name: str
    path: Path
    learnt: tuple[int, ...]
    held_out: tuple[int, ...]
    max_rank: int


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_rank: Rank | None = None


def read_folders(devices: Path, *, rank: int, held_out: float, seed: int) -> list[Folder]:
    """Return the devices, sorted by name.

    Args:
        devices: the folder.
        rank: rank of the federation.
        held_out: share of each device's pictures to hold out for evaluation, at least one picture; 0 holds out none.
        seed: chooses these pictures, together with the device's name.

    Warns:
        PictureLeftOut: files that look like pictures are not used.

    Raises:
        NoPictures: the folder is missing or has no device, or a device has no pictures.
        PictureError: a picture has no caption, or a device has one picture when some are to be held out.
        ConfigurationError: a device.toml is invalid.
    """
    if not devices.is_dir():
        raise NoPictures(f"{devices} is not a folder. Give the folder that has one sub-folder for each device.")
    paths = sorted(path for path in devices.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not paths:
        own = (path.name in (JSON_LINES, TABLE) or has_picture_suffix(path) for path in devices.iterdir())
        hint = f": the pictures in it are one device's, so move them into {devices / 'device-1'}" if any(own) else ""
        raise NoPictures(f"{devices} has no device in it. Give the folder that has one sub-folder for each{hint}.")
    return [_read(path, rank, held_out, seed) for path in paths]


def _read(path: Path, rank: int, share: float, seed: int) -> Folder:
    count = len(list_pictures(path))
    if share and count < 2:
        raise PictureError(
            f"{path} has one picture, so that none can be held out: add another one, or judge devices on the pictures "
            "that they learn from with --held-out 0."
        )
    learnt, held_out = _split(count, share, f"{seed}/{path.name}")
    return Folder(path.name, path, learnt, held_out, _settings(path / SETTINGS).max_rank or rank)


def _split(count: int, share: float, key: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices to learn from, at least one, and those to hold out; independent of other devices."""
    kept = min(max(1, round(share * count)), count - 1) if share else 0
    entropy = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    order = np.random.default_rng(entropy).permutation(count).tolist()
    return tuple(sorted(order[kept:])), tuple(sorted(order[:kept]))


def _settings(file: Path) -> _Settings:
    if not file.is_file():
        return _Settings()
    try:
        return msgspec.toml.decode(file.read_bytes(), type=_Settings)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{file}: {error}. It may hold one line, such as: max_rank = 4") from error
