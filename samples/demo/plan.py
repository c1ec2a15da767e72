"""Devices of the demo: their hidden taste groups and their pictures.

Every device has one style, that of its hidden group, and 8 to 12 pictures of two or three subject groups. The
coordinator is not told the group; a device's folder looks like an owner's (pictures and a metadata.jsonl).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from samples.stickers import data
from samples.stickers.data import Sticker
from samples.stickers.styles import STYLES

GROUP_STYLES = tuple(style.name for style in STYLES.values() if not style.base)
PICTURES = (8, 12)
HELD_OUT = 16


@dataclass(frozen=True)
class DevicePlan:
    """One device: its hidden group is its style; `pictures` to learn from, `held_out` of subjects nobody learns."""

    id: str
    group: str
    subject_groups: tuple[str, ...]
    pictures: tuple[Sticker, ...]
    held_out: tuple[Sticker, ...]


def make_plan(devices: int, seed: int) -> list[DevicePlan]:
    """Deal pictures to devices, whose groups go round robin."""
    return deal([GROUP_STYLES[index % len(GROUP_STYLES)] for index in range(devices)], seed)


def deal(
    groups: Sequence[str], seed: int, pictures: tuple[int, int] = PICTURES, held_out: int = HELD_OUT
) -> list[DevicePlan]:
    """Deal pictures to one device for each of these groups; its number of pictures, in this range, and its subject
    groups are random."""
    rng = np.random.default_rng(seed)
    stickers = data.read(keep=lambda sticker: sticker.style in GROUP_STYLES)
    subject_groups = sorted({sticker.group for sticker in stickers})
    plans = []
    for index, style in enumerate(groups):
        chosen = tuple(sorted(rng.choice(subject_groups, size=int(rng.integers(2, 4)), replace=False).tolist()))
        mine = [s for s in stickers if s.style == style and s.group in chosen]
        own = [s for s in mine if s.split == "train"]
        others = [s for s in mine if s.split == "held-out"]
        count = int(rng.integers(pictures[0], pictures[1] + 1))
        plans.append(
            DevicePlan(
                id=f"device-{index:02d}",
                group=style,
                subject_groups=chosen,
                pictures=tuple(own[i] for i in rng.choice(len(own), size=count, replace=False)),
                held_out=tuple(others[i] for i in rng.permutation(len(others))[:held_out]),
            )
        )
    return plans


def write_folder(stickers: tuple[Sticker, ...], folder: Path) -> None:
    """Write pictures and metadata.jsonl as Hugging Face's imagefolder has them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for sticker, pixels in zip(stickers, data.pictures(list(stickers)), strict=True):
        name = sticker.subject.replace(" ", "-").replace("/", "-") + ".png"
        Image.fromarray(pixels).save(folder / name)
        row = {"file_name": name, "text": sticker.text, "style": sticker.style, "subgroup": sticker.subgroup}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), "utf-8")
