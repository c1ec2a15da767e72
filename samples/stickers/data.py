"""Read the stickers archive: pictures as arrays, rows as records."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

ARCHIVE = Path(__file__).parent / "data" / "stickers.zip"


@dataclass(frozen=True)
class Sticker:
    """One row of the archive's metadata.jsonl."""

    file_name: str
    text: str
    style: str
    subject: str
    group: str
    subgroup: str
    tags: tuple[str, ...]
    split: str


def read(archive: Path = ARCHIVE, keep: Callable[[Sticker], bool] = lambda sticker: True) -> list[Sticker]:
    """The rows of the archive for which `keep` is true, in the archive's order."""
    with zipfile.ZipFile(archive) as file:
        lines = file.read("metadata.jsonl").decode("utf-8").splitlines()
    rows = (json.loads(line) for line in lines)
    stickers = (Sticker(**(row | {"tags": tuple(row["tags"])})) for row in rows)
    return [sticker for sticker in stickers if keep(sticker)]


def spread(length: int, count: int) -> list[int]:
    """`count` places spread evenly from the first to the last of `length`; the base model is measured at these."""
    return [int(at) for at in np.linspace(0, length - 1, count).round()]


def images(stickers: list[Sticker], archive: Path = ARCHIVE) -> list[Image.Image]:
    """The pictures of these rows."""
    with zipfile.ZipFile(archive) as file:
        return [Image.open(io.BytesIO(file.read(sticker.file_name))).convert("RGB") for sticker in stickers]


def pictures(stickers: list[Sticker], archive: Path = ARCHIVE) -> npt.NDArray[np.uint8]:
    """The same as an array: (n, 64, 64, 3) uint8."""
    return np.stack([np.asarray(image) for image in images(stickers, archive)])
